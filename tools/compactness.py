"""How compact native chains are: the numbers of `protok.prior.steering`, counted anew.

python -m tools.compactness                       # prints them
python -m tools.compactness STORE                 # of other chains
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.paths import RUNS
from protok.prior.steering import EVERY, FROM, measures, terms
from protok.structure.backbone import SURE_BOND, bond_lengths
from protok.structure.store import read_store

#: Chains, of so many residues.
CHAINS, LENGTHS = 2000, (50, 400)


def main(arguments: list[str]) -> None:
    """Print the regression of measures of the beginnings of chains, and the precision of what it leaves."""
    store = read_store(Path(arguments[0]) if arguments else RUNS / "data" / "train.parquet")
    length = store.lengths()
    fits = np.flatnonzero((length >= LENGTHS[0]) & (length <= LENGTHS[1]))
    x, y = [], []
    for i in np.random.default_rng(0).permutation(fits)[:CHAINS]:
        chain = store.backbone(int(i))
        if not chain.mask.all() or (bond_lengths(chain.coords) >= SURE_BOND).any():
            continue
        ca = chain.coords[:, 1].astype(float)
        for n in {*range(FROM, len(ca), 4 * EVERY), len(ca)}:
            x.append(terms(ca[:n], len(ca)))
            y.append(measures(ca[:n]))
    x, y = np.array(x), np.array(y)
    factors = np.linalg.lstsq(x, y, rcond=None)[0].T
    left = y - x @ factors.T
    print(f"{len(x)} beginnings of chains; spread {left.std(0).round(3)} of {y.std(0).round(3)}")
    print("FACTORS =", np.round(factors, 4).tolist())
    print("PRECISION =", np.round(np.linalg.inv(np.cov(left.T)), 3).tolist())


if __name__ == "__main__":
    main(sys.argv[1:])
