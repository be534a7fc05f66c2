"""Shapes and recipes of image tokenizers: plain dataclasses, readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protok.common.settings import OptimSettings, RecipeError, ValidSettings, at_least_one, read_settings
from protok.quantize.config import QuantizerConfig

#: Pixels along the side of a window: memory grows with it, however small the image.
WIDEST_WINDOW = 2048


@dataclass(frozen=True)
class CodebookConfig(QuantizerConfig):
    """The codebook and its curriculum, with one more ``kind`` than for proteins, ``residual``.

    ``levels`` and ``prefix`` are those of `protok.quantize.ResidualVQ`.
    """

    size: int = 1024
    dim: int = 16
    levels: int = 4
    prefix: float = 0.5


@dataclass(frozen=True)
class ImageConfig:
    """Everything that a checkpoint needs to rebuild its network.

    ``name``: without one a trained model is called like the folder of its run.
    ``factor``: pixels along the side of a token, 4, 8 or 16. ``patch``: pixels along the
    side that are folded into channels before the first convolution; 1 is the published
    VQGAN, 2 or 4 spare the convolutions at full resolution. ``multiples``: width of each
    resolution in units of ``width`` (``decoder_width`` in the decoder), finest first; one
    for each halving from ``patch`` to ``factor``, and one more. ``blocks``: residual blocks
    at each resolution. ``attention``: at the coarsest resolution.

    ``norm``: what is normalised together: ``group``, channels of the whole image, as in VQGAN; or ``place``,
    the channels of each place alone, so that a code hangs on nothing but pixels near it (blocks are then
    bottlenecks: deeper for the same work). ``linear``: beside
    the convolutions the principal components of squares of ``factor`` x ``factor`` pixels lead to latents
    and back, from which a training starts. ``context``: width of the network that says the chances of codes
    (see `protok.image.coding`), learnt at the end of a training; 0 for none.

    ``window``: pixels along the side of the squares that a network was trained on which is not local; images
    of other sizes are read and decoded through such squares (see `protok.image.windows`). A training sets it
    to ``data.size``; 0 takes images whole.
    """

    name: str = ""
    factor: int = 8
    patch: int = 4
    width: int = 48
    decoder_width: int = 64
    multiples: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: bool = False
    norm: str = "group"
    linear: bool = False
    context: int = 0
    window: int = 0
    quantizer: CodebookConfig = field(default_factory=CodebookConfig)

    def __post_init__(self) -> None:
        if self.factor not in (4, 8, 16):
            raise RecipeError(f"factor {self.factor} is not one of 4, 8, 16")
        if self.patch not in (1, 2, 4) or self.patch > self.factor:
            raise RecipeError(f"patch {self.patch} is not one of 1, 2, 4 up to the factor")
        at_least_one(self, "width", "decoder_width", "blocks")
        if self.norm not in ("group", "place"):
            raise RecipeError(f"norm {self.norm!r} is not group or place")
        if self.context < 0:
            raise RecipeError(f"context {self.context} is below 0")
        if min(self.multiples, default=0) < 1:
            raise RecipeError(f"multiples {self.multiples} are not all 1 or more")
        if not 0 <= self.window <= WIDEST_WINDOW or self.window % self.factor:
            cause = f"window {self.window} is no multiple of factor {self.factor} up to {WIDEST_WINDOW}"
            raise RecipeError(cause, "leave it out: a training sets it")
        stages = (self.factor // self.patch).bit_length()
        if len(self.multiples) != stages:
            raise RecipeError(
                f"{len(self.multiples)} multiples for {stages} resolutions",
                f"factor {self.factor} with patch {self.patch} has {stages}, finest first",
            )

    @property
    def local(self) -> bool:
        """Whether a code hangs on pixels near it alone, whatever the size of the image."""
        return self.norm == "place" and not self.attention


@dataclass(frozen=True)
class ImageDataConfig:
    """What to train on (see `protok.image.dataset.open_pictures`).

    ``train`` and ``valid`` are folders or .npz files; without ``valid`` it is the
    validation part of ``train`` if there is one, else every twentieth image is held out.
    ``classes``: text file of the classes to keep, one a line, as for ImageNet-100.
    ``size``: side of the square crops in pixels; images are scaled so that their shorter
    side has it. ``flip``: mirror half of the training images. ``workers``: processes that
    read images.
    """

    train: str = ""
    valid: str = ""
    classes: str = ""
    size: int = 64
    flip: bool = True
    workers: int = 0


@dataclass(frozen=True)
class LossConfig:
    """What a reconstruction is trained for, beside the loss of the quantizer.

    ``pixel``: ``l1`` or ``l2``, in units of half the range of a pixel. ``perceptual``:
    weight of the distance of VGG-16 features; ``perceptual_weights`` is the file that they
    come from and must be given then. ``adversarial``: weight of a patch discriminator
    trained along from the share ``adversarial_start`` of the steps on, relative to the other
    losses' gradient; ``discriminator_width`` and ``discriminator_lr`` are its own.
    """

    pixel: str = "l1"
    perceptual: float = 0.0
    perceptual_weights: str = ""
    adversarial: float = 0.0
    adversarial_start: float = 0.5
    discriminator_width: int = 64
    discriminator_layers: int = 3
    discriminator_lr: float = 1e-4

    def __post_init__(self) -> None:
        if self.pixel not in ("l1", "l2"):
            raise RecipeError(f"loss.pixel {self.pixel!r} is not l1 or l2")
        if self.perceptual and not self.perceptual_weights:
            raise RecipeError(
                "loss.perceptual needs weights",
                "give loss.perceptual_weights, a file with the state of torchvision's vgg16 or of "
                "LPIPS; protok downloads nothing",
            )

    @property
    def smallest_side(self) -> int:
        """Side in pixels of the smallest image that the chosen losses can look at."""
        # The last two convolutions of a discriminator have stride 1 and take a pixel each.
        patch = 3 * 2**self.discriminator_layers if self.adversarial else 1
        return max(16 if self.perceptual else 1, patch)


@dataclass(frozen=True)
class ImageOptimConfig(OptimSettings):
    """How to train; ``batch``: images a step and process."""

    batch: int = 32
    positive = ("steps", "batch")


@dataclass(frozen=True)
class ImageValidConfig(ValidSettings):
    """What is measured on the way: so many held-out images."""

    images: int = 256
    positive = ("every", "images")


@dataclass(frozen=True)
class ImageRecipe:
    """A whole training run; reads from and writes to TOML sections of these names."""

    model: ImageConfig = field(default_factory=ImageConfig)
    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: ImageOptimConfig = field(default_factory=ImageOptimConfig)
    valid: ImageValidConfig = field(default_factory=ImageValidConfig)

    def __post_init__(self) -> None:
        size, factor = self.data.size, self.model.factor
        if size % factor:
            raise RecipeError(f"data.size {size} is no multiple of model.factor {factor}")
        if size < self.loss.smallest_side:
            raise RecipeError(
                f"images of {size} pixels are too small for the chosen losses",
                f"they need {self.loss.smallest_side}",
            )


def read_image_recipe(
    path: str | Path | None,
    overrides: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> ImageRecipe:
    """Read a recipe: parameters and errors are those of `protok.common.settings.read_settings`."""
    return read_settings(ImageRecipe, path, overrides, defaults)
