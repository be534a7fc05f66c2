"""Settings of a codebook, and the quantizer that they name. Reading them needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from protok.errors import ProtokError, RecipeError

if TYPE_CHECKING:
    from protok.quantize.base import Quantizer


#: Numbers in the vectors of all codes: some kinds compute them, so that no weight is for them.
MOST = 1 << 26


@dataclass(frozen=True)
class QuantizerConfig:
    """The codebook and its curriculum (see `protok.quantize`).

    ``kind`` is ``provq``, a bare ``vq``, ``simvq``, ``fsq`` or ``lfq``, or ``none`` for
    continuous latents, or ``module:Class``, a subclass of `protok.quantize.Quantizer` that is made with
    ``size``, ``dim`` and the table ``options``. ``inner`` is the kind inside ``provq``, ``estimator`` and
    ``loss_weight`` are those of `protok.quantize.ProVQ`. ``fsq`` and ``lfq`` need a power of two as
    ``size``. ``update`` (``ema`` or ``gradient``), ``metric`` and ``init_and_revive`` are those of
    `protok.quantize.VQ`, ``bias`` is that of `protok.quantize.SimVQ`.
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
    options: dict[str, Any] = field(default_factory=dict)


def build_quantizer(
    kind: str, size: int, dim: int, *, levels: int = 0, prefix: float = 0.5, **settings: Any
) -> Quantizer | None:
    """The quantizer that a configuration names; None for continuous latents.

    Parameters
    ----------
    kind
        ``provq``, a bare ``vq``, ``simvq``, ``fsq``, ``lfq`` or ``residual``, ``none``, or ``module:Class``.
    size, dim
        Number of codes, dimension of the latents; a power of two as size of ``fsq``, ``lfq``.
    levels, prefix
        Of `ResidualVQ`; with 0 levels, where one code must stand for a latent, ``residual`` is
        no kind.
    settings
        Any other field of `QuantizerConfig`.

    Raises
    ------
    RecipeError
        If the kind, or a setting of it, is unknown, or there would be no codes or too many.
    Unsupported
        If a class is named whose module is not imported (see `protok.quantize.own`).
    """
    from protok.quantize.curriculum import Schedule
    from protok.quantize.lattice import FSQ, LFQ, fsq_levels
    from protok.quantize.provq import ProVQ
    from protok.quantize.residual import ResidualVQ
    from protok.quantize.table import VQ, SimVQ

    if kind == "none":
        return None
    if min(size, dim) < 1 or size * dim > MOST:
        raise RecipeError(f"{size} codes of {dim} dimensions are not 1 to {MOST:,} numbers")
    config = QuantizerConfig(kind, size, dim, **settings)
    if config.update not in ("ema", "gradient"):
        raise RecipeError(f"update {config.update!r} is not one of ema, gradient")
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
    if ":" in chosen:
        kinds[chosen] = lambda: _own(chosen, size, dim, config.options)
    if chosen not in kinds:
        known = [*kinds] if kind == "provq" else ["provq", *kinds, "none"]
        raise RecipeError(f"quantizer kind {chosen!r} is not one of {', '.join(known)}, or module:Class")
    try:
        quantizer = kinds[chosen]()
        if kind != "provq":
            return quantizer
        schedule = Schedule(config.schedule, config.continuous_share, config.ramp)
        return ProVQ(quantizer, schedule, config.estimator, loss_weight=config.loss_weight)
    except ProtokError:
        raise
    except ValueError as error:  # of a class, which knows no recipe
        raise RecipeError(f"quantizer {kind!r}: {error}") from error


def _own(name: str, size: int, dim: int, options: dict[str, Any]) -> Quantizer:
    """A quantizer of a user's own, with one code of the codebook that was asked for for each latent."""
    from protok.quantize.base import Quantizer
    from protok.quantize.own import make_own

    made = make_own(name, Quantizer, size, dim, **options)
    if (made.size, made.dim, made.code_shape) != (size, dim, ()):
        shape = f"{made.size} codes of {made.dim} dimensions" + (", several a latent" * bool(made.code_shape))
        raise RecipeError(f"{name} has {shape}, not {size} of {dim}", "set size and dim in the recipe")
    return made
