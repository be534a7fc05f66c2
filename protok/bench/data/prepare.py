"""Make a data folder (`protok.bench.data.folder`) from structure files and a CSV of labels.

The columns of a CSV are what `protok bench prepare --help` says (`LABELS` in
`protok.cli.bench`). Without such files the tasks that structures carry themselves are still
made.
"""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from protok.bench.data.parquet import schema_of
from protok.bench.data.regions import in_region
from protok.bench.data.source import standardised, varies
from protok.bench.tasks import UNTAUGHT
from protok.common.files import atomic
from protok.errors import FormatError
from protok.structure.backbone import Backbone
from protok.structure.clustering import assign, cluster

#: Chains shorter than this are left out: no tokenizer says much of them.
SHORTEST = 10
#: In the metadata of what `prepare` wrote, which it may write over.
MADE = {"made by": "protok bench prepare"}
#: Shares of validation and test.
HELD_OUT = 0.1, 0.2
ABOUT_BFACTORS = {
    "what": "flexibility: CA B-factor",
    "licence": "that of the structures",
    "labels": "CA B-factors of the files, as z-scores in each chain: their level says more of the "
    "experiment than of the structure",
}
ABOUT_LIGANDS = {
    "what": "residues that touch a ligand",
    "licence": "that of the structures",
    "labels": "heavy atom within 4.5 Å of a HETATM residue of >= 7 heavy atoms that is no water, "
    "buffer or glycan",
}
#: What other programs call the splits for training and choosing; here such a name would be a test.
OTHERWISE = {"train": "train", "training": "train", "valid": "valid", "val": "valid"}
OTHERWISE |= {"validation": "valid", "dev": "valid"}


@dataclass
class Prepared:
    """What `prepare` wrote, and what it left out."""

    out: Path
    structures: int = 0
    tables: dict[str, dict[str, int]] = field(default_factory=dict)
    pairs: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)


def prepare(
    structures: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    labels: Sequence[str | Path] = (),
    pairs: str | Path | None = None,
    unlisted: str = "auto",
    ligands: bool = True,
) -> Prepared:
    """Write a data folder; what an earlier call wrote there is replaced.

    Parameters
    ----------
    structures
        Files, folders or patterns, as for `protok encode`.
    out
        Folder to write to.
    labels
        CSV files; a table is named after its file.
    pairs
        CSV with `id1`, `id2`, optional `set` and `tm`; a TM-score that is not given is
        computed by TM-align, which needs `tmtools`.
    unlisted
        Label of a residue that a CSV with `residue` does not list: `0`, `x` (unlabelled), or
        `auto`: 0 for labels of 0 and 1, unlabelled for numbers.
    ligands
        Make `bind_hetatm`: residues within 4.5 Å of a ligand, by `protok.bench.data.ligands`. The
        table `flex_bfactor` (CA B-factors, z-scores in each chain; constant ones are left out) is
        always made.

    Raises
    ------
    FormatError
        If a CSV is not as above, names what the structures do not have, or is named like another
        table or a task on structures alone; or if the folder has other Parquet files. Nothing is
        written then.
    """
    from protok.structure.io.read import none_read, read_all
    from protok.structure.io.sources.paths import iter_files

    made = Prepared(Path(out))
    old = _old(made.out)
    chains: dict[str, Backbone] = {}
    files: dict[str, str] = {}
    bound: dict[str, np.ndarray] = {}
    errors: list[tuple[str, str, str]] = []
    for path, whole in read_all(iter_files(structures), errors):
        for id, chain in _named(path, whole):
            if id in chains:
                if not _same(chains[id], chain):  # the same would be in another format
                    reason = f"second chain with the id {id}; rename the file"
                    errors.append((str(path), chain.chains[0], reason))
                continue
            if not chain.mask.any():
                errors.append((str(path), "", f"no residue of chain {id} has N, CA and C"))
                continue
            chains[id], files[id] = chain, str(path).removeprefix(str(structures)).lstrip("/")
            label = _contacts(path, chain) if ligands else None
            if label is not None:
                bound[id] = label
    made.errors = [(file, reason) for file, _, reason in errors]
    if not chains:
        raise none_read(errors)
    made.structures = len(chains)
    tables: list[tuple[str, list[dict[str, Any]], dict[str, str]]] = []
    # Not by MMseqs2 where it is installed: the same splits on every machine.
    groups, _ = cluster([chain.sequence for chain in chains.values()], method="kmers")
    group = dict(zip(chains, groups.tolist(), strict=True))

    def add(name: str, rows: list[dict[str, Any]], about: dict[str, str], file: str = "") -> None:
        if name in made.tables or name in UNTAUGHT:
            raise FormatError(f"there is a table or task {name} already", "rename it", file=file)
        _split(rows, group, file)
        tables.append((name, rows, about))
        made.tables[name] = dict(Counter(row["split"] for row in rows))

    flexible = {id: c.bfactor for id, c in chains.items() if varies(c.bfactor)}
    if len(flexible) > 2:
        rows = [{"id": id, "label": standardised(b).tolist()} for id, b in flexible.items()]
        add("flex_bfactor", rows, ABOUT_BFACTORS)
    if len(bound) > 2:
        add("bind_hetatm", [{"id": id, "label": _letters(b)} for id, b in bound.items()], ABOUT_LIGANDS)
    for file in labels:
        rows = _labelled(Path(file), chains, unlisted)
        add(Path(file).stem, rows, {"labels": "given"}, str(file))
    couples = _pairs(Path(pairs), chains) if pairs is not None else []
    made.pairs = len(couples)
    for file in old:
        file.unlink()
    (made.out / "tasks").mkdir(parents=True, exist_ok=True)
    named = (replace(chain, name=id) for id, chain in chains.items())
    write_structures(named, made.out / "structures.parquet", MADE, files)
    for name, rows, about in tables:
        write_table(rows, made.out / "tasks" / f"{name}.parquet", about, MADE)
    if couples:
        write_table(couples, made.out / "pairs.parquet", {}, MADE)
    return made


def _old(out: Path) -> list[Path]:
    """What an earlier `prepare` wrote; labels of other structures must not stay beside new ones."""
    files = [*out.glob("*.parquet"), *(out / "tasks").glob("*.parquet")]
    for file in files:
        try:
            metadata = schema_of(file).metadata or {}
        except FormatError:
            metadata = {}
        if not {key.encode() for key in MADE} <= metadata.keys():
            raise FormatError(
                "a Parquet file that `protok bench prepare` did not make",
                "give another folder, or move it away",
                file=str(file),
            )
    return files


def _named(path: Path, whole: Backbone) -> Iterator[tuple[str, Backbone]]:
    """Chains of a file that are long enough, with their ids."""
    from protok.structure.io.sources.paths import stem

    name = stem(path)
    for chain in whole.by_chain():
        if len(chain) < SHORTEST:
            continue
        letter = str(chain.chain[0])
        # `1aki_A.pdb` and `7dz2.C.pdb` name their chain already.
        own = name.endswith((f"_{letter}", f".{letter}")) and len(whole.chains) == 1
        yield (name if own or not letter.strip() else f"{name}_{letter}"), chain


def _same(first: Backbone, second: Backbone) -> bool:
    """Whether they are one chain, as far as a PDB file keeps it."""
    same = first.sequence == second.sequence
    return same and np.allclose(first.coords, second.coords, atol=2e-3, equal_nan=True)


def _contacts(path: Path, chain: Backbone) -> np.ndarray | None:
    from biotite.file import InvalidFileError
    from biotite.structure import BadStructureError

    from protok.bench.data.ligands import contacts

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # biotite's, of which columns of a file it takes
            return contacts(path, chain)
    except (InvalidFileError, BadStructureError, ValueError, KeyError):
        # biotite is stricter than protok: such a file has a backbone, but no ligand labels.
        return None


def _letters(label: np.ndarray) -> str:
    return "".join("x" if np.isnan(value) else str(int(value)) for value in label)


def _split(rows: list[dict[str, Any]], group: dict[str, int], file: str) -> None:
    named = sum(bool(row.get("split")) for row in rows)
    for row in rows:
        name = row.get("split") or ""
        meant = OTHERWISE.get(name.strip().casefold(), name)
        if meant != name:
            raise FormatError(
                f"split {name!r}, which would be a test split",
                f"write {meant}, or call the test otherwise",
                file=file,
            )
    if named == len(rows):
        return
    if named:
        raise FormatError(
            f"{len(rows) - named} of {len(rows)} rows without a split",
            "give all a split, or leave the column out",
            file=file,
        )
    for row in rows:
        row["cluster"] = str(row.get("cluster") or group[row["id"]])
    clusters = np.unique([row["cluster"] for row in rows], return_inverse=True)[1]
    for row, side in zip(rows, assign(clusters, *HELD_OUT).tolist(), strict=True):
        row["split"] = side


def _read(path: Path, needed: set[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            numbered = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise FormatError("text that is not UTF-8", "save it as UTF-8", file=str(path)) from error
    except (OSError, csv.Error) as error:
        raise FormatError(f"no CSV file ({error})", "write it again", file=str(path)) from error
    rows = [row for _, row in numbered]
    if not rows or not needed <= rows[0].keys():
        raise FormatError(
            f"columns {', '.join(rows[0]) if rows else 'of an empty file'}",
            f"it needs {', '.join(sorted(needed))}; see protok bench prepare --help",
            file=str(path),
        )
    for number, row in numbered:
        if None in row or None in row.values():
            raise FormatError(
                f"line {number} has not as many fields as the first line", "mend it", file=str(path)
            )
    return rows


def _labelled(path: Path, chains: dict[str, Backbone], unlisted: str) -> list[dict[str, Any]]:
    listed = _read(path, {"id"})
    columns = listed[0].keys()
    for row in listed:
        if row["id"] not in chains:
            raise FormatError(
                f"label of {row['id']!r}, which is no chain of the structures",
                f"chains are named like {next(iter(chains))}",
                file=str(path),
            )
    keep = [key for key in ("split", "cluster") if key in columns]
    if "fold" in columns:
        keep += [key for key in ("fold", "superfamily", "family", "region") if key in columns]
        for row in listed:
            if row.get("region"):
                in_region(chains[row["id"]], row["region"], path)
        return [{"id": row["id"], **{key: row[key] for key in keep}} for row in listed]
    if "label" not in columns:
        raise FormatError("no column label or fold", "see protok bench prepare --help", file=str(path))
    for row in listed:
        row["label"] = _plain(row["label"])
    if "residue" in columns:
        return _by_residue(listed, chains, unlisted, keep, path)
    site = all(set(row["label"]) <= set("01x") for row in listed)
    rows = []
    for row in listed:
        text = row["label"]
        label = text if site else [_number(number, path) for number in text.split()]
        if len(label) != len(chains[row["id"]]):
            raise FormatError(
                f"{row['id']}: {len(label)} labels for {len(chains[row['id']])} residues",
                "give one a residue that the file lists",
                file=str(path),
            )
        rows.append({"id": row["id"], "label": label, **{key: row[key] for key in keep}})
    return rows


def _by_residue(listed, chains, unlisted, keep, path) -> list[dict[str, Any]]:
    site = all(row["label"] in ("0", "1", "x") for row in listed)
    rest = {"auto": 0.0 if site else np.nan, "0": 0.0, "x": np.nan}[unlisted]
    values: dict[str, np.ndarray] = {}
    first: dict[str, dict[str, str]] = {}
    where: dict[str, dict[str, int]] = {}
    seen: dict[tuple[str, int], str] = {}
    for row in listed:
        id = row["id"]
        if id not in values:
            chain = chains[id]
            values[id], first[id] = np.full(len(chain), rest, np.float32), row
            names = zip(chain.index, chain.icode, strict=True)
            where[id] = {f"{number}{code}": i for i, (number, code) in enumerate(names)}
        if any(row[key] != first[id][key] for key in keep):
            raise FormatError(
                f"rows of {id} say different things of {' or '.join(keep)}",
                "a chain has one of each",
                file=str(path),
            )
        at = where[id].get(row["residue"].strip())
        if at is None:
            raise FormatError(
                f"{id} has no residue {row['residue']!r}",
                "use the numbers of the structure file, 52 or 52A",
                file=str(path),
            )
        if seen.setdefault((id, at), row["label"]) != row["label"]:
            raise FormatError(
                f"{id}: residue {row['residue']} has labels {seen[id, at]} and {row['label']}",
                "give it once",
                file=str(path),
            )
        values[id][at] = np.nan if row["label"] == "x" else _number(row["label"], path)
    return [
        {"id": id, "label": _letters(v) if site else v.tolist(), **{k: first[id][k] for k in keep}}
        for id, v in values.items()
    ]


def _plain(text: str) -> str:
    """A label of zeros and ones as such, however a program wrote them (1.0, or with blanks)."""
    bits = {"0": "0", "0.0": "0", "1": "1", "1.0": "1", "x": "x"}
    parts = text.split()
    return "".join(bits[p] for p in parts) if {*parts} <= bits.keys() else text.strip()


def _number(text: str, path: Path) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise FormatError(f"label {text!r}", "give 0, 1, x or a number", file=str(path)) from error


def _pairs(path: Path, chains: dict[str, Backbone]) -> list[dict[str, Any]]:
    rows = []
    for row in _read(path, {"id1", "id2"}):
        first, second = row["id1"], row["id2"]
        for id in (first, second):
            if id not in chains:
                raise FormatError(f"no chain {id!r}", "add its file", file=str(path))
        if row.get("tm"):
            tm = _number(row["tm"], path)
        else:
            from protok.analysis.alignment import tm_align

            tm = tm_align(chains[first], chains[second])
        rows.append({"set": row.get("set") or "pairs", "id1": first, "id2": second, "tm": tm})
    return rows


def write_structures(
    structures: Iterable[Backbone],
    path: Path,
    metadata: dict[str, str] | None = None,
    files: Mapping[str, str] | None = None,
) -> None:
    """Write Backbones as a structure file of a data folder, under their names.

    `files` says from which each comes: chains of one file are a complex, without those too short to be here.
    """
    rows = [
        {
            "id": structure.name,
            "seq": structure.sequence,
            "chain": str(structure.chain[0]),
            "xyz": structure.coords.astype(np.float32).ravel(),
            "resnum": structure.index.astype(np.int32),
            "icode": "".join(code or " " for code in structure.icode.tolist()),
            "bfac": structure.bfactor.astype(np.float32),
            **({"file": files[structure.name]} if files else {}),
        }
        for structure in structures
    ]
    write_table(rows, path, {}, metadata)


def write_table(
    rows: list[dict[str, Any]], path: Path, about: dict[str, str], metadata: dict[str, str] | None = None
) -> None:
    """Write rows as Parquet; what a table says of itself goes into the file's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    described = {f"bench:{key}": value for key, value in about.items()} | (metadata or {})
    table = pa.Table.from_pylist(rows).replace_schema_metadata(described)
    with atomic(path, "wb") as handle:
        pq.write_table(table, handle, compression="zstd")
