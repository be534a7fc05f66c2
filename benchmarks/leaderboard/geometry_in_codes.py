"""What a code says of its residue: its place in the chain, or what is around it?

    python -m benchmarks.leaderboard.geometry_in_codes --data ../shared/structtokenbench

Four geometric facts are predicted from the code alone (the mean over residues with that code), or
by ridge regression from an embedding, learnt on half of the chains and scored on the other half by
the share of variance explained. It is why tokenizers differ on tasks that do need labels. Rows of
models that are gone stay in the result.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.command import without_traceback
from benchmarks.leaderboard.run import ROWS
from benchmarks.paths import RESULTS, SHARED
from benchmarks.tables.provenance import provenance, write
from benchmarks.tables.speed import BEFORE
from protok import bench
from protok.bench.data.source import digest
from protok.bench.representations.controls import neighbours
from protok.structure.backbone import Backbone

#: Of the leaderboard those that see the backbone alone, ProteinMPNN aside.
MODELS = tuple(name for name in ROWS if name.startswith(("3di", "protein-blocks", "protok")))
FAR = 8  # residues apart in the sequence


def facts(chain: Backbone) -> dict[str, np.ndarray]:
    """Geometry of each residue, (L,); NaN where it cannot be known."""
    ca = chain.coords[:, 1].astype(np.float64)
    apart = np.linalg.norm(ca[:, None] - ca, axis=-1)
    away = np.abs(np.subtract.outer(np.arange(len(ca)), np.arange(len(ca)))) > FAR
    span = np.full(len(ca), np.nan)
    span[2:-2] = np.linalg.norm(ca[4:] - ca[:-4], axis=1)
    return {
        "distance from the centre of the chain": np.linalg.norm(ca - np.nanmean(ca, 0), axis=1),
        "distance from CA i-2 to CA i+2 (local shape)": span,
        "CA within 10 Å (burial)": neighbours(chain, 10.0).astype(float),
        "CA within 8 Å, far in sequence (contacts)": ((apart < 8) & away).sum(1).astype(float),
    }


def explained(who: bench.Representation, train: list, test: list, wanted: list[dict]) -> dict[str, float]:
    """Share of the variance of each fact that the output of a residue explains."""
    parts = [np.concatenate(who.outputs(chains)) for chains in (train, test)]
    known = [p >= 0 if p.ndim == 1 else np.isfinite(p).all(1) for p in parts]
    scores = {}
    for name in wanted[0][0]:
        y = [np.concatenate([facts[name] for facts in half]) for half in wanted]
        rows = [k & np.isfinite(v) for k, v in zip(known, y, strict=True)]
        x = [p[r] for p, r in zip(parts, rows, strict=True)]
        fitted = (_by_code if x[0].ndim == 1 else _ridge)(x, y[0][rows[0]], who.size)
        true = y[1][rows[1]]
        scores[name] = round(float(1 - np.mean((true - fitted) ** 2) / true.var()), 3)
    return scores


def _by_code(x: list[np.ndarray], y: np.ndarray, size: int) -> np.ndarray:
    # A code that was never seen, or once, is worth little more than the mean of all.
    count, total = np.bincount(x[0], minlength=size), np.bincount(x[0], y, size)
    return ((total + 2 * y.mean()) / (count + 2))[x[1]]


def _ridge(x: list[np.ndarray], y: np.ndarray, size: int) -> np.ndarray:
    mean, spread = x[0].mean(0), x[0].std(0) + 1e-6
    a, b = ((half - mean) / spread for half in x)
    gram = a.T @ a + len(a) * 1e-4 * np.eye(a.shape[1])
    return b @ np.linalg.solve(gram, a.T @ (y - y.mean())) + y.mean()


def main() -> None:
    """Score every tokenizer; one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED / "structtokenbench")
    parser.add_argument("--set", default="CAMEO2022_eigenfold")
    parser.add_argument("--model", action="append", default=[], help="instead of the usual ones")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "geometry_in_codes.json")
    options = parser.parse_args()
    folder = bench.open_data(options.data)
    ids = folder.sets()[options.set]
    chains = [folder.structure(id) for id in ids]
    halves = chains[::2], chains[1::2]
    wanted = [[facts(chain) for chain in half] for half in halves]
    old = json.loads(options.out.read_text())["explained"] if options.out.exists() else {}
    rows = {name: shares for name, shares in old.items() if name.startswith(BEFORE)}
    for name in options.model or MODELS:
        who = bench.representation(name)
        rows[who.name] = explained(who, *halves, wanted)
        print(who.name, rows[who.name], flush=True)
    about = provenance(
        "python -m benchmarks.leaderboard.geometry_in_codes", set=options.set, chains=list(map(len, halves))
    )
    write(options.out, about | {"sha256": digest(folder, [], ids), "explained": rows})


if __name__ == "__main__":
    without_traceback(main)
