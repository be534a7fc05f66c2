"""The second opinion: ridge and logistic regression, in seconds.

Sites: logistic regression with balanced classes by Newton's method. Values: ridge regression.
Classes: ridge regression onto one-hot classes from mean vectors.

The penalty is chosen by cross-validation over the proteins of training and validation together:
many tables have a dozen validation proteins or fewer, which choose by luck. Of the penalties that
are not worse than the best by more than a standard error, the strongest is taken (Breiman et al.
1984), since relatives in two folds speak for weak ones.

Beside the vector of a residue the regression has its place in the chain: the paper's probe has
learned positions, and on some tables place and length alone say much (the control `random-code`
shows how much). Place is not what is asked of a tokenizer, so it is not penalised with the
vector: a strong penalty on many dimensions would take it from wide tokenizers first. Scores with `ALONE`
behind their names are of a second regression, on the vector without its place.
"""

from __future__ import annotations

import numpy as np
import torch

from protok.bench.measures import scores
from protok.bench.measures.samples import Fit, Samples, labelled, scored

#: From strong to weak, as shares of a thousandth of the residues' weight.
PENALTIES = (1e4, 1e3, 100.0, 10.0, 1.0, 0.1, 1e-2)
FOLDS = 5
NEWTON = 25
PLACES = 8  # columns of `_place`
ALONE = "_alone"
STILL = 1e-4  # change of a standardised coefficient that ends Newton's method
ROWS = 16_384  # residues at once: bounds memory


def fit(kind: str, train: Samples, valid: Samples, tests: dict[str, Samples], classes: int) -> Fit:
    """Choose the penalty by cross-validation, fit on all but the test splits, score on those."""
    samples = _joined(train, valid)
    whole, alone = (_fit(kind, samples, tests, classes, places) for places in (PLACES, 0))
    for split, scored_alone in alone.scores.items():
        whole.scores[split].update({metric + ALONE: score for metric, score in scored_alone.items()})
    return whole


def _fit(kind: str, samples: Samples, tests: dict[str, Samples], classes: int, places: int) -> Fit:
    """One regression, on vectors with so many columns of places beside them."""
    x, y, protein = _design(kind, samples, classes, places)
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    x = _bordered((x - mean) / spread)
    weight = _balanced(y[:, 0]) if kind == "site" else np.ones(len(x))
    penalty, value = _penalty(kind, x, y, weight, protein, places)
    beta = (_logistic if kind == "site" else _ridge)(x, y, weight, penalty, places)
    out = {name: _predict(kind, beta, mean, spread, of, places) for name, of in tests.items()}
    return Fit({name: scored(kind, out[name], of) for name, of in tests.items()}, penalty, 0, value)


def _joined(first: Samples, second: Samples) -> Samples:
    return Samples(
        torch.cat([first.x, second.x]),
        first.vectors,
        torch.cat([first.position, second.position]),
        torch.cat([first.owner, second.owner + first.proteins]),
        torch.cat([first.y, second.y]),
    )


def _balanced(y: np.ndarray) -> np.ndarray:
    """Weights with which both classes count alike."""
    half, positive = len(y) / 2, y.sum()
    return np.where(y > 0, half / max(positive, 1), half / max(len(y) - positive, 1))


def _penalty(
    kind: str, x: np.ndarray, y: np.ndarray, weight: np.ndarray, protein: np.ndarray, places: int
) -> tuple[float, float]:
    """The penalty, and its mean score over folds of proteins, by least squares.

    Also for sites: squares need one product of matrices a fold for all penalties.
    """
    fold = np.random.default_rng(0).permutation(int(protein.max()) + 1)[protein] % FOLDS
    folds = [fold == i for i in range(FOLDS) if (fold == i).any()]
    gram = [(x[rows] * weight[rows, None]).T @ x[rows] for rows in folds]
    target = [(x[rows] * weight[rows, None]).T @ y[rows] for rows in folds]
    score = np.full((len(PENALTIES), len(folds)), np.nan)
    for j, rows in enumerate(folds):
        rest, aim = sum(gram) - gram[j], sum(target) - target[j]
        for i, penalty in enumerate(PENALTIES):
            out = x[rows] @ _solved(rest, aim, _ridges(x.shape[1], penalty, places) * weight[~rows].sum())
            score[i, j] = _score(kind, out, y[rows])
    score = score[:, np.isfinite(score).all(0)]
    if not score.size:  # no fold has both classes
        return PENALTIES[len(PENALTIES) // 2], float("nan")
    mean = score.mean(1)
    best = int(mean.argmax())
    worse = score[best] - score
    error = worse.std(1, ddof=1) / np.sqrt(score.shape[1]) if score.shape[1] > 1 else 0 * mean
    chosen = int(np.flatnonzero(worse.mean(1) <= error)[0])
    return PENALTIES[chosen], float(mean[chosen])


def _score(kind: str, out: np.ndarray, y: np.ndarray) -> float:
    """Score of a fold: AUROC, Spearman or macro F1."""
    if kind == "class":
        return scores.macro_f1(out.argmax(1), y.argmax(1))
    return (scores.auroc if kind == "site" else scores.spearman)(out[:, 0], y[:, 0])


def _bordered(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _place(samples: Samples) -> np.ndarray:
    """(n, 8): distance to both ends, linear, by logarithm and relative, the nearer one, length."""
    owner = samples.owner.numpy()
    length = np.bincount(owner)[owner]
    before = samples.position.numpy().astype(np.float64)
    after = length - 1 - before
    places = (before, after, np.minimum(before, after), length)
    logarithms = (np.log1p(before), np.log1p(after), np.log(length))
    return np.stack([*places, *logarithms, before / length], axis=1)


def _rows(samples: Samples, rows: np.ndarray | slice, places: int) -> np.ndarray:
    x = samples.input(torch.arange(len(samples.x))[rows]).numpy().astype(np.float64)
    return np.concatenate([x, _place(samples)[rows, :places]], axis=1)


def _pooled(samples: Samples, places: int) -> np.ndarray:
    place, out = _place(samples)[:, :places], []
    for rows in labelled("class", samples):
        mean = samples.input(rows).numpy().astype(np.float64).mean(0)
        out.append(np.concatenate([mean, place[rows.numpy()].mean(0)]))
    return np.stack(out)


def _design(kind: str, samples: Samples, classes: int, places: int):
    """Features, targets (n, outputs), and the protein or domain of each row."""
    y = samples.y.numpy()
    if kind == "class":
        onehot = np.eye(classes)[y]
        return _pooled(samples, places), onehot - onehot.mean(0), np.arange(len(y))
    known = np.isfinite(y)
    return _rows(samples, known, places), y[known, None].astype(np.float64), samples.owner.numpy()[known]


def _solved(gram: np.ndarray, target: np.ndarray, ridges: np.ndarray) -> np.ndarray:
    gram = gram.copy()
    gram[np.diag_indices(len(gram))] += ridges
    return np.linalg.solve(gram, target)


def _ridges(width: int, penalty: float, places: int) -> np.ndarray:
    """What a unit of weight adds to the diagonal: next to nothing for place and constant."""
    ridges = np.full(width, penalty / 1000)
    ridges[-places - 1 : -1] = PENALTIES[-1] / 1000
    ridges[-1] = 1e-9
    return ridges


def _ridge(x: np.ndarray, y: np.ndarray, weight: np.ndarray, penalty: float, places: int) -> np.ndarray:
    weighted = x * weight[:, None]
    return _solved(weighted.T @ x, weighted.T @ y, _ridges(x.shape[1], penalty, places) * weight.sum())


def _logistic(x: np.ndarray, y: np.ndarray, weight: np.ndarray, penalty: float, places: int) -> np.ndarray:
    y = y[:, 0]
    # Curvature only directs the steps; the gradient, which decides where they end, is exact.
    coarse = x.astype(np.float32)
    ridge = _ridges(x.shape[1], penalty, places) * weight.sum()
    beta = np.zeros(x.shape[1])
    for _ in range(NEWTON):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        gradient = x.T @ (weight * (p - y)) + ridge * beta
        curvature = np.maximum(weight * p * (1 - p), 1e-9)
        hessian = ((coarse * curvature[:, None].astype(np.float32)).T @ coarse).astype(np.float64)
        hessian[np.diag_indices(len(hessian))] += ridge + 1e-9
        move = np.linalg.solve(hessian, gradient)
        # Separable data would run away: a Newton step is bounded.
        beta -= move * min(1.0, 5 / (np.abs(move).max() + 1e-12))
        if np.abs(move).max() < STILL:
            break
    return beta[:, None]


def _predict(kind: str, beta: np.ndarray, mean, spread, samples: Samples, places: int) -> np.ndarray:
    if kind == "class":
        return _bordered((_pooled(samples, places) - mean) / spread) @ beta
    n = len(samples.x)
    parts = [slice(i, min(i + ROWS, n)) for i in range(0, n, ROWS)]
    inputs = (_bordered((_rows(samples, part, places) - mean) / spread) for part in parts)
    return np.concatenate([x @ beta for x in inputs])
