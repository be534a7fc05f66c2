"""Settings of a codebook, and the quantizer that they name. Reading them needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protok.quantize.base import Quantizer


#: Numbers in the vectors of all codes: some kinds compute them, so that no weight is for them.
MOST = 1 << 26


@dataclass(frozen=True)
class QuantizerConfig:
    """The codebook and its curriculum (see `protok.quantize`).

    ``kind`` is ``provq``, a bare ``vq``, ``simvq``, ``fsq`` or ``lfq``, or ``none`` for
    continuous latents. ``inner`` is the kind inside ``provq``, ``estimator`` and ``loss_weight`` are
    those of `protok.quantize.ProVQ`. ``fsq`` and ``lfq`` need a power of two as ``size``. ``update``
    (``ema`` or ``gradient``), ``metric`` and ``init_and_revive`` are those of `protok.quantize.VQ`,
    ``bias`` is that of `protok.quantize.SimVQ`.
    """

    kind: str = "provq"
    size: int = 512
    dim: int = 32
    beta: float = 0.25
    schedule: str = "cosine"
    continuous_share: float = 0.2
    ramp: float = 0.4
    estimator: str = "bernoulli"
    loss_weight: str = "ramped"
    inner: str = "vq"
    update: str = "ema"
    metric: str = "euclidean"
    init_and_revive: str = "kmeans+respawn"
    bias: bool = False


def build_quantizer(
    kind: str, size: int, dim: int, *, levels: int = 0, prefix: float = 0.5, **settings: Any
) -> Quantizer | None:
    """The quantizer that a configuration names; None for continuous latents.

    Parameters
    ----------
    kind
        ``provq``, a bare ``vq``, ``simvq``, ``fsq``, ``lfq`` or ``residual``, or ``none``.
    size, dim
        Number of codes, dimension of the latents; a power of two as size of ``fsq``, ``lfq``.
    levels, prefix
        Of `ResidualVQ`; with 0 levels, where one code must stand for a latent, ``residual`` is
        no kind.
    settings
        Any other field of `QuantizerConfig`.

    Raises
    ------
    ValueError
        If the kind, or a setting of it, is unknown, or there would be no codes or too many.
    """
    from protok.quantize.curriculum import Schedule
    from protok.quantize.lattice import FSQ, LFQ, fsq_levels
    from protok.quantize.provq import ProVQ
    from protok.quantize.residual import ResidualVQ
    from protok.quantize.table import VQ, SimVQ

    if kind == "none":
        return None
    if min(size, dim) < 1 or size * dim > MOST:
        raise ValueError(f"{size} codes of {dim} dimensions are not 1 to {MOST:,} numbers")
    config = QuantizerConfig(kind, size, dim, **settings)
    if config.update not in ("ema", "gradient"):
        raise ValueError(f"update {config.update!r} is not one of ema, gradient")
    decay = 0.99 if config.update == "ema" else None

    def table() -> VQ:
        return VQ(size, dim, config.beta, decay, config.metric, config.init_and_revive)

    kinds: dict[str, Callable[[], Quantizer]] = {
        "vq": table,
        "simvq": lambda: SimVQ(size, dim, config.beta, config.bias),
        "fsq": lambda: FSQ(fsq_levels(size), dim),
        "lfq": lambda: LFQ(sum(n.bit_length() - 1 for n in fsq_levels(size)), dim, config.beta),
    }
    if levels:
        kinds["residual"] = lambda: ResidualVQ([table() for _ in range(levels)], prefix)
    chosen = config.inner if kind == "provq" else kind
    if chosen not in kinds:
        known = [*kinds] if kind == "provq" else ["provq", *kinds, "none"]
        raise ValueError(f"quantizer kind {chosen!r} is not one of {', '.join(known)}")
    quantizer = kinds[chosen]()
    if kind != "provq":
        return quantizer
    schedule = Schedule(config.schedule, config.continuous_share, config.ramp)
    return ProVQ(quantizer, schedule, config.estimator, loss_weight=config.loss_weight)
