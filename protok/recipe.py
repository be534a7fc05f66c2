"""Recipes: the configuration of a training run, from TOML to frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protok.config import ModelConfig
from protok.settings import RecipeError, read_settings

__all__ = [
    "DataConfig",
    "OptimConfig",
    "Recipe",
    "RecipeError",
    "ValidConfig",
    "read_recipe",
]


@dataclass(frozen=True)
class DataConfig:
    """What to train on.

    ``train`` and ``valid`` are stores or folders of structures; without ``valid``
    every twentieth chain of ``train`` is held out. ``curriculum`` holds pairs
    (progress, longest crop).
    """

    train: str = ""
    valid: str = ""
    residues: int = 1536
    curriculum: tuple[tuple[float, int], ...] = (
        (0.0, 48), (0.06, 96), (0.16, 160), (0.3, 256), (0.5, 384), (0.75, 512),
    )  # fmt: skip


@dataclass(frozen=True)
class OptimConfig:
    """How to train.

    ``rows``: residues a chain whose views are scored in a step. ``precision``:
    ``bf16-mixed`` or ``32``. ``noise``: the encoder sees chains with Gaussian noise of up to
    so many Å on every atom, the decoder must restore them without it. ``steady``: weight of
    the squared difference between latents with and without that noise.
    """

    steps: int = 6000
    lr: float = 1e-3
    weight_decay: float = 0.02
    warmup: int = 200
    clip: float = 1.0
    rows: int = 64
    noise: float = 0.0
    steady: float = 0.0
    precision: str = "bf16-mixed"
    seed: int = 0


@dataclass(frozen=True)
class ValidConfig:
    """What is measured on the way: every so many steps, so many chains, at most so long."""

    every: int = 500
    chains: int = 48
    longest: int = 256


@dataclass(frozen=True)
class Recipe:
    """A whole training run; reads from and writes to TOML sections of these names."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    valid: ValidConfig = field(default_factory=ValidConfig)


def read_recipe(path: str | Path | None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe from TOML and apply ``{"optim.steps": 100}`` overrides.

    Raises
    ------
    RecipeError
        For an unknown key, naming near ones, or a value of the wrong type.
    """
    return read_settings(Recipe, path, overrides)
