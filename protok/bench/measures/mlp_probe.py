"""The probe of StructTokenBench: a small network on frozen code vectors, all learning rates at once.

Input: the code vector (or embedding) of a residue plus a learned vector of its position in the
chain, LayerNorm, dropout, d -> 512 -> outputs with ReLU and dropout. The learning rates are
swept as one batched computation: parameters carry a leading dimension, a rate each, and share
batches and dropout masks, so their differences are the rate's own.

`PAPER` is the protocol of arXiv:2503.00089: 10,000 steps, eight rates, batches of 8 proteins
(64 domains), best checkpoint by validation F1 or Spearman once an epoch. `FAST`, the default,
differs by what its fields say: two rates, batches of about 2048 residues, at most 300 steps,
no more than 60,000 training, 40,000 validation and 100,000 test residues (whole proteins, drawn
at random), checkpoints by validation AUROC, targets of regressions standardised, and an end once
no rate has improved for 3 validations. What neither does is use the sequence.
"""  # noqa: E501

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from protok.bench.measures import scores
from protok.bench.measures.samples import Fit, Samples, Settings, labelled, mean_score, scored

#: Positions that have a vector of their own; later ones share the last.
POSITIONS = 700
#: Standard deviation of the initial position vectors: as in transformers, not nn.Embedding's 1,
#: which would drown one-hot codes.
POSITION_SCALE = 0.02


class _ProbesByRate:
    """One network a learning rate, in stacked parameters, with AdamW of a rate each."""

    def __init__(self, dim: int, outputs: int, settings: Settings, generator: torch.Generator):
        self.settings = settings
        n, hidden = len(settings.rates), settings.hidden

        def uniform(*shape: int, fan: int) -> Tensor:  # as nn.Linear; alike for all rates
            return (torch.rand(shape, generator=generator) * 2 - 1).div(math.sqrt(fan))

        positions = torch.randn(POSITIONS, dim, generator=generator) * POSITION_SCALE
        start = {
            "position": positions,
            "scale": torch.ones(1, dim),
            "shift": torch.zeros(1, dim),
            "w1": uniform(dim, hidden, fan=dim),
            "b1": uniform(1, hidden, fan=dim),
            "w2": uniform(hidden, outputs, fan=hidden),
            "b2": uniform(1, outputs, fan=hidden),
        }
        self.parameters = {
            key: value.expand(n, *value.shape).clone().requires_grad_() for key, value in start.items()
        }
        self.rates = torch.tensor(settings.rates).view(-1, 1, 1)
        self.moments = {k: (torch.zeros_like(v), torch.zeros_like(v)) for k, v in self.parameters.items()}
        self.generator = generator
        self.count = 0

    def _mask(self, shape: tuple[int, ...]) -> Tensor:
        keep = 1 - self.settings.dropout
        return torch.empty(shape).bernoulli_(keep, generator=self.generator).div_(keep)

    def trunk(self, samples: Samples, rows: Tensor, parameters: dict, train: bool) -> Tensor:
        at = samples.position[rows].clamp(max=POSITIONS - 1)
        h = samples.input(rows) + parameters["position"].index_select(1, at)
        h = F.layer_norm(h, h.shape[-1:], eps=1e-12) * parameters["scale"] + parameters["shift"]
        return h * self._mask(h.shape[1:]) if train else h

    def head(self, h: Tensor, parameters: dict, train: bool) -> Tensor:
        mask = self._mask((h.shape[1], self.settings.hidden)) if train else None
        out = []
        # Rate by rate, forwards and so backwards too: what one needs stays in the cache.
        for i, inputs in enumerate(h):
            w1, b1, w2, b2 = (parameters[key][i] for key in ("w1", "b1", "w2", "b2"))
            inner = torch.addmm(b1, inputs, w1).relu_()
            out.append(torch.addmm(b2, inner if mask is None else inner * mask, w2))
        return torch.stack(out)

    def step(self, loss: Tensor) -> None:
        """One AdamW step on the sum of the losses of all rates, each clipped by its own norm."""
        names = list(self.parameters)
        grads = torch.autograd.grad(loss.sum(), [self.parameters[name] for name in names])
        norm = torch.sqrt(sum((g.square().sum((1, 2), keepdim=True) for g in grads), torch.zeros(())))
        shrink = (self.settings.clip / (norm + 1e-6)).clamp(max=1)
        self.count += 1
        beta1, beta2 = 0.9, 0.98
        rate = self.rates * schedule(self.count, self.settings)
        with torch.no_grad():
            for name, grad in zip(names, grads, strict=True):
                grad = grad * shrink
                mean, square = self.moments[name]
                mean.lerp_(grad, 1 - beta1)
                square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
                value = self.parameters[name]
                if name in ("w1", "w2", "position"):
                    value.mul_(1 - rate * self.settings.decay)
                spread = square.div(1 - beta2**self.count).sqrt_().add_(1e-8)
                value.sub_(rate / (1 - beta1**self.count) * mean / spread)


def schedule(step: int, settings: Settings) -> float:
    """Share of the learning rate at a step: warm-up, plateau, cosine down to a tenth."""
    if step <= settings.warmup:
        return step / settings.warmup
    plateau = settings.warmup + settings.steps // 10
    u = min(max(step - plateau, 0) / max(settings.steps - plateau, 1), 1.0)
    return 0.1 + 0.9 * (1 + math.cos(math.pi * u)) / 2


def loss_of(kind: str, out: Tensor, y: Tensor) -> Tensor:
    """Loss a rate, (R,): balanced cross-entropy, mean square error, or cross-entropy.

    Parameters
    ----------
    out : (R, m, outputs)
    y : (m,)
    """
    if kind == "class":
        return torch.stack([F.cross_entropy(logits, y) for logits in out])
    out = out[..., 0]
    if kind == "value":
        return (out - y).square().mean(1)
    m, positive = len(y), float(y.sum())
    weight = torch.where(y > 0, m / 2 / max(positive, 1.0), m / 2 / max(m - positive, 1.0))
    each = F.binary_cross_entropy_with_logits(out, y.expand_as(out), reduction="none")
    return (each * weight).mean(1)


def fit(
    kind: str, train: Samples, valid: Samples, tests: dict[str, Samples], classes: int, settings: Settings
) -> Fit:
    """Train on one split, choose rate and checkpoint on another, score on the rest.

    Parameters
    ----------
    kind
        `site`, `value` or `class`.
    classes
        Number of classes, for `class`.

    Returns
    -------
    Fit
        Scores averaged over seeds; a standard error is that over proteins, with the spread
        between seeds added in quadrature.
    """
    if kind == "value" and settings.standardise:
        known = train.y[torch.isfinite(train.y)]
        train = replace(train, y=(train.y - known.mean()) / (known.std() + 1e-8))
    runs = []
    for seed in settings.seeds:
        generator = torch.Generator().manual_seed(seed)
        stack = _ProbesByRate(train.dim, classes if kind == "class" else 1, settings, generator)
        best, value, rate, steps = _train(kind, stack, train, valid)
        each = {name: scored(kind, _predict(kind, stack, best, of)[0], of) for name, of in tests.items()}
        runs.append((each, value, rate, steps))
    merged = {name: mean_score([run[0][name] for run in runs]) for name in tests}
    return Fit(merged, runs[0][2], runs[0][3], float(np.mean([run[1] for run in runs])))


def _train(kind: str, stack: _ProbesByRate, train: Samples, valid: Samples):
    settings = stack.settings
    random = np.random.default_rng(int(torch.randint(2**31, (1,), generator=stack.generator)))
    rows = labelled(kind, train)
    if kind != "class":
        rows = [residues for residues in rows if len(residues)]
    if not rows:
        raise ValueError("no labelled residue to train on")
    best = {key: value.detach().clone() for key, value in stack.parameters.items()}
    values = np.full(len(settings.rates), -np.inf)
    at, stale, done = np.zeros(len(settings.rates), int), 0, False
    while not done:
        for group in _batches(kind, rows, random, settings):
            if stack.count >= settings.steps or (settings.patience and stale >= settings.patience):
                done = True
                break
            picked = torch.cat([rows[i] for i in group])
            h = stack.trunk(train, picked, stack.parameters, True)
            if kind == "class":
                h = _pool(h, [len(rows[i]) for i in group])
                y = train.y[torch.tensor(group)]
            else:
                y = train.y[picked]
            stack.step(loss_of(kind, stack.head(h, stack.parameters, True), y))
            if settings.every and stack.count % settings.every == 0:
                gained = _keep_best(kind, stack, valid, values, best, at)
                stale = 0 if gained else stale + 1
        if not settings.every or stack.count >= settings.steps:
            _keep_best(kind, stack, valid, values, best, at)
    if not np.isfinite(values).any():
        raise ValueError(
            "no learning rate has a validation score: labels of validation are of one class or "
            "constant, or every rate diverged"
        )
    chosen = int(values.argmax())
    picked = {key: value[chosen : chosen + 1] for key, value in best.items()}
    return picked, float(values[chosen]), settings.rates[chosen], int(at[chosen])


def _keep_best(kind, stack: _ProbesByRate, valid: Samples, values, best, at) -> bool:
    now = _predict(kind, stack, stack.parameters, valid)
    gained = False
    for i, out in enumerate(now):
        value = validity(kind, out, valid, stack.settings.select)
        # A rate that diverged has no score and is never chosen.
        if np.isfinite(value) and value > values[i]:
            values[i], at[i], gained = value, stack.count, True
            for key, kept in best.items():
                kept[i] = stack.parameters[key][i].detach()
    return gained


def validity(kind: str, out: np.ndarray, samples: Samples, select: str) -> float:
    if not np.isfinite(out).all():
        return float("nan")
    y = samples.y.numpy()
    if kind == "class":
        return scores.macro_f1(out.argmax(1), y)
    known = np.isfinite(y)
    out, y = out[known, 0], y[known]
    if kind == "value":
        return scores.spearman(out, y)
    if select == "auroc" or y.all() or not y.any():  # F1 of one class says nothing either
        return scores.auroc(out, y)
    called = out > 0
    return float(2 * (called & (y > 0)).sum() / max(called.sum() + y.sum(), 1))


@torch.no_grad()
def _predict(kind: str, stack: _ProbesByRate, parameters: dict, samples: Samples) -> list[np.ndarray]:
    """Outputs of all networks: (residues or domains, outputs) each."""
    if kind == "class":
        rows, pooled = labelled(kind, samples), []
        for part in (rows[i : i + 32] for i in range(0, len(rows), 32)):
            h = stack.trunk(samples, torch.cat(part), parameters, False)
            pooled.append(_pool(h, list(map(len, part))))
        return list(stack.head(torch.cat(pooled, 1), parameters, False).numpy())
    every = torch.arange(len(samples.x)).split(4096)
    out = [stack.head(stack.trunk(samples, part, parameters, False), parameters, False) for part in every]
    return list(torch.cat(out, 1).numpy())


def _pool(h: Tensor, sizes: list[int]) -> Tensor:
    return torch.stack([part.mean(1) for part in h.split(sizes, dim=1)], dim=1)


def _batches(kind: str, rows: list[Tensor], random: np.random.Generator, settings: Settings):
    order = random.permutation(len(rows)).tolist()
    if kind != "class" and settings.residues:
        group, n = [], 0
        for i in order:
            group.append(i)
            n += len(rows[i])
            if n >= settings.residues:
                yield group
                group, n = [], 0
        if n:
            yield group
        return
    size = min(settings.domains if kind == "class" else settings.proteins, len(rows))
    for begin in range(0, len(order) - size + 1, size):  # an incomplete batch is dropped
        yield order[begin : begin + size]
