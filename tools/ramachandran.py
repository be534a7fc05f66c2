"""Where phi and psi of proteins lie: the map of `protok.structure.ramachandran`, counted anew.

    python -m tools.ramachandran                      # prints it
    python -m tools.ramachandran STORE MANIFEST       # of other chains

Residues are those of Lovell et al. 2003 (https://doi.org/10.1002/prot.10286): neither glycine nor proline,
nor before a proline; of experimental structures of 2.5 Å or better (tier A of the manifest).
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.paths import SHARED
from protok.structure.descriptors import backbone_torsions
from protok.structure.ramachandran import CELL, cells
from protok.structure.store import read_store

#: Shares of residues inside the regions, as there.
FAVOURED, ALLOWED = 0.98, 0.998


def angles(store: Path, manifest: Path) -> Iterator[np.ndarray]:
    """(n, 2) radians of each chain."""
    with manifest.open() as lines:
        good = {row["id"] for row in csv.DictReader(lines) if row["tier"] == "A"}
    chains = read_store(store)
    for i in range(len(chains)):
        chain = chains.backbone(i)
        if chain.name in good:
            kind = np.array([*chain.sequence])
            usual = ~np.isin(kind, ["G", "P", "X"]) & (np.append(kind[1:], "P") != "P")
            own = backbone_torsions(chain)[usual]
            yield own[np.isfinite(own).all(1)]


def drawn(every: np.ndarray) -> list[str]:
    """The map as rows of text: `#` favoured, `+` allowed, `.` neither."""
    n = 360 // CELL
    count = np.bincount(np.ravel_multi_index(cells(every).T, (n, n)), minlength=n * n)
    order = np.argsort(-count, kind="stable")
    before = np.cumsum(count[order]) - count[order]
    marks = np.full(n * n, ".")
    for share, mark in ((ALLOWED, "+"), (FAVOURED, "#")):
        marks[order[before < share * count.sum()]] = mark
    # psi upwards, phi to the right.
    return ["".join(row) for row in marks.reshape(n, n).T[::-1]]


def main(arguments: list[str]) -> None:
    """Print the map."""
    folder = SHARED / "structures"
    store, manifest = map(Path, arguments or (folder / "train.parquet", folder / "manifest.csv"))
    every = np.concatenate([*angles(store, manifest)])
    print(f"{len(every):,} residues", *drawn(every), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
