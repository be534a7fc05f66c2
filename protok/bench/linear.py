"""The second opinion: ridge and logistic regression, in seconds.

Sites: logistic regression with balanced classes by Newton's method. Values: ridge regression.
Classes: ridge regression onto one-hot classes from mean vectors. The penalty is swept on
validation. Beside the vector of a residue the regression has its place in the chain: the
paper's probe has learned positions, and on some tables place and length alone say much (the
control `random-code` shows how much).
"""

from __future__ import annotations

import numpy as np
import torch

from protok.bench.probe import Fit, Samples, labelled, scored, validity

#: From strong to weak: each fit starts where the one before ended.
PENALTIES = (100.0, 1.0, 1e-2, 1e-4)
NEWTON = 25
STILL = 1e-4  # change of a standardised coefficient that ends Newton's method
ROWS = 16_384  # residues at once: bounds memory


def fit(kind: str, train: Samples, valid: Samples, tests: dict[str, Samples], classes: int) -> Fit:
    """Fit with each penalty, keep the best on validation, score on the test splits."""
    x, y, weight = _design(kind, train, classes)
    mean = np.average(x, axis=0, weights=weight)
    spread = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight)) + 1e-6
    x = _bordered((x - mean) / spread)
    best, value, chosen = None, -np.inf, PENALTIES[0]
    found = np.zeros((x.shape[1], 1))
    for penalty in PENALTIES:
        if kind == "site":
            found = _logistic(x, y, weight, penalty, found[:, 0])
        else:
            found = _ridge(x, y, weight, penalty)
        now = validity(kind, _predict(kind, found, mean, spread, valid), valid, "auroc")
        if best is None or now > value:
            best, value, chosen = found, now, penalty
    result = {
        name: scored(kind, _predict(kind, best, mean, spread, samples), samples)
        for name, samples in tests.items()
    }
    return Fit(result, chosen, 0, float(value))


def _bordered(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _place(samples: Samples) -> np.ndarray:
    """(n, 6): distance to both ends, linear and by logarithm, the nearer one, and the length."""
    owner = samples.owner.numpy()
    length = np.bincount(owner)[owner]
    before = samples.position.numpy().astype(np.float64)
    after = length - 1 - before
    return np.stack(
        [before, after, np.minimum(before, after), length, 20 * np.log1p(before),
         20 * np.log1p(after)], axis=1,
    ) / 100  # fmt: skip


def _rows(samples: Samples, rows: np.ndarray | slice) -> np.ndarray:
    x = samples.input(torch.arange(len(samples.x))[rows]).numpy().astype(np.float64)
    return np.concatenate([x, _place(samples)[rows]], axis=1)


def _pooled(samples: Samples) -> np.ndarray:
    place = _place(samples)
    return np.stack(
        [
            np.concatenate([samples.input(rows).numpy().astype(np.float64).mean(0),
                            place[rows.numpy()].mean(0)])
            for rows in labelled("class", samples)
        ]
    )  # fmt: skip


def _design(kind: str, train: Samples, classes: int):
    if kind == "class":
        y = np.eye(classes)[train.y.numpy()]
        return _pooled(train), y - y.mean(0), np.ones(len(y))
    y = train.y.numpy().astype(np.float64)
    known = np.isfinite(y)
    return _rows(train, known), y[known, None], np.ones(int(known.sum()))


def _ridge(x: np.ndarray, y: np.ndarray, weight: np.ndarray, penalty: float) -> np.ndarray:
    gram = (x * weight[:, None]).T @ x
    gram[np.diag_indices(len(gram) - 1)] += penalty * weight.sum() / 1000
    gram[-1, -1] += 1e-9
    return np.linalg.solve(gram, (x * weight[:, None]).T @ y)


def _logistic(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, penalty: float, start: np.ndarray
) -> np.ndarray:
    y = y[:, 0]
    # Curvature only directs the steps; the gradient, which decides where they end, is exact.
    coarse = x.astype(np.float32)
    positive = weight @ y
    half = weight.sum() / 2
    balance = np.where(y > 0, half / max(positive, 1), half / max(2 * half - positive, 1))
    weight = weight * balance
    ridge = np.full(x.shape[1], penalty * weight.sum() / 1000)
    ridge[-1] = 1e-9
    beta = start.copy()
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


def _predict(kind: str, beta: np.ndarray, mean, spread, samples: Samples) -> np.ndarray:
    if kind == "class":
        return _bordered((_pooled(samples) - mean) / spread) @ beta
    n = len(samples.x)
    parts = [slice(i, min(i + ROWS, n)) for i in range(0, n, ROWS)]
    return np.concatenate(
        [_bordered((_rows(samples, part) - mean) / spread) @ beta for part in parts]
    )
