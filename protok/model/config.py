"""Form of a model of shapes and keyframes: plain dataclasses, so that a recipe is read without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from protok.common.settings import RecipeError, at_least_one
from protok.quantize.config import QuantizerConfig

#: Positions that a window may reach: memory grows with them.
WIDEST_WINDOW = 256


@dataclass(frozen=True)
class ShapeEncoderConfig:
    """The encoder.

    ``kind`` is ``window``, the `protok.model.encoder.ShapeEncoder`, which sees ``window`` positions either
    side, or ``module:Class``, a subclass of `protok.model.encoder.Encoder` that is made with the dimension of
    latents and the table ``options``.
    """

    kind: str = "window"
    hidden: int = 128
    layers: int = 2
    window: int = 6
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind != "window" and ":" not in self.kind:
            raise RecipeError(f"encoder kind {self.kind!r}", "give window, or module:Class of your own")
        at_least_one(self, "hidden", "layers", "window")
        _bounded(self.window)


@dataclass(frozen=True)
class ConvolutionConfig:
    """A `protok.model.local_convolution.LocalConvolution`."""

    width: int = 64
    layers: int = 4
    kernel: int = 2
    window: int = 3

    def __post_init__(self) -> None:
        at_least_one(self, "width", "layers", "kernel", "window")
        _bounded(self.kernel)
        _bounded(self.window)


@dataclass(frozen=True)
class KeyframeConfig:
    """Codebooks of keyframes: for each of ``spacings`` one of as many motions as ``sizes`` say.

    ``continuous_share`` and ``ramp`` are those of `protok.quantize.curriculum.Schedule`.
    """

    spacings: tuple[int, ...] = (2, 4, 8, 16)
    sizes: tuple[int, ...] = (4096, 4096, 4096, 10240)
    continuous_share: float = 0.3
    ramp: float = 0.2

    def __post_init__(self) -> None:
        if not self.spacings or min(self.spacings) < 1 or len(set(self.spacings)) != len(self.spacings):
            raise RecipeError(f"spacings {list(self.spacings)}", "give different positive numbers")
        if len(self.sizes) != len(self.spacings) or min(self.sizes) < 1:
            raise RecipeError(f"sizes {list(self.sizes)}", f"give one for each of {list(self.spacings)}")

    def size(self, spacing: int) -> int:
        """Motions in the codebook of a spacing."""
        return self.sizes[self.spacings.index(spacing)]


@dataclass(frozen=True)
class EnvironmentEncoderConfig:
    """A `protok.model.environment.EnvironmentEncoder`."""

    hidden: int = 96
    edge: int = 32
    layers: int = 3
    neighbours: int = 20

    def __post_init__(self) -> None:
        at_least_one(self, "hidden", "edge", "layers", "neighbours")


@dataclass(frozen=True)
class EnvironmentConfig:
    """Letters of environments: their encoder, their codebook (see `protok.model.environment`)."""

    name: str = ""
    encoder: EnvironmentEncoderConfig = field(default_factory=EnvironmentEncoderConfig)
    quantizer: QuantizerConfig = field(
        default_factory=lambda: QuantizerConfig(size=128, dim=16, continuous_share=0.2, ramp=0.3)
    )


@dataclass(frozen=True)
class ShapesConfig:
    """Everything that a checkpoint needs to rebuild its `protok.model.network.ShapeNetwork`.

    ``name``: without one a trained model is called like the folder of its run. ``environment``: with a
    quantizer of kind ``none`` there are no environment letters.
    """

    name: str = ""
    encoder: ShapeEncoderConfig = field(default_factory=ShapeEncoderConfig)
    quantizer: QuantizerConfig = field(
        default_factory=lambda: QuantizerConfig(size=64, dim=5, continuous_share=0.1, ramp=0.3)
    )
    steps: ConvolutionConfig = field(default_factory=ConvolutionConfig)
    refiner: ConvolutionConfig = field(default_factory=lambda: ConvolutionConfig(width=128))
    keyframes: KeyframeConfig = field(default_factory=KeyframeConfig)
    environment: EnvironmentConfig = field(
        default_factory=lambda: EnvironmentConfig(quantizer=QuantizerConfig(kind="none"))
    )


def _bounded(positions: int) -> None:
    if positions > WIDEST_WINDOW:
        raise RecipeError(f"window {positions} is too large", f"give at most {WIDEST_WINDOW}")
