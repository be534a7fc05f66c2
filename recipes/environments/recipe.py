"""Recipes of letters of environments."""

from __future__ import annotations

from dataclasses import dataclass, field

from protok.common.settings import OptimSettings, ValidSettings
from protok.model.config import EnvironmentConfig


@dataclass(frozen=True)
class Data:
    """What to train on.

    ``folder``: of `recipes.promod3`, with the relatives of `recipes.environments.relatives` and, where
    ``states`` weigh, those of `recipes.environments.teacher`. ``valid``: a store. ``residues``: about so
    many a step, of which the share ``paired`` is of relatives. ``longest``: residues of a crop. ``aside``:
    share of the pairs of relatives whose clusters are not trained on; what letters tell is measured of them.
    """

    folder: str = "runs/data"
    valid: str = ""
    residues: int = 1024
    paired: float = 0.5
    longest: int = 400
    aside: float = 0.01


@dataclass(frozen=True)
class Weights:
    """Of the parts of the loss; 0 leaves one out.

    Of a residue itself: ``kind`` its type, ``profile`` that of its relatives, ``near`` and ``around`` the
    types within 8 and 13 Å, ``surface`` accessibility, depth, entropy of the profile, ``fold`` secondary
    structure, ``states`` those of a teacher, asked for if they weigh. Of the residue in its place in a
    relative: ``partner`` the profile, ``contrast`` which of those of a batch it is. ``steady``: that latents
    stay, in a piece of the chain and with noise on the atoms.
    """

    kind: float = 1.0
    profile: float = 1.0
    near: float = 0.5
    around: float = 0.5
    surface: float = 0.5
    fold: float = 0.3
    states: float = 0.0
    partner: float = 1.0
    contrast: float = 0.3
    steady: float = 0.5


@dataclass(frozen=True)
class Optim(OptimSettings):
    """How to train; ``coordinate_noise``: of up to so many Å on every atom."""

    steps: int = 8000
    lr: float = 2e-3
    weight_decay: float = 0.01
    lr_warmup_steps: int = 100
    precision: str = "32"
    coordinate_noise: float = 0.2


@dataclass(frozen=True)
class Valid(ValidSettings):
    """What is measured on the way: so many chains, at most so long."""

    every: int = 1000
    chains: int = 60
    longest: int = 600


@dataclass(frozen=True)
class Recipe:
    """A whole run; reads from and writes to TOML sections of these names."""

    model: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    data: Data = field(default_factory=Data)
    weights: Weights = field(default_factory=Weights)
    optim: Optim = field(default_factory=Optim)
    valid: Valid = field(default_factory=Valid)
