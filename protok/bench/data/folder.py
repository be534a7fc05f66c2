"""A data folder: structures and labels in Parquet, which any lab can write.

| file | columns |
|---|---|
| `*.parquet` with `xyz` | `id`; `seq`; `xyz`: N, CA, C, O flattened, as float32 in Å, NaN missing, or as int16 hundredths of an Å, -32768 missing; optional `resnum`, `icode` (a character a residue, blank for none), `bfac`, `chain`, `file` (chains of one file are a complex, in one frame) |
| `tasks/NAME.parquet` | `id`; `split`; `label`: a string of 0, 1 and x (unlabelled) or a list of numbers, one a residue; or instead `fold` (a class a domain), with optional `superfamily`, `family`, and `start`, `end` (residues counted from 1) or `region` (author numbers, `A:2-129`); optional `cluster`, `system` |
| `*pairs.parquet` | `set`, `id1` and `id2` (or `file1`, `file2`), `tm` |
| `*sets.parquet` | `set`, `id` |

Splits are named train, valid and anything else for tests. `NAME.z` asks for a table of values as
z-scores in each chain.
"""  # noqa: E501

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from protok.bench.data.parquet import read_table, schema_of
from protok.bench.data.regions import in_region
from protok.bench.data.source import TRAIN, VALID, Domain, Entry, Table
from protok.errors import FormatError
from protok.structure.backbone import Backbone, joined

if TYPE_CHECKING:
    import pyarrow as pa

MISSING = -32768
#: A class needs this many domains to be kept; fewer cannot be learnt and tested.
CLASS_SIZE = 10


class Folder:
    """A data folder in the layout of this module.

    Parameters
    ----------
    path
        The folder, or one Parquet file of structures. Files are read when they are asked for.

    Attributes
    ----------
    errors : list of (str, str)
        Files that it was made from but that could not be read, with reasons.
    left_out : dict
        Empty: a folder has what it names, or an error says that it has not.
    about : dict
        What is said of a task by its name (`what`, `labels`, `licence`, `citation`), where its
        file says nothing.

    Raises
    ------
    FormatError
        If there is no Parquet file of structures in it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.errors: list[tuple[str, str]] = []
        self.left_out: dict[str, list[str]] = {}
        self.about: dict[str, dict[str, str]] = {}
        columns: dict[Path, set[str]] = {}
        for file in [self.path] if self.path.is_file() else sorted(self.path.glob("*.parquet")):
            try:
                columns[file] = set(schema_of(file).names)
            except FormatError as error:
                self.errors.append((str(file), error.reason))
        files = list(columns)
        self._files = [file for file in files if {"id", "seq", "xyz"} <= columns[file]]
        self._pairs = [f for f in files if f.stem.endswith("pairs") and "tm" in columns[f]]
        self._sets = [f for f in files if f.stem.endswith("sets") and "set" in columns[f]]
        if not self._files:
            raise FormatError(
                "no Parquet file with the columns id, seq and xyz"
                + "".join(f"; {Path(file).name} is {reason}" for file, reason in self.errors),
                "give a folder that `protok bench prepare` made, the official release, or mini",
                file=str(self.path),
            )
        self._tables = {file.stem: file for file in sorted((self.path / "tasks").glob("*.parquet"))}
        self._read: dict[Path, pa.Table] = {}
        self._known: dict[str, Table] = {}

    @cached_property
    def _where(self) -> dict[str, tuple[Path, int]]:
        where: dict[str, tuple[Path, int]] = {}
        for file in self._files:
            for row, id in enumerate(read_table(file, ["id"])["id"].to_pylist()):
                if id in where:
                    raise FormatError(f"structure {id!r} stands twice", "give ids once", file=str(file))
                where[id] = (file, row)
        return where

    @cached_property
    def _together(self) -> dict[str, list[str]]:
        """Chains of each file that has several."""
        chains: dict[str, list[str]] = {}
        for file in self._files:
            if {"file", "chain"} <= set(schema_of(file).names):
                for row in read_table(file, ["id", "file"]).to_pylist():
                    chains.setdefault(row["file"] or row["id"], []).append(row["id"])
        return {name: of for name, of in chains.items() if len(of) > 1 and name not in self._where}

    def ids(self) -> list[str]:
        """All chains."""
        return list(self._where)

    def complexes(self) -> list[str]:
        """Names of structures of several chains."""
        return list(self._together)

    def structure(self, id: str) -> Backbone:
        """One structure.

        Raises
        ------
        FormatError
            If the folder does not have it, or its columns disagree.
        """
        if id in self._together:
            whole = joined(self.structure(chain) for chain in self._together[id])
            if len(whole.chains) < len(self._together[id]):
                raise FormatError(f"two chains of {id} have one name", "name them apart", file=str(self.path))
            return replace(whole, name=id)
        if id not in self._where:
            raise FormatError(f"no structure {id!r}", "add it, or drop its label", file=str(self.path))
        file, row = self._where[id]
        if file not in self._read:
            columns = ("id", "seq", "xyz", "resnum", "icode", "bfac", "chain")
            names = schema_of(file).names
            self._read[file] = read_table(file, [c for c in columns if c in names])
        table = self._read[file]
        cells = {name: table[name][row] for name in table.column_names}
        sequence = cells["seq"].as_py()
        raw = cells["xyz"].values.to_numpy(zero_copy_only=False)
        if len(raw) != 12 * len(sequence):
            raise FormatError(
                f"{id}: {len(raw)} coordinates for {len(sequence)} residues",
                "xyz holds 12 a residue",
                file=str(file),
            )
        if raw.dtype.kind == "i":
            raw = np.where(raw == MISSING, np.nan, raw.astype(np.int32) / 100)
        xyz = raw.astype(np.float32).reshape(-1, 4, 3)
        index = cells["resnum"].values.to_numpy() if "resnum" in cells else None
        chain = cells["chain"].as_py() if "chain" in cells else "A"
        made = Backbone.from_arrays(xyz, sequence, chain=chain or "A", index=index, name=id)
        if "icode" in cells:
            made.icode[:] = np.char.strip(np.array(list(cells["icode"].as_py())))
        if "bfac" in cells:
            made.bfactor[:] = cells["bfac"].values.to_numpy()
        return made

    def tables(self) -> list[str]:
        """Names of the labelled tasks; a table with a `system` column is one task a system."""
        names: list[str] = []
        for name, file in self._tables.items():
            try:
                if "system" in schema_of(file).names:
                    systems = read_table(file, ["system"])["system"].to_pylist()
                    names += [f"{name}.{system}" for system in sorted(set(systems))]
                    continue
            except FormatError:
                pass  # the task is there, and fails as a row that says so
            names.append(name)
        return names

    def table(self, name: str) -> Table:
        """The labels of a task.

        Raises
        ------
        FormatError
            If a label does not fit its structure, or columns are missing.
        """
        if name not in self._known:
            self._known[name] = self._table(name)
        return self._known[name]

    def _table(self, name: str) -> Table:
        rows, about, file = self._rows(name)
        if not rows or not {"id", "split"} <= rows[0].keys() or not {"label", "fold"} & rows[0].keys():
            raise FormatError(
                "a table needs the columns id, split, and label or fold",
                "see protok.bench.data.folder",
                file=str(file),
            )
        if "label" not in rows[0]:
            return self._classes(name, rows, about, file)
        site = isinstance(rows[0]["label"], str)
        entries = [
            Entry(row["id"], row["split"], _vector(row["label"], site, row["id"], file)) for row in rows
        ]
        return Table(name, "site" if site else "value", entries, about=about)

    def _rows(self, name: str):
        stem, _, system = name.partition(".")
        file = self._tables.get(name) or self._tables.get(stem)
        if file is None:
            raise FormatError(
                f"no table {name!r}",
                f"it has {', '.join(self.tables()) or 'none'}",
                file=str(self.path / "tasks"),
            )
        table = read_table(file)
        metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        own = {key[6:]: value for key, value in metadata.items() if key.startswith("bench:")}
        about = tuple(sorted((self.about.get(name, {}) | own).items()))
        rows = table.drop_columns(["seq"] if "seq" in table.column_names else []).to_pylist()
        if system and file.stem == stem:
            rows = [row for row in rows if row.get("system") == system]
        return rows, about, file

    def _classes(self, name, rows, about, file) -> Table:
        count = Counter(row["fold"] for row in rows)
        trained = {row["fold"] for row in rows if row["split"] == TRAIN}
        kept = sorted(c for c, n in count.items() if c and n >= CLASS_SIZE and c in trained)
        if not kept:
            raise FormatError(
                f"no fold has {CLASS_SIZE} domains, of which one is to train on",
                "add domains; smaller folds are left out",
                file=str(file),
            )
        number = {fold: i for i, fold in enumerate(kept)}
        known = {row.get("superfamily") for row in rows if row["split"] == TRAIN}
        entries = []
        for row in rows:
            if row["fold"] not in number:
                continue
            stretch = self._stretch(row, file)
            entries.append(Entry(row["id"], row["split"], number[row["fold"]], stretch))
            # Domains whose superfamily was never seen: the fold itself must be recognised.
            tested = row["split"] not in (TRAIN, VALID)
            if tested and row.get("superfamily") and row["superfamily"] not in known:
                split = f"{row['split']}_new_superfamily"
                entries.append(Entry(row["id"], split, number[row["fold"]], stretch))
        return Table(name, "class", entries, tuple(kept), about)

    def _stretch(self, row, file) -> np.ndarray | None:
        if row.get("start") is not None:
            length = len(self.structure(row["id"]))
            if not 1 <= row["start"] <= (row.get("end") or 0) <= length:
                raise FormatError(
                    f"{row['id']}: a domain from {row['start']} to {row.get('end')}, of {length}",
                    "count residues of the structure from 1",
                    file=str(file),
                )
            return np.arange(row["start"] - 1, row["end"])
        if not row.get("region"):
            return None
        return in_region(self.structure(row["id"]), row["region"], file)

    def domains(self) -> list[Domain]:
        """Domains with a fold, for retrieval; of the first system where tables overlap."""
        for name in sorted(self.tables(), key=lambda n: ("SCOP2" not in n, n)):
            rows, _, file = self._rows(name)
            if not rows or not {"fold", "superfamily", "family"} <= rows[0].keys():
                continue
            out = []
            for row in rows:
                id, stretch = row["id"], self._stretch(row, file)
                if stretch is None:
                    stretch = np.arange(len(self.structure(id)))
                where = int(stretch[0]), int(stretch[-1]) + 1
                superfamily, family = row["superfamily"] or "", row["family"] or ""
                out.append(Domain(id, where, row["fold"], superfamily, family, row.get("cluster") or id))
            return out
        return []

    def has_pairs(self) -> bool:
        """Whether there are pairs."""
        return bool(self.pairs())

    def pairs(self) -> dict[str, list[tuple[str, str, float]]]:
        """Pairs of conformations by set: two structures and their TM-score."""
        out: dict[str, list[tuple[str, str, float]]] = {}
        for file in self._pairs:
            for row in read_table(file).to_pylist():
                ids = row.get("file1") or row["id1"], row.get("file2") or row["id2"]
                out.setdefault(row["set"], []).append((*ids, float(row["tm"])))
        return out

    def has_sets(self) -> bool:
        """Whether there are sets."""
        return bool(self.sets())

    def sets(self) -> dict[str, list[str]]:
        """Named sets of structures; all of them as `all` where the folder names none."""
        out: dict[str, list[str]] = {}
        for file in self._sets:
            for row in read_table(file).to_pylist():
                out.setdefault(row["set"], []).append(row["id"])
        return out or {"all": self.ids()}


def _vector(label, site: bool, id: str, file) -> np.ndarray:
    if not isinstance(label, str if site else list):
        raise FormatError(
            f"{id}: label is {label!r:.40}", "give all a string of 0, 1 and x, or all a list", file=str(file)
        )
    if not site:
        return np.array([np.nan if number is None else number for number in label], np.float32)
    odd = set(label) - set("01x")
    if odd:
        raise FormatError(
            f"{id}: label holds {sorted(odd)[0]!r}", "use 0, 1, and x for unlabelled", file=str(file)
        )
    value = {"0": 0.0, "1": 1.0, "x": np.nan}
    return np.array([value[letter] for letter in label], np.float32)
