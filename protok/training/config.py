"""Recipes: the configuration of a training run, from TOML to frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protok.common.settings import OptimSettings, RecipeError, ValidSettings, read_settings
from protok.model.config import ModelConfig

#: The longest crop from each progress of a training from scratch on.
CURRICULUM = ((0.0, 48), (0.06, 96), (0.16, 160), (0.3, 256), (0.5, 384), (0.75, 512))


@dataclass(frozen=True)
class DataConfig:
    """What to train on.

    ``train`` and ``valid`` are stores or folders of structures; without ``valid`` part of
    ``train`` is held out (see `SplitConfig`). In fine-tuning ``valid`` is what forgetting is
    measured on. ``residues``: about so many a step and process. ``curriculum`` holds pairs
    (progress, longest crop), the first at progress 0. ``exclude``: a text file of ids, one a
    line, that are never trained on. ``teacher``: states of another model for the residues of
    ``train`` (`protok.training.distillation`). ``workers``: processes that prepare batches, for a GPU that
    would wait for them; 0 prepares each as it is due.
    """

    train: str = ""
    valid: str = ""
    exclude: str = ""
    teacher: str = ""
    residues: int = 1536
    workers: int = 0
    curriculum: tuple[tuple[float, int], ...] = CURRICULUM

    def __post_init__(self) -> None:
        if not any(at <= 0 for at, _ in self.curriculum):
            raise RecipeError("data.curriculum says nothing of the first step", "begin it at 0")


@dataclass(frozen=True)
class OptimConfig(OptimSettings):
    """How to train.

    ``scored_residues``: residues a chain whose views are scored in a step. ``coordinate_noise``: the encoder
    sees chains with Gaussian noise of up to so many Å on every atom, the decoder must restore them
    without it. ``consistency_weight``: weight of the squared difference between latents with and without that
    noise. ``residue_type_weights``: weights with which encoder states, code vectors and decoder states must
    name amino acids (`protok.training.auxiliary`). ``distill_weights``: weights with which the same three
    must say what ``data.teacher`` says (`protok.training.distillation`), codes and decoder also
    its means over the residues within each of ``distill_radii`` in Å.
    ``encoder_warmup_steps``: in so many of the steps, the first, nothing but the encoder
    learns, and nothing but these two tasks, on the longest crops: such a step costs a fraction of
    another; progress of all else is counted from their end. ``align_before_loss``: a decoder of placed
    codes is scored after superposition of each chain, not in the frame of the chain.
    ``devices``: how many processes train together, each with batches of its own; 0 is one for
    each GPU, or one on the CPU.
    """

    weight_decay: float = 0.02
    scored_residues: int = 64
    coordinate_noise: float = 0.0
    consistency_weight: float = 0.0
    align_before_loss: bool = False
    residue_type_weights: tuple[float, ...] = (0.0, 0.0, 0.0)
    distill_weights: tuple[float, ...] = (0.0, 0.0, 0.0)
    distill_radii: tuple[float, ...] = ()
    encoder_warmup_steps: int = 0
    devices: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("residue_type_weights", "distill_weights"):
            weights = getattr(self, key)
            if len(weights) != 3 or min(weights) < 0:
                raise RecipeError(
                    f"optim.{key} = {list(weights)}",
                    "give the weights of encoder states, code vectors and decoder states, or zeros",
                )
        if self.distill_radii and min(self.distill_radii) <= 0:
            raise RecipeError(f"optim.distill_radii = {list(self.distill_radii)}", "give radii in Å")
        asked = self.residue_type_weights[0] or self.distill_weights[0]
        if self.encoder_warmup_steps and not (0 < self.encoder_warmup_steps < self.steps and asked):
            raise RecipeError(
                f"optim.encoder_warmup_steps = {self.encoder_warmup_steps}",
                "give fewer than optim.steps, and in optim.residue_type_weights or optim.distill_weights "
                "a weight of encoder states, or 0",
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
    it is, which is the default for frozen codes. ``weight_interpolation``: how far the weights that are kept
    lie on the way from those before to the best ones; less forgets less. ``forgetting``: store or
    folder on which forgetting is measured. ``chains``: of each set in the report, at most.
    ``longest``: residues of a chain in the report, at most.
    """

    init: str = ""
    codebook: str = "frozen"
    encoder: bool = True
    weight_interpolation: float = 1.0
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
        if any(self.optim.distill_weights) and not self.data.teacher:
            raise RecipeError("optim.distill_weights without data.teacher", "name a file of states, or 0s")
        if self.data.teacher and not any(self.optim.distill_weights):
            raise RecipeError("data.teacher without optim.distill_weights", "give a weight, or no teacher")
        # The shape of a model to fine-tune need not be said, and is not known here.
        if self.optim.align_before_loss and not (self.model.decoder.global_frame or self.finetune.init):
            raise RecipeError(
                "optim.align_before_loss without model.decoder.global_frame",
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
