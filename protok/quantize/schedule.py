"""How discrete a quantizer is at each moment of training."""

from __future__ import annotations

import math
from dataclasses import dataclass

KINDS = ("none", "step", "linear", "cosine", "power", "sigmoid", "adaptive")


@dataclass(frozen=True)
class Schedule:
    """Hardness in [0, 1] as a function of training progress in [0, 1].

    Attributes
    ----------
    kind
        ``cosine``, ``linear``, ``power``, ``sigmoid``, ``step`` (0, then 1 when
        the warm-up ends: Deferred Quantization, arXiv 2603.17052), ``none``
        (always 1: plain VQ) or ``adaptive`` (a cosine that starts when the effective
        dimension of the latents stops growing, at the latest when the warm-up ends).
    warmup, ramp
        Fractions of training: fully continuous, then rising. Hardness is exactly
        1 for the rest, so that training ends as inference runs.
    power
        Exponent of ``power``, steepness of ``sigmoid``.
    """

    kind: str = "cosine"
    warmup: float = 0.2
    ramp: float = 0.4
    power: float = 2.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"schedule {self.kind!r} is not one of {', '.join(KINDS)}")
        if not (0 <= self.warmup and 0 <= self.ramp and self.warmup + self.ramp <= 1):
            raise ValueError("warmup and ramp must be fractions whose sum is at most 1")

    def hardness(self, progress: float, start: float | None = None) -> float:
        """Hardness at a training progress in [0, 1].

        Parameters
        ----------
        progress
            Share of the training that is done.
        start
            When the ramp starts, if not at the end of the warm-up.
        """
        if self.kind == "none":
            return 1.0
        start = self.warmup if start is None else start
        if self.kind == "step" or self.ramp == 0:
            return float(progress >= start)
        u = min(max((progress - start) / self.ramp, 0.0), 1.0)
        if self.kind in ("cosine", "adaptive"):
            return (1 - math.cos(math.pi * u)) / 2
        if self.kind == "linear":
            return u
        if self.kind == "power":
            return u**self.power
        low, high = (1 / (1 + math.exp(s * self.power * 2)) for s in (1, -1))
        return (1 / (1 + math.exp(-self.power * 4 * (u - 0.5))) - low) / (high - low)
