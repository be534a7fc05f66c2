"""The network of shapes and keyframes: encoder, letters, the steps that they say, keyframes, refiner."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from protok.errors import RecipeError
from protok.model.build import Refiner, build
from protok.model.config import KeyframeConfig, ShapeEncoderConfig, ShapesConfig
from protok.model.encoder import Encoder, ShapeEncoder
from protok.model.environment import EnvironmentNetwork
from protok.model.keyframes import Grid, Motions
from protok.model.local_convolution import LocalConvolution
from protok.model.runs import Runs
from protok.quantize import ProVQ, build_quantizer
from protok.quantize.curriculum import Schedule
from protok.quantize.own import make_own
from protok.quantize.table import VQ
from protok.structure.poses import Poses, orthonormal

#: Å per unit of a predicted shift.
STEP = 3.8
#: Steps are rounded to so many parts of an Å, and of the length of an axis: codes must not follow
#: from the last digits of a sum, which another machine adds up in another order.
PARTS = 1024
#: Of the moving averages of keyframes: they are many, and few in a batch.
DECAY = 0.999
#: Motions that are kept to place the keyframes on.
KEPT = 1 << 17


@dataclass
class Decoded:
    """What letters and keyframes say of residues.

    Attributes
    ----------
    poses
        Frames of residues.
    confidence : (n,)
        Logit of the CA lDDT that each is expected to have.
    """

    poses: Poses
    confidence: Float[Tensor, "n"]


class ShapeNetwork(nn.Module):
    """Networks and codebooks of a configuration.

    The step network reads the shape letters and says how the chain goes on from each residue to
    the next. It runs while encoding too, since keyframes are coded as what it leaves.
    """

    def __init__(self, config: ShapesConfig):
        super().__init__()
        self.config = config
        dim, width = config.quantizer.dim, config.steps.width
        self.encoder = build_encoder(config.encoder, dim)
        self.quantizer = build_quantizer(**asdict(config.quantizer))
        self.trunk = LocalConvolution(dim, **asdict(config.steps))
        self.step = nn.Linear(width, 9)
        nn.init.normal_(self.step.weight, std=0.02)
        self.step.bias.data = torch.tensor([0.2] * 3 + [1, 0, 0] + [0, 1, 0])
        self.keyframes = keyframe_quantizers(config.keyframes)
        self.refiner = Refiner(width, **asdict(config.refiner))
        around = config.environment
        self.environment = None if around.quantizer.kind == "none" else EnvironmentNetwork(around)

    def latents(self, poses: Poses, runs: Runs) -> Float[Tensor, "n d"]:
        """Latents of all residues; those of incomplete residues mean nothing.

        Raises
        ------
        RecipeError
            If an encoder of a user's own gives others.
        """
        z, shape = self.encoder(poses, runs), (len(poses.shift), self.config.quantizer.dim)
        if z.shape != shape:
            kind = self.config.encoder.kind
            raise RecipeError(f"{kind} gives latents of shape {tuple(z.shape)}, not {shape}", "one a residue")
        return z

    def read(self, z: Float[Tensor, "n d"], runs: Runs) -> tuple[Float[Tensor, "n w"], Float[Tensor, "n 9"]]:
        """States of residues, and the steps to the next ones as numbers, from code vectors."""
        h = self.trunk(z, runs)
        return h, self.step(h).float()

    def quantizer_of(self, spacing: int) -> ProVQ:
        """The quantizer of keyframes of a spacing."""
        return cast(ProVQ, self.keyframes[str(spacing)])

    def motions(self, spacing: int) -> Motions:
        """The codebook of keyframes of a spacing."""
        return Motions(self.quantizer_of(spacing).table(), spacing)

    def decode(
        self, h: Float[Tensor, "n w"], steps: Poses, grid: Grid, keyframes: Poses, runs: Runs
    ) -> Decoded:
        """Residues between keyframes, refined."""
        built = build(grid, keyframes, steps, runs)
        return Decoded(*self.refiner(h, built, steps, runs))


def build_encoder(config: ShapeEncoderConfig, dim: int) -> Encoder:
    """The encoder that a configuration names (see `protok.quantize.own` for errors)."""
    if config.kind == "window":
        return ShapeEncoder(dim, config.hidden, config.layers, config.window)
    return make_own(config.kind, Encoder, dim, **config.options)


def steps_of(numbers: Float[Tensor, "n 9"]) -> Poses:
    """Motions of what the step network says."""
    return Poses(STEP * numbers[:, :3], orthonormal(numbers[:, 3:]))


def stored_steps(numbers: Float[Tensor, "n 9"]) -> Poses:
    """The same in float64, of rounded numbers: what keyframes are coded and decoded with."""
    unit = numbers.new_tensor([STEP] * 3 + [1.0] * 6, dtype=torch.float64)
    rounded = (numbers.double() * unit * PARTS).round() / PARTS
    return Poses(rounded[:, :3], orthonormal(rounded[:, 3:]))


def keyframe_quantizers(config: KeyframeConfig) -> nn.ModuleDict:
    """A codebook of motions for each spacing, by its number."""
    schedule = Schedule("cosine", config.continuous_share, config.ramp)
    return nn.ModuleDict(
        {
            str(spacing): ProVQ(VQ(size, 6, decay=DECAY), schedule, reservoir=KEPT)
            for spacing, size in zip(config.spacings, config.sizes, strict=True)
        }
    )
