"""Letters as weights instead of ids: how far others are, and backbones that a gradient goes through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from protok.model.network import ShapeNetwork, steps_of
from protok.quantize import Quantizer
from protok.tokenizers.built import Atoms, atoms_of, placed, runs_of
from protok.tokens.tokens import Tokens


@dataclass(frozen=True)
class Alternatives:
    """The codes nearest to the latents of residues.

    Attributes
    ----------
    codes : (L, k) int32
        Nearest first, which is the residue's own; -1 where it is incomplete.
    distances : (L, k) float32
        Of latent and code, in units of the latents; NaN where a residue is incomplete.
    """

    codes: np.ndarray
    distances: np.ndarray

    @property
    def margin(self) -> np.ndarray:
        """How much farther the second code is than the first, (L,): near 0 either could have been taken."""
        return self.distances[:, 1] - self.distances[:, 0]


def table(quantizer: Quantizer, like: Tensor) -> Float[Tensor, "k e"]:
    """All codes, in the space where they are compared."""
    return quantizer.codes(torch.arange(quantizer.size, device=like.device))


@torch.no_grad()
def distances(quantizer: Quantizer, z: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
    """Of latents to all codes, in the space where they are compared; in float64."""
    codes, inward = table(quantizer, z).double(), quantizer.inward(z.float()).double()
    return torch.cdist(inward, codes, compute_mode="donot_use_mm_for_euclid_dist")


def nearest(
    quantizer: Quantizer, z: Float[Tensor, "n d"], k: int
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """The codes nearest to latents, and how far they are; first is the one that encoding takes."""
    away = distances(quantizer, z)
    # Of two that are equally far, to the last digit, encoding may have taken either.
    order = away.scatter(1, quantizer.assign(z)[:, None], -1.0)
    codes = order.topk(k, largest=False).indices
    return codes, away.gather(1, codes)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let what is computed inside carry no gradient to the weights of a network."""
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in trained:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)


def decode_soft(
    network: ShapeNetwork, quantizer: Quantizer, weights: Float[Tensor, "n k"], like: Tokens
) -> Atoms:
    """See `ShapeTokenizer.decode_soft`; chains stand together."""
    if weights.shape != (len(like), quantizer.size):
        raise ValueError(f"weights of shape {tuple(weights.shape)}, not {(len(like), quantizer.size)}")
    runs = runs_of(like, weights.device)
    weights = weights.float().masked_fill(~runs.present[:, None], 0.0)
    if not torch.allclose(weights.detach().sum(-1), runs.present.float(), atol=1e-3):
        raise ValueError("the weights of a residue do not sum to 1; give logits.softmax(-1)")
    with frozen(network), torch.autocast(weights.device.type, enabled=False):
        mean = quantizer.outward(weights @ table(quantizer, weights)) * runs.present[:, None]
        h, numbers = network.read(mean, runs)
        built = atoms_of(
            network,
            runs,
            placed(network, like, runs, h, steps_of(numbers.double()), np.zeros(len(like), int)),
        )
    coords = built.coords.masked_fill(~runs.present[:, None, None], torch.nan)
    return Atoms(coords, built.confidence.masked_fill(~runs.present, torch.nan))
