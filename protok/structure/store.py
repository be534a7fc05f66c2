"""Structure stores and the stream of training batches.

A store is one Parquet file, a row a chain: ``id``; ``seq``; ``xyz``, the N, CA, C
and O coordinates as int16 hundredths of an Å about the chain's mean CA, flattened,
-32768 where missing; optionally ``resnum`` and ``bfac``. A ``manifest.csv`` beside
it with columns id, split and cluster30 gives homology clusters.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protok.common.arrays import allowed, rows_at_once
from protok.common.files import atomic, lock, write_errors
from protok.errors import FormatError, ProtokError, Unsupported
from protok.structure.backbone import Backbone
from protok.structure.io.options import ReadOptions

MISSING = -32768
#: Chains with fewer complete residues have no shape to learn, and are left out of stores.
SHORTEST = 3


@dataclass(frozen=True, eq=False)
class Store:
    """Chains in memory as int16, with sampling weights.

    Attributes
    ----------
    ids : list of str
        One a chain.
    xyz : (n, 4, 3) int16
        All residues end to end, in hundredths of an Å.
    start : (chains + 1,)
        Where each chain begins.
    sequence : list of str
        One a chain.
    weight : (chains,)
        Sampling weights; they sum to 1.
    digest : str
        sha256 of the file the store was read from.
    cluster : tuple of str
        Homology cluster of each chain, where a manifest names them; else empty.
    """

    ids: list[str]
    xyz: np.ndarray
    start: np.ndarray
    sequence: list[str]
    weight: np.ndarray
    digest: str
    cluster: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def lengths(self) -> np.ndarray:
        """Residues of each chain."""
        return np.diff(self.start)

    def coords(self, i: int, begin: int = 0, stop: int | None = None) -> np.ndarray:
        """Coordinates of residues begin..stop of chain i: (l, 4, 3) float32 in Å, NaN missing."""
        end = self.start[i + 1] if stop is None else self.start[i] + stop
        raw = self.xyz[self.start[i] + begin : end]
        return np.where(raw == MISSING, np.float32(np.nan), raw.astype(np.float32) / 100)

    def backbone(self, i: int) -> Backbone:
        """Chain i as a Backbone; residues are numbered from 1."""
        return Backbone.from_arrays(self.coords(i), self.sequence[i], name=self.ids[i])


def read_store(path: str | Path, *, manifest: str | Path | None = None) -> Store:
    """Read a store; weights are 1 / (size of the chain's cluster in this store).

    Raises
    ------
    FormatError
        If the file is not such a Parquet file.
    """
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise FormatError("no such structure store", "build one with protok train --structures", file=path)
    try:
        with pq.ParquetFile(path) as measured:
            rows_at_once(measured, path)
        # Texts that repeat are held once until they are measured.
        table = pq.read_table(path, columns=["id", "seq", "xyz"], read_dictionary=["id", "seq"])
        ids, sequence = (_texts(table[key], allowed(path.stat().st_size)) for key in ("id", "seq"))
        xyz = table["xyz"].combine_chunks().flatten().to_numpy().astype(np.int16).reshape(-1, 4, 3)
        start = np.concatenate([[0], np.cumsum([len(s) for s in sequence])]).astype(np.int64)
    except ProtokError:
        raise
    except Exception as error:
        raise FormatError(
            f"not a structure store ({error})",
            "build one with protok train --structures FOLDER",
            file=str(path),
        ) from error
    if start[-1] != len(xyz):
        raise FormatError(
            f"{len(xyz)} residues of coordinates for {start[-1]} of sequence",
            "rebuild the store",
            file=str(path),
        )
    weight = np.ones(len(ids))
    cluster: tuple[str, ...] = ()
    manifest = Path(manifest) if manifest else path.with_name("manifest.csv")
    if manifest.exists():
        with manifest.open(encoding="utf-8", newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row.get("split", path.stem) == path.stem]
        known = {row["id"]: row["cluster30"] for row in rows}
        cluster = tuple(known[i] if i in known else i for i in ids)
        size = Counter(cluster)
        weight = np.array([1.0 / size[c] for c in cluster])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Store(ids, xyz, start, sequence, weight / weight.sum(), digest, cluster)


def _texts(column, most: int) -> list[str]:
    """Texts of an Arrow column of dictionaries, if they take no more than so many bytes."""
    from pyarrow.compute import call_function

    sizes = (call_function("binary_length", [part.dictionary]).take(part.indices) for part in column.chunks)
    if sum(call_function("sum", [size]).as_py() or 0 for size in sizes) > most:
        raise ValueError(f"a text that repeats unpacks to more than {most} bytes")
    return column.to_pylist()


def write_store(backbones: Iterable[Backbone], path: str | Path) -> int:
    """Write chains of Backbones as a store; returns how many.

    Chains with fewer than three complete residues are left out; names that come again get a
    number.

    Raises
    ------
    FormatError
        If a chain is too wide for int16.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: dict[str, list] = {"id": [], "seq": [], "xyz": [], "resnum": [], "bfac": []}
    named: Counter[str] = Counter()
    for backbone in backbones:
        for chain in backbone.by_chain():
            if chain.mask.sum() < SHORTEST:
                continue
            name = f"{chain.name}_{chain.chains[0]}"
            named[name] += 1
            rows["id"].append(name if named[name] == 1 else f"{name}-{named[name]}")
            rows["seq"].append(chain.sequence)
            rows["xyz"].append(_fixed(chain).ravel())
            rows["resnum"].append(chain.index)
            rows["bfac"].append(np.nan_to_num(chain.bfactor))
    types = {
        "id": pa.string(),
        "seq": pa.string(),
        "xyz": pa.list_(pa.int16()),
        "resnum": pa.list_(pa.int32()),
        "bfac": pa.list_(pa.float32()),
    }
    table = pa.table({key: pa.array(rows[key], types[key]) for key in rows})
    with atomic(path, "wb") as handle:
        pq.write_table(table, handle, compression="zstd")
    return len(rows["id"])


def _fixed(chain: Backbone) -> np.ndarray:
    """Coordinates as int16 hundredths of an Å about the mean CA."""
    centred = chain.coords - np.nanmean(chain.coords[:, 1], axis=0)
    fixed = np.where(np.isfinite(centred), np.round(centred * 100), MISSING)
    if np.abs(np.where(fixed == MISSING, 0, fixed)).max() > 32767:
        raise FormatError(
            "a chain is wider than 650 Å", "leave it out", file=chain.name, chain=chain.chains[0]
        )
    return fixed.astype(np.int16)


def open_store(source: str | Path, cache: str | Path, options: ReadOptions | None = None) -> Store:
    """A store from a Parquet file, or from a folder of structures, parsed once into `cache`.

    The cache is used again while the folder's files keep names, sizes and times. What cannot
    be read is a row of ``<cache>.errors.tsv`` (file, chain, reason; see `unread`); the rest
    is used. Processes that open the same cache at a time wait for the first of them.

    Parameters
    ----------
    source
        Parquet file or folder.
    cache
        Parquet file that a folder is parsed into.
    options
        How the files of a folder are read.

    Raises
    ------
    Unsupported
        If a store, whose files were read before, is to be read by options.
    NoProtein
        If there are no structure files, or none can be read.
    """
    source, cache, options = Path(source), Path(cache), options or ReadOptions()
    if source.is_file() and source.suffix == ".parquet":
        if options != ReadOptions():
            raise Unsupported("a store is as it was read", "give the structure files", file=str(source))
        return read_store(source)
    from protok.structure.io.sources.paths import iter_files, utf8

    files = list(iter_files([source]))
    state = f"{options}\n" + "\n".join(
        f"{utf8(f)}\t{f.stat().st_size}\t{f.stat().st_mtime_ns}" for f in files
    )
    stamp = cache.with_suffix(".state")
    cache.parent.mkdir(parents=True, exist_ok=True)
    with lock(cache.with_suffix(".lock")):
        if not (cache.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == state):
            stamp.unlink(missing_ok=True)
            _parse(files, cache, source, options)
            with atomic(stamp) as handle:
                handle.write(state)
        return read_store(cache)


def _parse(files: list[Path], cache: Path, source: Path, options: ReadOptions) -> None:
    from protok.structure.io.read import none_read, read_all

    rows: list[tuple[str, str, str]] = []

    def good() -> Iterator[Backbone]:
        for file, backbone in read_all(files, rows, options):
            for chain in backbone.by_chain():
                if chain.mask.sum() < SHORTEST:
                    reason = f"fewer than {SHORTEST} residues have N, CA and C"
                    rows.append((str(file), chain.chains[0], reason))
                    continue
                try:
                    _fixed(chain)
                except ProtokError as error:
                    rows.append((str(file), error.chain, error.reason))
                    continue
                yield chain

    chains = write_store(good(), cache)
    write_errors(rows, cache.with_suffix(".errors.tsv"))
    if not chains:
        cache.unlink()
        raise none_read(rows, source)


def unread(cache: str | Path) -> list[str]:
    """Rows of the error table of a cache (see `open_store`), without the head."""
    table = Path(cache).with_suffix(".errors.tsv")
    return table.read_text(encoding="utf-8").splitlines()[1:] if table.exists() else []
