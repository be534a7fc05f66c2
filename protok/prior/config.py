"""Shapes and recipes of priors: plain dataclasses, readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protok.common.settings import (
    OptimSettings,
    RecipeError,
    ValidSettings,
    at_least_one,
    heads_divide,
    read_settings,
)
from protok.tokens.layouts import BLOCKS, LAYOUTS


@dataclass(frozen=True)
class PriorConfig:
    """Shape of the transformer, which is that of Hugging Face `transformers`.

    ``name``: without one a trained prior is called like the folder of its run.
    ``architecture``: ``llama`` (rotary positions: chains of any length) or ``gpt2`` (learned
    positions: images of one size). ``dropout``: of attention, with ``gpt2`` also elsewhere.
    """

    name: str = ""
    architecture: str = "llama"
    layers: int = 8
    width: int = 384
    heads: int = 6
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.architecture not in ("llama", "gpt2"):
            raise RecipeError(f"architecture {self.architecture!r} is not one of llama, gpt2")
        at_least_one(self, "layers", "width", "heads")
        heads_divide(self.width, self.heads)
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"dropout {self.dropout} is not in 0..1")


@dataclass(frozen=True)
class PriorDataConfig:
    """What to learn.

    ``train`` and ``valid`` are token files of `protok encode` or codes of `protok image encode`;
    without ``valid`` every twentieth record is held out, an image together with its mirror image.
    ``condition``: ``none``; ``class``, the folder in an image's name, or of a chain what the table
    ``classes`` says (`protok prior classes` makes one, by helix and strand); ``length`` of a chain;
    ``length+class``; or ``sequence``, a letter for every code, which the model sees beforehand. ``drop``:
    share of the training records whose condition is hidden, so that the model also works without: of
    length and class each by itself. ``order`` of
    the codes of images with levels: ``level``, all places of the coarsest first, or ``place``
    after place. ``layout`` of chains with keyframes: see `protok.tokens.vocabulary.Vocabulary`.
    ``environments``: whether the environment letter of each residue is learned too. ``longest``: longer
    chains are left out.
    """

    train: str = ""
    valid: str = ""
    classes: str = ""
    condition: str = "none"
    drop: float = 0.1
    order: str = "level"
    layout: str = BLOCKS
    environments: bool = False
    longest: int = 512

    def __post_init__(self) -> None:
        conditions = ("none", "class", "length", "length+class", "sequence")
        orders = ("level", "place")
        for key, known in (("condition", conditions), ("order", orders), ("layout", LAYOUTS)):
            if getattr(self, key) not in known:
                raise RecipeError(f"{key} {getattr(self, key)!r} is not one of {', '.join(known)}")
        if not 0 <= self.drop < 1:
            raise RecipeError(f"drop {self.drop} is not in 0..1")


@dataclass(frozen=True)
class PriorOptimConfig(OptimSettings):
    """How to train; ``batch``: codes a step and process."""

    steps: int = 4000
    batch: int = 8192
    lr: float = 6e-4
    weight_decay: float = 0.1
    lr_warmup_steps: int = 100
    positive = ("steps", "batch")


@dataclass(frozen=True)
class PriorValidConfig(ValidSettings):
    """What is measured on the way: so many held-out records."""

    records: int = 256
    positive = ("every", "records")


@dataclass(frozen=True)
class PriorRecipe:
    """A whole training run; reads from and writes to TOML sections of these names."""

    model: PriorConfig = field(default_factory=PriorConfig)
    data: PriorDataConfig = field(default_factory=PriorDataConfig)
    optim: PriorOptimConfig = field(default_factory=PriorOptimConfig)
    valid: PriorValidConfig = field(default_factory=PriorValidConfig)


def read_prior_recipe(
    path: str | Path | None,
    overrides: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> PriorRecipe:
    """Read a recipe: parameters and errors are those of `protok.common.settings.read_settings`."""
    return read_settings(PriorRecipe, path, overrides, defaults)
