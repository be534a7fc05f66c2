"""How discrete a quantizer is at each moment of training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: Vectors of the space of the codes.
Vectors = Float[Tensor, "n e"]
KINDS = ("none", "step", "linear", "cosine", "exponential", "power", "sigmoid", "adaptive")


@dataclass(frozen=True)
class Schedule:
    """Hardness in [0, 1] as a function of training progress in [0, 1].

    Attributes
    ----------
    kind
        ``cosine``, ``linear``, ``exponential`` (1 - exp(-5 u) at a share u of the ramp, then 1),
        ``power``, ``sigmoid``, ``step`` (0, then 1 when the warm-up ends: Deferred Quantization,
        arXiv 2603.17052), ``none`` (always 1: plain VQ) or ``adaptive`` (a cosine that starts when the
        effective dimension of the latents stops growing, at the latest when the warm-up ends).
    continuous_share, ramp
        Fractions of training: fully continuous, then rising. Hardness is exactly
        1 for the rest, so that training ends as inference runs.
    power
        Exponent of ``power``, steepness of ``sigmoid``.
    """

    kind: str = "cosine"
    continuous_share: float = 0.2
    ramp: float = 0.4
    power: float = 2.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"schedule {self.kind!r} is not one of {', '.join(KINDS)}")
        if not (0 <= self.continuous_share and 0 <= self.ramp and self.continuous_share + self.ramp <= 1):
            raise ValueError("continuous_share and ramp must be fractions whose sum is at most 1")

    def hardness(self, progress: float, start: float | None = None) -> float:
        """Hardness at a training progress in [0, 1]; `start`: of the ramp, if not after the warm-up."""
        if self.kind == "none":
            return 1.0
        start = self.continuous_share if start is None else start
        if self.kind == "step" or self.ramp == 0:
            return float(progress >= start)
        u = min(max((progress - start) / self.ramp, 0.0), 1.0)
        if self.kind in ("cosine", "adaptive"):
            return (1 - math.cos(math.pi * u)) / 2
        if self.kind == "linear":
            return u
        if self.kind == "exponential":
            return 1 - math.exp(-5 * u) if u < 1 else 1.0
        if self.kind == "power":
            return u**self.power
        low, high = (1 / (1 + math.exp(s * self.power * 2)) for s in (1, -1))
        return (1 / (1 + math.exp(-self.power * 4 * (u - 0.5))) - low) / (high - low)


LOSS_WEIGHTS = ("ramped", "full", "soft")
#: Share that `soft` begins with.
SOFT = 0.5


def loss_weights(kind: str, hardness: float) -> tuple[float, float]:
    """Weights of all that a quantizer adds to the loss, and of the pull to the codes within it.

    Parameters
    ----------
    kind
        ``ramped``: latents are pulled as hard as they are quantized, and a table that the optimiser
        learns follows them at full weight (ours). ``full``: 1 and 1. ``soft``: all of it rises
        with hardness from a half to 1. The last two are those of the first author of arXiv 2603.22304,
        on proteins and on images (GitHub `997ddler`).
    """
    if kind == "soft":
        return SOFT + (1 - SOFT) * hardness, 1.0
    return 1.0, hardness if kind == "ramped" else 1.0


ESTIMATORS = ("bernoulli", "ste", "mix", "rotation", "soft")


def feed(table: Callable[[], Vectors], c: Vectors, q: Vectors, hardness: float, estimator: str) -> Vectors:
    """Vectors between their latent and their code.

    Parameters
    ----------
    table
        Gives all codes; only ``soft`` asks for them.
    c, q
        Latents and their codes.
    hardness
        In (0, 1]; at 1 every kind but ``rotation`` is the straight-through estimator.
    estimator
        ``ste``: moved that share of the way, gradient as if not moved.
        ``bernoulli``: discrete with that probability, each vector for itself, gradient
        as if not moved. ``mix``: moved that share of the way, with its true gradient.
        ``rotation``: moved that share of the way, gradient rotated and scaled as the
        vector was (the rotation trick, Fifty et al. 2024, arXiv 2410.06424, towards the
        point between). ``soft``: mean of the codes weighted by exp(-distance^2/t), with
        its true gradient; t falls from the mean squared distance to the nearest code to
        zero (Agustsson et al. 2017, arXiv 1704.00648).
    """
    if estimator == "rotation":
        return _rotated(c, c + hardness * (q - c).detach())
    if hardness >= 1 or estimator == "ste":
        return c + hardness * (q - c).detach()
    if estimator == "bernoulli":
        share = torch.bernoulli(torch.full_like(c[:, :1], hardness))
        return c + share * (q - c).detach()
    if estimator == "mix":
        return torch.lerp(c, q, hardness)
    # A copy: moving averages change the codebook before the backward pass reads it.
    codes = table().clone()
    distance = (c.square().sum(-1, keepdim=True) + codes.square().sum(-1)) - 2 * c @ codes.T
    scale = (c - q).detach().square().sum(-1).mean() if len(c) else c.new_ones(())
    temperature = (1 - hardness) * scale.clamp(min=1e-12)
    return torch.softmax(-distance / temperature, dim=-1) @ codes


def _rotated(c: Tensor, target: Tensor) -> Tensor:
    """`target`, with the gradient of the rotation and scaling that takes c to it."""
    with torch.no_grad():
        size = c.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        reach = target.norm(dim=-1, keepdim=True)
        u, v = c / size, target / reach.clamp(min=1e-6)
        w = torch.nn.functional.normalize(u + v, dim=-1, eps=1e-6)
    turned = c - 2 * (c * w).sum(-1, keepdim=True) * w + 2 * (c * u).sum(-1, keepdim=True) * v
    turned = turned * (reach / size)
    return target.detach() + (turned - turned.detach())
