"""Shapes of a model: plain dataclasses, so that a recipe or a checkpoint is read without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from protok.common.settings import RecipeError, at_least_one, heads_divide
from protok.quantize.config import QuantizerConfig

#: Neighbours of a residue, which no weight is for: memory grows with them.
MOST_NEIGHBOURS = 1024


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the encoder (see `protok.model.encoder.Encoder`).

    ``global_frame``: it sees where a residue lies in the frame of its chain, not only its surroundings.
    """

    hidden: int = 128
    layers: int = 3
    neighbours: int = 16
    global_frame: bool = False

    def __post_init__(self) -> None:
        at_least_one(self, "hidden", "layers", "neighbours")
        if self.neighbours > MOST_NEIGHBOURS:
            raise RecipeError(f"neighbours {self.neighbours} is too large", f"give at most {MOST_NEIGHBOURS}")


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of the decoder.

    ``global_frame`` chooses `protok.model.decoder.Decoder`, for codes that say where in the chain a residue
    lies; otherwise it is `protok.model.pair_geometry.ViewDecoder`, whose pair head has ``pair`` hidden units.
    """

    width: int = 256
    layers: int = 8
    heads: int = 4
    pair: int = 96
    global_frame: bool = False

    def __post_init__(self) -> None:
        at_least_one(self, "width", "layers", "heads", "pair")
        heads_divide(self.width, self.heads)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that a checkpoint needs to rebuild its network."""

    name: str = "protok-512"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
