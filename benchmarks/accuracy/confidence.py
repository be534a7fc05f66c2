"""How much a residue should count among its neighbours in the confidence of decoded chains.

    python -m benchmarks.accuracy.confidence

Rank correlation of confidence and true lDDT over residues of validation chains, for several weights of the
residue itself; without neighbours it is what the refiner says. `protok.model.confidence.OWN` follows it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from unittest import mock

import numpy as np

import protok
from benchmarks.accuracy.shapes import valid_chains
from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS, SHARED
from benchmarks.tables.provenance import digest, provenance, write
from protok.bench.measures.scores import spearman
from protok.model import confidence
from protok.structure.metrics import lddt

WEIGHTS = (1, 5, 15, 45)
SPACINGS = (16, 8, 4, 2)


def ranks(chains: list, spacing: int) -> dict[str, float]:
    """By weight of a residue beside its neighbours."""
    tokenizer = protok.load("protok-1")
    true, claimed = [], {"alone": [], **{str(weight): [] for weight in WEIGHTS}}
    for chain in chains:
        tokens = tokenizer.encode(chain, keyframes=spacing)
        for weight, of in claimed.items():
            with mock.patch.object(confidence, "OWN", 1e9 if weight == "alone" else int(weight)):
                back = tokenizer.decode(tokens)
            of.append(back.bfactor)
        true.append(lddt(back, chain, per_residue=True))
    good = np.concatenate(true)
    known = np.isfinite(good)
    return {key: spearman(np.concatenate(of)[known], good[known]) for key, of in claimed.items()}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--chains", type=int, default=100)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "confidence.json")
    options = parser.parse_args()
    chains = valid_chains(options.data, options.chains)
    write(
        options.out,
        provenance(
            " ".join(["python -m benchmarks.accuracy.confidence", *sys.argv[1:]]),
            seed=0,
            model=protok.load("protok-1").codebook,
            data_sha256=digest([options.data / "structures" / "valid.parquet"]),
            rank_correlation={str(spacing): ranks(chains, spacing) for spacing in SPACINGS},
        ),
    )


if __name__ == "__main__":
    without_traceback(main)
