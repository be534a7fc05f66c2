"""Recipes: the configuration of a training run, from TOML to frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protok.common.settings import OptimSettings, RecipeError, ValidSettings, read_settings
from protok.model.config import ModelConfig

__all__ = ["DataConfig", "OptimConfig", "Recipe", "RecipeError", "ValidConfig", "read_recipe"]


@dataclass(frozen=True)
class DataConfig:
    """What to train on.

    ``train`` and ``valid`` are stores or folders of structures; without ``valid`` part of
    ``train`` is held out (see `SplitConfig`). In fine-tuning ``valid`` is what forgetting is
    measured on. ``residues``: about so many a step and process. ``curriculum`` holds pairs
    (progress, longest crop), the first at progress 0. ``without``: a text file of ids, one a
    line, that are never trained on. ``teacher``: states of another model for the residues of
    ``train`` (`protok.training.distillation`). ``workers``: processes that prepare batches, for a GPU that
    would wait for them; 0 prepares each as it is due.
    """

    train: str = ""
    valid: str = ""
    without: str = ""
    teacher: str = ""
    residues: int = 1536
    workers: int = 0
    curriculum: tuple[tuple[float, int], ...] = (
        (0.0, 48),
        (0.06, 96),
        (0.16, 160),
        (0.3, 256),
        (0.5, 384),
        (0.75, 512),
    )

    def __post_init__(self) -> None:
        if not any(at <= 0 for at, _ in self.curriculum):
            raise RecipeError("data.curriculum says nothing of the first step", "begin it at 0")


@dataclass(frozen=True)
class OptimConfig(OptimSettings):
    """How to train.

    ``rows``: residues a chain whose views are scored in a step. ``noise``: the encoder sees
    chains with Gaussian noise of up to so many Å on every atom, the decoder must restore them
    without it. ``steady``: weight of the squared difference between latents with and without that
    noise. ``naming``: weights with which encoder states, code vectors and decoder states must name
    amino acids (`protok.training.auxiliary`). ``taught``: weights with which the same three must say what
    ``data.teacher`` says (`protok.training.distillation`), codes and decoder its means ``around`` residues
    too, within radii in Å.
    ``school``: in so many of the steps, the first, nothing but the encoder
    learns, and nothing but these two tasks, on the longest crops: such a step costs a fraction of
    another; progress of all else is counted from their end. ``superposed``: a decoder of placed
    codes is scored after superposition of each chain, not in the frame of the chain.
    ``devices``: how many processes train together, each with batches of its own; 0 is one for
    each GPU, or one on the CPU.
    """

    weight_decay: float = 0.02
    rows: int = 64
    noise: float = 0.0
    steady: float = 0.0
    superposed: bool = False
    naming: tuple[float, ...] = (0.0, 0.0, 0.0)
    taught: tuple[float, ...] = (0.0, 0.0, 0.0)
    around: tuple[float, ...] = ()
    school: int = 0
    devices: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("naming", "taught"):
            weights = getattr(self, key)
            if len(weights) != 3 or min(weights) < 0:
                raise RecipeError(
                    f"optim.{key} = {list(weights)}",
                    "give the weights of encoder states, code vectors and decoder states, or zeros",
                )
        if self.around and min(self.around) <= 0:
            raise RecipeError(f"optim.around = {list(self.around)}", "give radii in Å")
        asked = self.naming[0] or self.taught[0]
        if self.school and not (0 < self.school < self.steps and asked):
            raise RecipeError(
                f"optim.school = {self.school}",
                "give fewer than optim.steps, and optim.naming or optim.taught a weight of encoder "
                "states, or 0",
            )


@dataclass(frozen=True)
class ValidConfig(ValidSettings):
    """What is measured on the way: so many chains, at most so long.

    ``patience``: the run ends when the held-out RMSD has not improved in so many validations,
    and the model is the best one; 0 trains to the end, and the model is the last one.
    """

    chains: int = 48
    longest: int = 256
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
    ``codebook``: ``frozen``, ``adapted`` or ``new``. ``encoder``: False keeps the encoder as
    it is, which is the default for frozen codes. ``blend``: how far the weights that are kept lie
    on the way from those before to the best ones; less forgets less. ``forgetting``: store or
    folder on which forgetting is measured. ``chains``: of each set in the report, at most.
    ``longest``: residues of a chain in the report, at most.
    """

    init: str = ""
    codebook: str = "frozen"
    encoder: bool = True
    blend: float = 1.0
    forgetting: str = ""
    chains: int = 64
    longest: int = 1024


@dataclass(frozen=True)
class Recipe:
    """A whole training run; reads from and writes to TOML sections of these names."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    valid: ValidConfig = field(default_factory=ValidConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    finetune: TuneConfig = field(default_factory=TuneConfig)

    def __post_init__(self) -> None:
        if any(self.optim.taught) and not self.data.teacher:
            raise RecipeError("optim.taught without data.teacher", "name a file of states, or 0s")
        if self.data.teacher and not any(self.optim.taught):
            raise RecipeError("data.teacher without optim.taught", "give a weight, or no teacher")
        # The shape of a model to fine-tune need not be said, and is not known here.
        if self.optim.superposed and not (self.model.decoder.placed or self.finetune.init):
            raise RecipeError(
                "optim.superposed without model.decoder.placed",
                "views are scored in residues' own frames already: give false",
            )


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
