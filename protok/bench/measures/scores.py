"""Scores of predictions, with standard errors by bootstrap over proteins.

Residues of one protein are not independent, so whole proteins are drawn with replacement.
All scores take a weight a residue (how often its protein was drawn), which makes a resample
one pass over values that were sorted once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 200
#: Proteins of a mini-batch in the reference, whose metrics are means over mini-batches.
PARITY_BATCH = {"site": 8, "class": 64}


@dataclass(frozen=True)
class Score:
    """A value, its standard error over proteins, the mean over mini-batches, and that of each protein."""

    value: float
    se: float = float("nan")
    parity: float | None = None
    each: list[float | None] | None = None

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.se:.3f}"


def mean_of(values: ArrayLike) -> Score:
    """Mean of the values that are finite, with its standard error; NaN where there are too few."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    if not len(known):
        return Score(float("nan"))
    se = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")
    return Score(float(known.mean()), se)


def ratio_of(parts: ArrayLike, wholes: ArrayLike) -> Score:
    """Sum of parts over sum of wholes, a number of each for a protein; NaN where there is nothing."""
    above, below = np.asarray(parts, float), np.asarray(wholes, float)

    def ratio(weight: np.ndarray) -> float:
        whole = float((weight * below).sum())
        return float((weight * above).sum()) / whole if whole else float("nan")

    return Score(ratio(np.ones(len(below))), bootstrap(ratio, len(below)))


def values(scores: Any) -> Any:
    """The values of scores, in dicts of dicts as they are."""
    if isinstance(scores, Score):
        return scores.value
    return {key: values(own) for key, own in scores.items()} if isinstance(scores, dict) else scores


class _Ranks:
    """Weighted mid-ranks of values that do not change while their weights do."""

    def __init__(self, x: np.ndarray):
        self.order = np.argsort(x, kind="stable")
        ordered = x[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self.group = np.empty(len(x), np.int64)
        self.group[self.order] = np.repeat(np.arange(len(self.starts)), np.diff(np.r_[self.starts, len(x)]))

    def sums(self, weight: np.ndarray) -> np.ndarray:
        """Weight of each group of equal values, in rising order."""
        return np.add.reduceat(weight[self.order], self.starts)

    def __call__(self, weight: np.ndarray) -> np.ndarray:
        total = self.sums(weight)
        return (np.cumsum(total) - total / 2)[self.group]


def auroc(score: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve, ties half; NaN where only one class is present."""
    return _auroc(_Ranks(score), label, np.ones(len(score)))


def _auroc(ranks: _Ranks, label: np.ndarray, weight: np.ndarray) -> float:
    positive = ranks.sums(weight * label)
    negative = ranks.sums(weight * (1 - label))
    p, n = positive.sum(), negative.sum()
    if not p or not n:
        return float("nan")
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / (p * n))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation with mid-ranks; NaN where one side is constant."""
    return _weighted_spearman(_Ranks(x), _Ranks(y), np.ones(len(x)))


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Linear correlation; NaN where one side is constant."""
    return _correlation(np.asarray(x, float), np.asarray(y, float), np.ones(len(x)))


def _correlation(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    total = weight.sum()
    x = x - (weight * x).sum() / total
    y = y - (weight * y).sum() / total
    spread = np.sqrt((weight * x * x).sum() * (weight * y * y).sum())
    # Relative to the size of the values: a constant leaves only rounding behind.
    return float((weight * x * y).sum() / spread) if spread > 1e-12 * total else float("nan")


def macro_f1(predicted: np.ndarray, label: np.ndarray) -> float:
    """Mean F1 over the classes that occur in labels or predictions."""
    return _macro_f1(predicted, label, np.ones(len(label)))


def _macro_f1(predicted: np.ndarray, label: np.ndarray, weight: np.ndarray) -> float:
    size = int(max(predicted.max(), label.max())) + 1
    right = np.bincount(label, weight * (predicted == label), size)
    either = np.bincount(label, weight, size) + np.bincount(predicted, weight, size)
    return float((2 * right[either > 0] / either[either > 0]).mean())


def bootstrap(
    value: Callable[[np.ndarray], float], proteins: int, seed: int = 0, resamples: int = RESAMPLES
) -> float:
    """Standard error of `value(weights)`, weights the times each of the proteins was drawn."""
    if proteins < 2:
        return float("nan")
    random = np.random.default_rng(seed)
    values = [
        value(np.bincount(random.integers(0, proteins, proteins), minlength=proteins).astype(float))
        for _ in range(resamples)
    ]
    values = [score for score in values if np.isfinite(score)]
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def site_scores(score: np.ndarray, label: np.ndarray, protein: np.ndarray) -> dict[str, Score]:
    """AUROC and average precision over residues, and the mean AUROC within proteins.

    Which of the residues of a chain are meant, `auroc_within` asks alone, over the proteins that have some
    and not only such: length and place of a chain, which say much of all residues together, say nothing
    there. `protein` numbers them from 0.

    `parity` of the AUROC is the mean over mini-batches of 8 proteins in file order, as the reference reports
    it; batches with one class only are left out.
    """
    n = int(protein.max()) + 1
    ranks = _Ranks(score)
    once, batch = np.ones(len(label)), PARITY_BATCH["site"]
    parity = _by_batches(lambda m: auroc(score[m], label[m]), protein, batch)
    error = bootstrap(lambda w: _auroc(ranks, label, w[protein]), n)
    precision_error = bootstrap(lambda w: _precision(ranks, label, w[protein]), n)
    return {
        "auroc": Score(_auroc(ranks, label, once), error, parity),
        "auroc_within": _of_each(auroc, score, label, protein, n),
        "average_precision": Score(_precision(ranks, label, once), precision_error),
    }


def _of_each(
    value: Callable[[np.ndarray, np.ndarray], float],
    score: np.ndarray,
    label: np.ndarray,
    protein: np.ndarray,
    n: int,
) -> Score:
    """Mean over n proteins, and the value of each."""
    order = np.argsort(protein, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(protein, minlength=n))[:-1])
    each = [value(score[own], label[own]) if len(own) else float("nan") for own in rows]
    return replace(mean_of(each), each=[round(v, 5) if np.isfinite(v) else None for v in each])


def _precision(ranks: _Ranks, label: np.ndarray, weight: np.ndarray) -> float:
    positive = ranks.sums(weight * label)[::-1]
    every = ranks.sums(weight)[::-1]
    if not positive.sum():
        return float("nan")
    taken = np.cumsum(every)
    precision = np.divide(np.cumsum(positive), taken, out=np.zeros_like(taken), where=taken > 0)
    return float((positive * precision).sum() / positive.sum())


def value_scores(score: np.ndarray, label: np.ndarray, protein: np.ndarray) -> dict[str, Score]:
    """Spearman over all residues (as the reference), and the mean of it over proteins."""
    n = int(protein.max()) + 1
    x, y = _Ranks(score), _Ranks(label)
    # Some may have no label: they are not drawn.
    drawn = np.unique(protein, return_inverse=True)[1]
    error = bootstrap(lambda w: _weighted_spearman(x, y, w[drawn]), int(drawn.max()) + 1)
    each = _of_each(spearman, score, label, protein, n)
    return {"spearman": Score(spearman(score, label), error), "spearman_per_protein": each}


def _weighted_spearman(x: _Ranks, y: _Ranks, weight: np.ndarray) -> float:
    return _correlation(x(weight), y(weight), weight)


def class_scores(logits: np.ndarray, label: np.ndarray) -> dict[str, Score]:
    """Macro F1 and accuracy over domains; `parity` is the mean over mini-batches of 64."""
    predicted, n = logits.argmax(1), len(label)
    parity = _by_batches(lambda m: macro_f1(predicted[m], label[m]), np.arange(n), PARITY_BATCH["class"])
    error = bootstrap(lambda w: _macro_f1(predicted, label, w), n)
    f1 = Score(macro_f1(predicted, label), error, parity)
    return {"macro_f1": f1, "accuracy": mean_of(predicted == label)}


def _by_batches(value: Callable[[np.ndarray], float], protein: np.ndarray, size: int) -> float:
    values = [value(protein // size == i) for i in range(int(protein.max()) // size + 1)]
    return mean_of(values).value


def of(kind: str, score: np.ndarray, label: np.ndarray, protein: np.ndarray) -> dict[str, Score]:
    """The scores of a kind of table: `site`, `value` or `class`."""
    if kind == "class":
        return class_scores(score, label)
    return (site_scores if kind == "site" else value_scores)(score, label, protein)
