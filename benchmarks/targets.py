"""Fetch the CASP14 and CAMEO2022 targets, and check that they are those that results were measured on.

    python -m benchmarks.targets -o targets
    python -m benchmarks.accuracy.shapes --test --data targets -o mine.parquet

`targets.tsv` lists them with the SHA-256 of their coordinates (`fingerprint`), from which alone codes follow.
Sources are asked in turn until one gives these. Entries of the Protein Data Bank are cut down as the copies
were that results were measured on (`as_measured`). What is there already is kept, so the same command goes on
where it ended.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import http.client
import io
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

import protok
from benchmarks.command import without_traceback
from protok.errors import ProtokError
from protok.structure.backbone import Backbone

LIST = Path(__file__).with_suffix(".tsv")
#: Addresses of a target's file by its set, best first: of a whole entry, of a member of an archive (after #),
#: and of the copy, at a commit, that results were measured on.
SOURCES = {
    "casp14": (
        "https://predictioncenter.org/download_area/CASP14/targets/"
        "casp14.targets.T.public_11.29.2020.tar.gz#{id}.pdb",
        "https://raw.githubusercontent.com/instadeepai/protein-structure-tokenizer/"
        "990b29cf16797eee81b7f468952b3580e45e6e53/casp14_pdbs/{id}.pdb",
    ),
    "cameo2022": (
        "https://files.rcsb.org/download/{entry}.pdb",
        "https://raw.githubusercontent.com/bjing2016/EigenFold/"
        "0628664fc481605e8c398527d009e815611cf5db/structures/{folder}/{id}.pdb",
    ),
}
#: Seconds to wait for a server.
PATIENCE = 60


@dataclass(frozen=True)
class Target:
    """A line of the list: a chain of a set, and what its coordinates are."""

    set: str
    id: str
    residues: int
    sha256: str

    def addresses(self) -> dict[str, bool]:
        """Where it may be had, and whether that is a whole entry."""
        parts = {"id": self.id, "entry": self.id.partition(".")[0].upper(), "folder": self.id[:2]}
        return {address.format(**parts): "{entry}" in address for address in SOURCES[self.set]}

    def path(self, folder: Path) -> Path:
        """Where it lies in a folder of data."""
        return folder / "files" / self.set / f"{self.id}.pdb"


class Silent(Exception):
    """A server that gives no answer, which is the argument."""


def targets() -> list[Target]:
    """All that are listed."""
    with LIST.open(newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t")
        return [Target(r["set"], r["id"], int(r["residues"]), r["sha256"]) for r in rows]


def fingerprint(chain: Backbone) -> str:
    """SHA-256 of the coordinates of N, CA, C and O as little-endian int32, in thousandths of an Å.

    They go residue by residue; a missing atom is three times the least int32.
    """
    whole = np.rint(chain.coords.astype(np.float64) * 1000)
    return hashlib.sha256(np.where(np.isfinite(whole), whole, -(2**31)).astype("<i4").tobytes()).hexdigest()


def as_measured(text: str, chain: str) -> str:
    """Of a chain in the PDB file of an entry, the records that results were measured on.

    They are the ``ATOM`` records of the first model whose residue has a CA and whose alternate location is
    blank or A: modified residues in ``HETATM`` records, such as MSE, are left out. So does `unpack_pdb.py` of
    EigenFold (https://github.com/bjing2016/EigenFold) with Bio.PDB.
    """
    first = text.partition("\nENDMDL")[0].splitlines()
    atoms = [line for line in first if line.startswith("ATOM  ") and line[21] == chain]
    traced = {line[22:27] for line in atoms if line[12:16] == " CA "}
    kept = (line for line in atoms if line[22:27] in traced and line[16] in " A")
    return "".join(f"{line}\n" for line in kept) + "END\n"


@lru_cache(maxsize=2)  # an archive is read once
def fetched(address: str) -> bytes | None:
    """What an address gives; None if its server has no such file.

    Raises
    ------
    Silent
        Without an answer.
    """
    request = urllib.request.Request(address, headers={"User-Agent": f"protok/{protok.__version__}"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.read()
    except urllib.error.HTTPError:
        return None
    except (OSError, http.client.HTTPException) as error:
        raise Silent(f"{address.split('/')[2]} cannot be reached ({error})") from error


def file_at(address: str) -> str | None:
    """The text of a target's file at an address, also inside an archive; None if it is not there."""
    outside, _, member = address.partition("#")
    data = fetched(outside)
    if member and data is not None:
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                inside = (
                    archive.extractfile(m) for m in archive if m.isfile() and Path(m.name).name == member
                )
                data = next((file.read() for file in inside if file), None)
        except (tarfile.TarError, EOFError, zlib.error):  # a page that says something, or half a file
            data = None
    return None if data is None else data.decode("latin-1")


def fetch(target: Target, path: Path, silent: dict[str, str]) -> tuple[str, list[str]]:
    """Write a target's file; returns the server that had it, or none, and what was wrong with others.

    Parameters
    ----------
    silent
        Servers that gave no answer, with the reason; none is asked again.
    """
    faults = []
    for address, whole in target.addresses().items():
        server = address.split("/")[2]
        if server in silent:
            continue
        try:
            text = file_at(address)
        except Silent as error:
            silent[server] = str(error)
            continue
        if text is None:
            faults.append(f"{server} has no such file")
            continue
        draft = path.with_suffix(".part.pdb")
        draft.write_text(as_measured(text, target.id.partition(".")[2]) if whole else text)
        try:
            chain = protok.read(draft)
            if fingerprint(chain) == target.sha256:
                os.replace(draft, path)
                return server, []
            faults.append(f"{server} has other coordinates ({len(chain)} residues of {target.residues})")
        except ProtokError as error:
            faults.append(f"{server}: {error}")
        draft.unlink()
    return "", faults


def main(arguments: list[str] | None = None) -> None:
    """Fetch what is not there; exit code 1 if a target could not be had."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, default=Path("targets"), help="folder for --data")
    options = parser.parse_args(arguments)
    silent: dict[str, str] = {}
    had: Counter[str] = Counter()
    lacking = []
    for target in targets():
        path = target.path(options.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and fingerprint(protok.read(path)) == target.sha256:
            had["before"] += 1
            continue
        server, faults = fetch(target, path, silent)
        if server:
            had[server] += 1
            print(f"{target.set} {target.id} from {server}", flush=True)
        else:
            lacking.append(target)
            for fault in faults:
                print(f"{target.set} {target.id}: {fault}", flush=True)
    sources = ", ".join(f"{count} from {server}" for server, count in had.items()) or "none"
    print(f"{sum(had.values())} of {len(targets())} targets are in {options.out}/files ({sources})")
    for reason in silent.values():
        print(reason)
    if lacking:
        target = lacking[0]
        raise SystemExit(
            f"{len(lacking)} targets are missing: the same command goes on, where there is a network. From "
            f"another machine bring {options.out}, or single files: {[*target.addresses()][-1]} is "
            f"{target.path(options.out)}"
        )


if __name__ == "__main__":
    without_traceback(main)
