"""Place the steps of the reference codec by k-means on training chains.

    python -m benchmarks.accuracy.reference_codec --train ../shared/structures/train.parquet

Writes the table that `protok bench --model reference-codec-9` reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.command import without_traceback
from benchmarks.paths import SHARED
from protok.bench.representations.reference_codec import BITS, TABLES, steps_between
from protok.quantize.centres import kmeans
from protok.structure.store import read_store

#: Chains that steps are of, and rounds of k-means.
CHAINS, ROUNDS, SEED = 1000, 40, 0


def main(arguments: list[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, default=SHARED / "structures" / "train.parquet")
    parser.add_argument("-o", "--out", type=Path, default=TABLES)
    options = parser.parse_args(arguments)
    store, rng = read_store(options.train), np.random.default_rng(SEED)
    steps = []
    for i in rng.choice(len(store), CHAINS, p=store.weight):
        coords = torch.from_numpy(store.coords(int(i)))
        steps.append(steps_between(coords, coords[:, :3].isfinite().all(-1).all(-1)))
    every, tables = torch.cat(steps), {}
    for bits in BITS:
        torch.manual_seed(SEED)
        tables[f"bits_{bits}"] = kmeans(every, 1 << bits, ROUNDS)[0].numpy()
        print(f"{bits} bits: {len(every)} steps")
    np.savez_compressed(options.out, **tables)


if __name__ == "__main__":
    without_traceback(main)
