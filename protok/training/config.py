"""Recipes: the configuration of a training run, from TOML to frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protok.common.settings import OptimSettings, RecipeError, ValidSettings, read_settings
from protok.model.config import ShapesConfig
from protok.structure.io.options import ReadOptions


@dataclass(frozen=True)
class DataConfig:
    """What to train on.

    ``train`` and ``valid`` are stores or folders of structures; without ``valid`` part of
    ``train`` is held out (see `SplitConfig`). In fine-tuning ``valid`` is what forgetting is
    measured on. ``residues``: about so many a step and process. ``curriculum`` holds pairs
    (progress, longest crop), the first at progress 0. ``exclude``: a text file of ids, one a
    line, that are never trained on. ``workers``: processes that prepare batches, for a GPU that
    would wait for them; 0 prepares each as it is due. ``read``: how files of folders are read
    (`protok.structure.io.options.ReadOptions`), ``read.min_plddt`` say.
    """

    train: str = ""
    valid: str = ""
    exclude: str = ""
    residues: int = 1024
    workers: int = 0
    curriculum: tuple[tuple[float, int], ...] = ((0.0, 256),)
    read: ReadOptions = field(default_factory=ReadOptions)

    def __post_init__(self) -> None:
        if not any(at <= 0 for at, _ in self.curriculum):
            raise RecipeError("data.curriculum says nothing of the first step", "begin it at 0")


@dataclass(frozen=True)
class OptimConfig(OptimSettings):
    """How to train.

    ``coordinate_noise``: the encoder sees chains with Gaussian noise of up to so many Å on every atom.
    ``consistency_weight``: of the squared difference between latents with and without that noise, and of a
    stretch inside its chain and alone. ``spacing_odds``: how often each spacing of
    ``model.keyframes`` is drawn, in their order. ``devices``: how many processes train together, each with
    batches of its own; 0 is one for each GPU, or one on the CPU.
    """

    steps: int = 12000
    weight_decay: float = 0.01
    lr_warmup_steps: int = 100
    coordinate_noise: float = 0.2
    consistency_weight: float = 20.0
    spacing_odds: tuple[float, ...] = (0.15, 0.35, 0.3, 0.2)
    devices: int = 0


@dataclass(frozen=True)
class ValidConfig(ValidSettings):
    """What is measured on the way: so many chains, at most so long.

    ``patience``: the run ends when the held-out RMSD has not improved in so many validations,
    and the model is the best one; 0 trains to the end, and the model is the last one.
    """

    every: int = 1000
    chains: int = 48
    longest: int = 600
    patience: int = 0


@dataclass(frozen=True)
class SplitConfig:
    """How chains are held out of ``data.train``: by clusters of sequences (`protok.structure.clustering`).

    ``valid`` and ``test``: shares of the chains; only fine-tuning, which reports on it, makes a
    test side. ``identity``: chains alike to that extent are in one cluster. ``method``:
    ``mmseqs``, ``kmers`` or ``auto``. ``table``: a CSV with columns id and split, used instead.
    """

    valid: float = 0.1
    test: float = 0.1
    identity: float = 0.3
    method: str = "auto"
    table: str = ""


@dataclass(frozen=True)
class TuneConfig:
    """Fine-tuning of a model (see `protok.training.finetune`).

    ``init``: name or folder of the model to start from; empty trains from scratch.
    ``codebook``: ``frozen``, ``adapted`` or ``new``. ``weight_interpolation``: how far the weights that are
    kept lie on the way from those before to the best ones; less forgets less. ``forgetting``: store or
    folder on which forgetting is measured. ``chains``: of each set in the report, at most.
    ``longest``: residues of a chain in the report, at most.
    """

    init: str = ""
    codebook: str = "frozen"
    weight_interpolation: float = 1.0
    forgetting: str = ""
    chains: int = 64
    longest: int = 1024


@dataclass(frozen=True)
class Recipe:
    """A whole training run; reads from and writes to TOML sections of these names."""

    model: ShapesConfig = field(default_factory=ShapesConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    valid: ValidConfig = field(default_factory=ValidConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    finetune: TuneConfig = field(default_factory=TuneConfig)

    def __post_init__(self) -> None:
        # The form of a model to fine-tune need not be in a recipe, and is not known before it is read.
        if not self.finetune.init:
            self.check_odds()

    def check_odds(self) -> None:
        """Raise a `RecipeError` unless each spacing has its odds."""
        odds, spacings = self.optim.spacing_odds, self.model.keyframes.spacings
        if len(odds) != len(spacings) or min(odds) < 0 or sum(odds) <= 0:
            raise RecipeError(f"optim.spacing_odds = {list(odds)}", f"give one for each of {list(spacings)}")


def read_recipe(
    path: str | Path | None,
    overrides: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Recipe:
    """Read a recipe from TOML and apply ``{"optim.steps": 100}`` overrides.

    Parameters
    ----------
    path
        TOML file; None for none.
    overrides
        Dotted keys and values, before those of the file.
    defaults
        Nested tables, for what neither says, before the defaults of the dataclasses.

    Raises
    ------
    RecipeError
        For an unknown key, naming near ones, or a value of the wrong type.
    """
    return read_settings(Recipe, path, overrides, defaults)
