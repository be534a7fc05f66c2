"""Labelled residues end to end, what a probe is told, and how its answers are scored."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass

import numpy as np
import torch
from torch import Tensor

from protok.bench.measures import scores


@dataclass(frozen=True)
class Settings:
    """How a probe is trained; part of the cache key and of every result.

    Attributes
    ----------
    name
        Of the preset.
    rates
        Learning rates; the best on validation is reported.
    steps, warmup
        Optimiser steps at most, and steps of linear warm-up; then a tenth of the steps at full
        rate and a cosine down to a tenth of it.
    proteins, domains
        Proteins of a batch (`site`, `value`), domains of one (`class`).
    residues
        Instead of `proteins`: whole proteins until this many residues; 0 is off.
    every, patience
        Steps between validations, and validations without a gain for any rate that end the
        training; 0 is once an epoch, and never.
    train_residues, valid_residues, test_residues
        Residues used at most, in whole proteins drawn at random; 0 is all.
    select
        Metric of the checkpoint of sites, `f1` or `auroc`.
    standardise
        Regress on standardised targets; scores of ranks do not depend on it.
    seeds
        Repetitions; their predictions are scored apart and the scores averaged.
    """

    name: str = "own"
    rates: tuple[float, ...] = (1e-2, 3e-3, 1e-3, 3e-4)
    steps: int = 600
    warmup: int = 30
    proteins: int = 8
    domains: int = 64
    residues: int = 2048
    every: int = 40
    patience: int = 5
    train_residues: int = 160_000
    valid_residues: int = 40_000
    test_residues: int = 100_000
    select: str = "auroc"
    standardise: bool = True
    hidden: int = 512
    dropout: float = 0.1
    decay: float = 0.01
    clip: float = 1.0
    seeds: tuple[int, ...] = (1234,)

    def to_dict(self) -> dict:
        """As plain JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


FAST = Settings(
    name="fast", rates=(1e-2, 1e-3), steps=300, warmup=15, every=30, patience=3, train_residues=60_000
)
PAPER = Settings(
    name="paper",
    rates=(0.1, 0.01, 1e-3, 1e-4, 5e-5, 1e-5, 5e-6, 1e-6),
    steps=10_000,
    warmup=200,
    residues=0,
    every=0,
    patience=0,
    train_residues=0,
    valid_residues=0,
    test_residues=0,
    select="f1",
    standardise=False,
)
#: Ridge or logistic regression on vectors and places; see `protok.bench.measures.linear_probe`.
LINEAR = Settings(name="linear", train_residues=80_000)
#: A transformer over the codes of a chain; see `protok.bench.measures.reader_probe`.
READER = Settings(
    name="reader",
    rates=(3e-3, 1e-3),
    steps=400,
    warmup=20,
    residues=1024,
    every=40,
    patience=3,
    train_residues=80_000,
    dropout=0.2,
)
PRESETS = {preset.name: preset for preset in (FAST, PAPER, LINEAR, READER)}


@dataclass(frozen=True, eq=False)
class Samples:
    """Residues of labelled proteins, end to end.

    Attributes
    ----------
    x : (n,) int64 or (n, d) float32
        Rows of `vectors`, or embeddings.
    vectors : (K + 1, d) float32 or None
        Code vectors; the last row, zeros, stands for a residue without a code.
    position, owner : (n,) int64
        Place in the chain, and number of the protein or domain.
    y : (n,) float32, or (domains,) int64
        Targets: NaN where unlabelled, or classes.
    """

    x: Tensor
    vectors: Tensor | None
    position: Tensor
    owner: Tensor
    y: Tensor

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return (self.x if self.vectors is None else self.vectors).shape[1]

    @property
    def proteins(self) -> int:
        """Number of proteins or domains."""
        return int(self.owner[-1]) + 1 if len(self.owner) else 0

    def input(self, rows: Tensor) -> Tensor:
        """(m, d) vectors of some residues."""
        picked = self.x[rows]
        return picked if self.vectors is None else self.vectors[picked]


@dataclass(frozen=True)
class Fit:
    """What a probe gave: test scores by split, and how it was chosen."""

    scores: dict[str, dict[str, scores.Score]]
    rate: float
    steps: int
    valid: float


def labelled(kind: str, samples: Samples) -> list[Tensor]:
    """Rows of each protein that take part in the loss."""
    sizes = torch.bincount(samples.owner, minlength=samples.proteins).tolist()
    rows = list(torch.arange(len(samples.x)).split(sizes))
    return rows if kind == "class" else [r[torch.isfinite(samples.y[r])] for r in rows]


def scored(kind: str, out: np.ndarray, samples: Samples) -> dict[str, scores.Score]:
    y = samples.y.numpy()
    if kind == "class":
        return scores.of(kind, out, y, np.arange(len(y)))
    known = np.isfinite(y)
    return scores.of(kind, out[known, 0].astype(float), y[known], samples.owner.numpy()[known])


def mean_score(runs: list[dict[str, scores.Score]]) -> dict[str, scores.Score]:
    merged = {}
    for metric in runs[0]:
        values, errors, _, each = zip(*(astuple(run[metric]) for run in runs), strict=True)
        parity = [parity for run in runs if (parity := run[metric].parity) is not None]
        spread = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        error = float(np.hypot(np.mean(errors), spread))
        # A protein has a score with all seeds, or with none.
        means = each[0] and [
            None if own[0] is None else float(np.mean(own)) for own in zip(*each, strict=True)
        ]
        merged[metric] = scores.Score(
            float(np.mean(values)), error, float(np.mean(parity)) if parity else None, means
        )
    return merged
