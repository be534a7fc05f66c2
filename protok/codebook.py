"""Settings of a codebook: a plain dataclass, for models of anything, that is read without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QuantizerConfig:
    """The codebook and its curriculum (see `protok.quantize`).

    ``kind`` is ``provq``, a bare ``vq``, ``simvq``, ``fsq`` or ``lfq``, or ``none`` for
    continuous latents. ``inner`` is the kind inside ``provq``. ``fsq`` and ``lfq`` need a
    power of two as ``size``. ``learn`` (``ema`` or ``gradient``), ``metric`` and ``upkeep`` are
    those of `protok.quantize.VQ`, ``bias`` is that of `protok.quantize.SimVQ`.
    """

    kind: str = "provq"
    size: int = 512
    dim: int = 32
    beta: float = 0.25
    schedule: str = "cosine"
    warmup: float = 0.2
    ramp: float = 0.4
    mix: str = "bernoulli"
    inner: str = "vq"
    learn: str = "ema"
    metric: str = "euclidean"
    upkeep: str = "kmeans+respawn"
    bias: bool = False
