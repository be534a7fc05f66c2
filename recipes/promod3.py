"""Training chains that anybody can get: Debian's package `promod3-data`, as a structure store.

    apt-get download promod3-data           # 371 MB, Apache-2.0; coordinates of the PDB
    python -m recipes.promod3 promod3-data_*.deb -o runs/data
    python -m recipes.promod3 promod3-data_*.deb -o runs/data --also ../shared/structures/train.parquet

OUT gets `train.parquet`, its `manifest.csv` with the clusters by which chains are weighed, and
`train.extras.npz`: a residue, the sequence profile and what else ProMod3 (Studer et al. 2021, PLoS
Comput Biol 17:e1008667) knows of it. `recipes/protein/chains.tsv.gz` says which chains are used, and
why others are left out: homologs of chains that are tested on, by search, and copies.

The layout of `structure_db.dat`, version 2, was read off its bytes and checked by geometry.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import lzma
import mmap
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.command import without_traceback
from protok.errors import FormatError

CHAINS = Path(__file__).parent / "protein" / "chains.tsv.gz"
#: Residues of a chain.
SHORTEST, LONGEST = 40, 1500
#: Bytes before the table of contents: sizes of types, and values to test them by.
HEADER = 73
MEMBER = "structure_db.dat"
DAMAGED = "get the file again"
#: Records of a residue, in the order of the file.
ARRAYS = {
    "coords": ("<u2", 12),  # N, CA, C, O in hundredths of an Å, moved by a shift of the chain
    "dihedrals": ("<i2", 2),  # phi, psi in thousandths of a radian
    "accessibility": ("<u2", 1),
    "depth": ("<u2", 1),
    "dssp": ("S1", 1),
    "profile": ("<u2", 20),  # of the sequence, ten-thousandths of the amino acids by their letters
    "structural_profile": ("<u2", 20),
}
EXTRAS = ("profile", "structural_profile", "accessibility", "depth", "dssp")


@dataclass(frozen=True)
class Entry:
    """A stretch of a chain without a gap."""

    id: str
    #: Of its residues among those of all entries.
    rows: slice
    #: Number of its first residue.
    first: int


@dataclass(frozen=True)
class StructureDB:
    """What the file holds; arrays have a row a residue, in the units of the file."""

    entries: list[Entry]
    letters: str
    arrays: dict[str, np.ndarray]

    @classmethod
    def parse(cls, data: bytes | mmap.mmap) -> StructureDB:
        """Take the file apart.

        Raises
        ------
        FormatError
            If it is of another version, or its parts do not fill it.
        """
        if struct.unpack_from("<II", data) != (1234, 2):
            raise FormatError("not a structure_db.dat of version 2", "take that of Debian's promod3-data")
        _, count = struct.unpack_from("<iQ", data, HEADER)
        at, places = HEADER + 12, []
        for _ in range(count):
            texts = []
            for _ in range(2):
                (size,) = struct.unpack_from("<I", data, at)
                texts.append(data[at + 4 : at + 4 + size].decode())
                at += 4 + size
            offset, size, first = struct.unpack_from("<IHH", data, at)
            places.append(Entry("_".join([*texts, str(first)]), slice(offset, offset + size), first))
            at += 20  # and three numbers that move the chain to where it was
        (n,) = struct.unpack_from("<Q", data, at)
        letters = data[at + 8 : at + 8 + n].decode()
        at += 8 + n
        arrays = {}
        for name, (kind, width) in ARRAYS.items():
            if struct.unpack_from("<Q", data, at) != (n,):
                raise FormatError(f"{name} is not of {n} residues", DAMAGED)
            arrays[name] = np.frombuffer(data, kind, n * width, at + 8).reshape(n, width)
            at += 8 + arrays[name].nbytes
        if at != len(data):
            raise FormatError(f"{len(data) - at} bytes too many", DAMAGED)
        return cls(places, letters, arrays)

    def coords(self, entry: Entry) -> np.ndarray:
        """(length, 4, 3) int16 N, CA, C and O, in hundredths of an Å about the mean CA."""
        coords = self.arrays["coords"][entry.rows].reshape(-1, 4, 3).astype(np.int32)
        return (coords - np.rint(coords[:, 1].mean(0)).astype(np.int32)).astype(np.int16)


def unpacked(package: Path) -> bytes | mmap.mmap:
    """The `structure_db.dat` of a Debian package, or the file itself."""
    with package.open("rb") as handle:
        if handle.read(8) != b"!<arch>\n":
            return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        while head := handle.read(60):
            name, size = head[:16].decode().strip(" /"), int(head[48:58])
            if name == "data.tar.xz":
                with tarfile.open(fileobj=io.BytesIO(lzma.decompress(handle.read(size)))) as archive:
                    (member,) = (info for info in archive if info.name.endswith(f"/{MEMBER}"))
                    extracted = archive.extractfile(member)
                    assert extracted is not None  # it is a file
                    return extracted.read()
            handle.seek(size + size % 2, 1)
    raise FormatError(f"no {MEMBER} in it", "take Debian's promod3-data", file=str(package))


def chains(store: str, path: Path = CHAINS) -> dict[str, str]:
    """The chains of a store that are used, and the cluster of each."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t")
        return {row["id"]: row["cluster"] for row in rows if row["store"] == store and not row["left_out"]}


def listed(shared: Path, db: StructureDB) -> Iterator[tuple[str, str, str, str]]:
    """Store, id, cluster and why it is left out of every chain, by the lists of the data folder."""
    folder = shared / "structures"
    with (folder / "exclude.tsv").open(encoding="utf-8") as lines:
        alike = {(row["store"], row["id"]): row["alike_to"] for row in csv.DictReader(lines, delimiter="\t")}
    pairs = [line.split("\t") for line in (folder / "promod3/clusters.tsv").read_text().splitlines()]
    cluster = {id: name for name, id in pairs}
    kept = set((folder / "promod3/keep.txt").read_text().split())
    for entry in db.entries:
        length = entry.rows.stop - entry.rows.start
        reason = "" if entry.id in kept else "copy, or homolog of a chain that is tested on"
        reason = "length" if not SHORTEST <= length <= LONGEST else alike.get(("promod3", entry.id), reason)
        yield "promod3", entry.id, cluster.get(entry.id, ""), reason
    for id in pq.read_table(folder / "train.parquet", columns=["id"])["id"].to_pylist():
        yield "train", id, cluster.get(f"train|{id}", ""), alike.get(("train", id), "")


def build(db: StructureDB, out: Path, also: Path | None = None, path: Path = CHAINS) -> None:
    """Write store, manifest and extras of the chains that are used."""
    out.mkdir(parents=True, exist_ok=True)
    clusters = chains("promod3", path)
    entries = [entry for entry in db.entries if entry.id in clusters]
    lengths = np.array([entry.rows.stop - entry.rows.start for entry in entries])
    columns = {
        "id": [entry.id for entry in entries],
        "seq": [db.letters[entry.rows] for entry in entries],
        "xyz": _lists(lengths * 12, np.concatenate([db.coords(entry).ravel() for entry in entries])),
        "resnum": _lists(
            lengths,
            np.concatenate(
                [
                    np.arange(e.first, e.first + n, dtype=np.int32)
                    for e, n in zip(entries, lengths, strict=True)
                ]
            ),
        ),
        "bfac": _lists(lengths, np.zeros(lengths.sum(), np.float32)),
    }
    table = pa.table(columns)
    if also:
        theirs = chains("train", path)
        other = pq.read_table(also, columns=[*columns])
        other = other.filter(pa.array([id in theirs for id in other["id"].to_pylist()]))
        table = pa.concat_tables([table, other.cast(table.schema)])
        clusters |= theirs
    pq.write_table(table, out / "train.parquet", compression="zstd")
    rows = np.concatenate([np.arange(entry.rows.start, entry.rows.stop) for entry in entries])
    extras = {name: db.arrays[name][rows].squeeze() for name in EXTRAS}
    np.savez_compressed(out / "train.extras.npz", id=columns["id"], length=lengths, **extras)
    with (out / "manifest.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "split", "cluster30"])
        writer.writerows([id, "train", clusters[id] or id] for id in table["id"].to_pylist())
    residues = sum(map(len, table["seq"].to_pylist()))
    print(f"{out / 'train.parquet'}: {len(table)} chains, {residues} residues, {len(entries)} with extras")


def _lists(lengths: np.ndarray, values: np.ndarray) -> pa.Array:
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values))


def main() -> None:
    """Write the data of a training, or the list of its chains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("package", type=Path, help="the .deb, or structure_db.dat")
    parser.add_argument("-o", "--out", type=Path, help="folder for the store")
    parser.add_argument("--also", type=Path, metavar="STORE", help="chains of the data folder beside them")
    parser.add_argument(
        "--list", type=Path, metavar="SHARED", help=f"write {CHAINS.name} by that data folder"
    )
    arguments = parser.parse_args()
    db = StructureDB.parse(unpacked(arguments.package))
    if arguments.list:
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t", lineterminator="\n")
        writer.writerow(["store", "id", "cluster", "left_out"])
        writer.writerows(listed(arguments.list, db))
        CHAINS.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    if arguments.out:
        build(db, arguments.out, arguments.also)


if __name__ == "__main__":
    without_traceback(main)
