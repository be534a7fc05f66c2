"""The official release of StructTokenBench as a data folder: its tree, its files, its rules.

The root is the folder that holds `functional`, `physicochemical`, `structural`, `sensitivity`
or `utility` (below `struct_token_bench_release_data/data` in the release); a release may have
only some of them, and then supplies the tasks whose lists it has. Read are the lists
that the reference code saved, `processed_structured_<field>_<split>`, and where there is only
the list before structures, `<field>_<split>`, that together with the mmCIF dump
(`pdb_data/mmcif_files/mmcif_files/xxxx.cif`, beside or above the root), by the rules of
`protok.bench.data.release_lists`. The files are pickles: they are read by an unpickler that makes
arrays, tensors and plain values, and nothing else.
"""

from __future__ import annotations

import csv
import json
import pickle
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from protok.bench.data import release_lists as lists
from protok.bench.data.regions import in_range
from protok.bench.data.release_chains import Chains
from protok.bench.data.release_lists import Left
from protok.bench.data.source import TRAIN, VALID, Domain, Entry, Table
from protok.bench.tasks import TASKS
from protok.errors import CorruptFile, FormatError, ProtokError
from protok.structure.backbone import Backbone

INTERPRO = "functional/local/interpro"
BIOLIP = "functional/local/biolip2"
ATLAS = "physicochemical/atlas"
HOMOLOGY = "structural/remote_homology"
#: Folder and label of each task.
PLACES = {
    "BindInt": (INTERPRO, "binding_label"),
    "BindBio": (BIOLIP, "binding_label"),
    "BindShake": ("functional/local/proteinshake_bindingsite", "binding_site"),
    "CatInt": (INTERPRO, "activesite_label"),
    "CatBio": (BIOLIP, "catalytic_label"),
    "Con": (INTERPRO, "conservedsite_label"),
    "Rep": (INTERPRO, "repeat_label"),
    "Ept": ("functional/local/proteinglue_epitoperegion", "epitope_label"),
    "FlexRMSF": (ATLAS, "rmsf_score"),
    "FlexBFactor": (ATLAS, "bfactor_score"),
    "FlexNEQ": (ATLAS, "neq_score"),
    "Homo": (HOMOLOGY, "fold_label"),
}
#: Names that files give to the two splits that are not tests.
SPLITS = {TRAIN: ("train",), VALID: ("validation", "valid", "val")}
CONFORMATIONS = "sensitivity/conformational"
PAIRS = {"fold_switching_test": "codnas.csv", "apo_holo_test": "apo.csv"}
#: The reference skips this pair of codnas.csv, counted from 0.
SKIPPED = {"codnas.csv": 2}
SETS = {"casp14": "utility/casp14", "cameo": "utility/cameo"}
#: The release is known by any of these folders: it is fetched in parts.
KNOWN = (*(place for place, _ in PLACES.values()), CONFORMATIONS, *SETS.values())
#: N, CA, C and O in the order of atom37.
ATOM37 = [0, 1, 2, 4]
LONGEST = 600  # residues of an example; longer ones the reference leaves out
DUMP = "pdb_data/mmcif_files/mmcif_files"


def root_of(path: Path) -> Path | None:
    """The root of the release if a folder is that or a folder above it."""
    for root in (path, path / "data", path / "struct_token_bench_release_data" / "data"):
        if any((root / place).is_dir() for place in KNOWN):
            return root
    return None


class Release:
    """The release as a source of labelled structures (`protok.bench.data.source`).

    Raises
    ------
    FormatError
        If the folder is not the release.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        root = root_of(self.path)
        if root is None:
            raise FormatError(
                "not the release of StructTokenBench",
                f"give the folder that holds any of {', '.join(dict.fromkeys(KNOWN))}",
                file=str(path),
            )
        self.root = root
        parents = (root, *root.parents[:3])
        self._dump = next((p / DUMP for p in parents if (p / DUMP).is_dir()), None)
        self._chains = Chains()
        self._structures: dict[str, Backbone] = {}
        self._known: dict[str, Table] = {}
        #: Empty: a list that cannot be read is an error of its task.
        self.errors: list[tuple[str, str]] = []
        #: What lists name but the release does not have, by table, `pairs` and `sets`.
        self.left_out: dict[str, list[str]] = {}

    def structure(self, id: str) -> Backbone:
        """A structure that a table, a pair or a set named."""
        if id not in self._structures:
            raise FormatError(f"no structure {id!r}", "ask for its table first", file=str(self.path))
        return self._structures[id]

    def domains(self) -> list[Domain]:
        """None: the release gives fold numbers without superfamilies."""
        return []

    def tables(self) -> list[str]:
        """Tasks that have a training list."""
        return [name for name in PLACES if self._file(name, TRAIN) is not None]

    def _file(self, name: str, split: str) -> Path | None:
        place, field = PLACES[name]
        # Versions of the reference differ in how they name what they saved.
        fields = [f"{field}_", *(["epitope_region_"] if name == "Ept" else [])]
        fields += [""] if place in (ATLAS, HOMOLOGY) else []
        for start in ("processed_structured_", ""):
            for word in SPLITS.get(split, (split,)):
                for middle in fields:
                    path = self.root / place / f"{start}{middle}{word}"
                    if path.is_file():
                        return path
        return None

    def table(self, name: str) -> Table:
        """The labels of a task, as the lists give them."""
        if name not in PLACES:
            raise FormatError(f"no table {name!r}", f"it has {', '.join(self.tables())}")
        if name not in self._known:
            task, entries, skipped = TASKS[name], [], []
            for split in (TRAIN, VALID, *task.splits):
                file = self._file(name, split)
                if file is None:
                    skipped.append(f"{split}: there is no list")
                for item in _items(file) if file else []:
                    try:
                        entries.append(self._entry(item, name, task.kind, split))
                    except Left as why:
                        example = item.get("pdb_id") or item.get("pdb_id_chain_id") or item.get("id")
                        skipped.append(f"{example}: {why}")
                    except ProtokError as error:
                        error.file = error.file or str(file)
                        raise
            classes = self._classes(entries) if task.kind == "class" else []
            if classes:
                number = {fold: i for i, fold in enumerate(classes)}
                kept = (entry for entry in entries if entry.target in number)
                entries = [replace(entry, target=number[entry.target]) for entry in kept]
            self.left_out[name] = skipped
            self._known[name] = Table(name, task.kind, entries, tuple(map(str, classes)))
        return self._known[name]

    def _classes(self, entries: list[Entry]) -> list[int]:
        """Folds, without those that the reference drops from lists of TAPE itself."""
        raw = self._file("Homo", TRAIN)
        least = 1 if raw is None or raw.name.startswith("processed") else lists.PROTEINS
        trained = Counter(int(entry.target) for entry in entries if entry.split == TRAIN)
        known = {int(entry.target) for entry in entries}
        return sorted(fold for fold in known if least == 1 or trained[fold] >= least)

    def _entry(self, item: dict[str, Any], name: str, kind: str, split: str) -> Entry:
        place, field = PLACES[name]
        folder = self.root / place
        entry, chain, ranges = lists.where(item, folder)
        saved = item.get("pdb_chain")
        if saved is not None:
            structure = _backbone(saved, f"{entry}_{chain}")
        elif place == ATLAS:  # which has its own PDB files, prepared for simulation
            path = lists.atlas_file(item, folder, ".pdb")
            if not path.is_file():
                raise Left("no structure of ATLAS")
            structure = self._chains.get(path)
        else:
            structure = self._chain(entry, chain)
        rows = None
        if ranges:
            inside = [in_range(structure.index, part.rpartition(":")[2]) for part in ranges]
            rows = np.flatnonzero(np.any(inside, axis=0))
        n = len(structure) if rows is None else len(rows)
        if not 0 < n <= LONGEST:
            raise Left(f"{n} residues")
        name = f"{entry}_{chain}"
        if kind == "class":
            return Entry(self._register(name, structure), split, int(item[field]), rows)
        if saved is not None and field in item:
            target = np.array([np.nan if v is None else v for v in item[field]], np.float32)
        else:
            target = lists.label(item, field, structure, folder)
        target[target == -100] = np.nan
        if len(target) == len(structure) and rows is not None:
            target = target[rows]
        if len(target) != n:
            raise FormatError(f"{name}: {len(target)} labels for {n} residues", "process the release again")
        return Entry(self._register(name, structure), split, target, rows)

    def _register(self, id: str, structure: Backbone) -> str:
        """Name of a structure; the same chain of another file is another structure."""
        name, n = id, 1
        while name in self._structures and not _equal(self._structures[name], structure):
            n += 1
            name = f"{id}#{n}"
        self._structures.setdefault(name, replace(structure, name=name))
        return name

    def _chain(self, entry: str, chain: str) -> Backbone:
        if self._dump is None:
            remedy = f"put it at {DUMP} beside the release"
            raise FormatError("there is no mmCIF dump", remedy, file=str(self.path))
        entry = entry.lower()
        path = self._dump / f"{self._newer.get(entry, entry)}.cif"
        if not path.is_file():
            raise Left("not in the mmCIF dump")
        return self._chains.get(path, chain)

    @cached_property
    def _newer(self) -> dict[str, str]:
        """The entry that took the place of each obsolete one, by `obsolete.dat` of the dump."""
        newer = {}
        for place in (self._dump, self._dump.parent) if self._dump else ():
            path = place / "obsolete.dat"
            for line in path.read_text(encoding="utf-8").splitlines()[1:] if path.is_file() else []:
                words = line.split()  # OBSLTE date old new
                if len(words) > 3:
                    newer[words[2].lower()] = words[3].lower()
        return newer

    def _pair_files(self) -> dict[str, Path]:
        files = {split: self.root / CONFORMATIONS / file for split, file in PAIRS.items()}
        return {split: file for split, file in files.items() if file.is_file()}

    def has_pairs(self) -> bool:
        """Whether there are pairs, without aligning them."""
        return bool(self._pair_files())

    def pairs(self) -> dict[str, list[tuple[str, str, float]]]:
        """Pairs of conformations with the TM-score of TM-align, as the reference computes it."""
        return self._pairs

    @cached_property
    def _pairs(self) -> dict[str, list[tuple[str, str, float]]]:
        from protok.analysis.alignment import tm_align

        out: dict[str, list[tuple[str, str, float]]] = {}
        missing = self.left_out["pairs"] = []
        for split, path in self._pair_files().items():
            with path.open(newline="", encoding="utf-8") as lines:
                rows = list(csv.reader(lines))[1:]
            for i, row in enumerate(rows):
                if i == SKIPPED.get(path.name):
                    continue
                if len(row) < 2 or not all("." in text for text in (row[0], row[-1])):
                    remedy = "a pair is two chains, like 1aki.A.pdb, first and last in its line"
                    raise FormatError(f"line {i + 2} is {','.join(row)!r}", remedy, file=str(path))
                try:
                    first, last = self._pair(row[0]), self._pair(row[-1])
                except Left as why:
                    missing.append(f"{split}: {row[0]}, {row[-1]}: {why}")
                    continue
                tm = tm_align(self._structures[first], self._structures[last])
                out.setdefault(split, []).append((first, last, tm))
        return out

    def _pair(self, text: str) -> str:
        entry, chain = text.removesuffix(".pdb").split(".")[:2]
        return self._register(f"{entry}.{chain}", self._chain(entry, chain))

    def _caches(self) -> list[tuple[str, Path]]:
        return [
            (name, cache)
            for name, place in SETS.items()
            for cache in sorted((self.root / place).rglob("chain_data_cache.json"))
        ]

    def complexes(self) -> list[str]:
        """None: its structures are single chains."""
        return []

    def has_sets(self) -> bool:
        """Whether there are lists of sets, without reading their structures."""
        return bool(self._caches())

    def sets(self) -> dict[str, list[str]]:
        """CASP14 and CAMEO, by `chain_data_cache.json` and the mmCIF files beside it."""
        return self._sets

    @cached_property
    def _sets(self) -> dict[str, list[str]]:
        out: dict[str, list[str]] = {}
        missing = self.left_out["sets"] = []
        for name, cache in self._caches():
            files = {file.stem: file for file in sorted(cache.parent.rglob("*.cif"))}
            try:
                keys = list(json.loads(cache.read_text(encoding="utf-8")))
            except (ValueError, TypeError) as error:
                message = f"no list of chains ({error})"
                raise CorruptFile(message, "fetch it again", file=str(cache)) from error
            for key in keys:
                entry, _, chain = key.rpartition("_")
                try:
                    if entry not in files:
                        raise Left("no mmCIF file")
                    structure = self._chains.get(files[entry], chain)
                except Left as why:
                    missing.append(f"{name}: {key}: {why}")
                    continue
                out.setdefault(name, []).append(self._register(key, structure))
        return out


def _equal(first: Backbone, second: Backbone) -> bool:
    return len(first) == len(second) and np.array_equal(first.coords, second.coords, equal_nan=True)


def _backbone(chain: Any, id: str) -> Backbone:
    """A Backbone of the saved ProteinChain."""
    try:
        atoms = np.asarray(chain.atom37_positions, np.float32)[:, ATOM37].copy()
        atoms[~np.asarray(chain.atom37_mask, bool)[:, ATOM37]] = np.nan
        made = Backbone.from_arrays(
            atoms, chain.sequence, chain=str(chain.chain_id), index=np.asarray(chain.residue_index), name=id
        )
        codes = [str(code).strip(" .?") for code in np.asarray(chain.insertion_code).tolist()]
    except (AttributeError, IndexError, ValueError) as error:
        raise FormatError(f"{id}: {error}", "process the release again") from error
    return replace(made, icode=np.array(codes))


class Inert:
    """Takes the place of what is not read: it keeps nothing and does nothing."""

    def __new__(cls, *positional: Any, **named: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *positional: Any, **named: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class ProteinChain:
    """Stands for the class of that name, whose package is not needed to read the lists."""


_STORAGES = "Float Double Long Int Bool Half BFloat16".split()
_TORCH = {"_rebuild_tensor_v2", *(f"{kind}Storage" for kind in _STORAGES)}
_PLAIN = {("collections", "OrderedDict"), ("_codecs", "encode")}
_PLAIN |= {("builtins", "slice"), ("builtins", "bytearray")}
_NUMPY = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name == "ProteinChain":
            return ProteinChain
        if module.partition(".")[0] in ("pandas", "pyarrow"):
            return Inert  # ATLAS' lists carry tables, which are not read
        allowed = (
            (module.partition(".")[0] == "numpy" and name in _NUMPY)
            or (module in ("torch", "torch._utils") and name in _TORCH)
            or (module.replace("__builtin__", "builtins"), name) in _PLAIN
        )
        if not allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def _items(file: Path) -> Iterator[dict[str, Any]]:
    import torch

    safe = SimpleNamespace(
        Unpickler=_Unpickler, load=lambda f, **k: _Unpickler(f, **k).load(), __name__=__name__
    )
    try:
        held = torch.load(file, map_location="cpu", pickle_module=safe, weights_only=False)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise FormatError(f"no list of the release ({error})", "fetch it again", file=str(file)) from error
    if not isinstance(held, list) or not all(isinstance(item, dict) for item in held):
        raise FormatError("not a list of examples", "fetch it again", file=str(file))
    yield from held
