"""Gated convolutions along the chain: what a residue's output knows ends a stated number of positions away.

Cost is linear in the length; a slice of a chain is read as it is read inside the chain, but for `reach`
positions at its ends.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from protok.model.runs import Runs


def around(x: Float[Tensor, "n w"], near: Bool[Tensor, "n v"]) -> Float[Tensor, "n u"]:
    """Rows of the residues before and after each, in order, itself among them; zero where not `near`."""
    window = near.shape[1] // 2
    if not len(x):
        return x.new_zeros(0, near.shape[1] * x.shape[1])
    beside = F.pad(x, (0, 0, window, window)).unfold(0, near.shape[1], 1).transpose(1, 2)
    return (beside * near[..., None]).flatten(1)


class Layer(nn.Module):
    """A gated convolution beside a residual path (gates of Dauphin et al. 2017, arXiv 1612.08083)."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear((2 * kernel + 1) * width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "n w"], near: Bool[Tensor, "n v"]) -> Float[Tensor, "n w"]:
        """Each residue from those near it."""
        gate, value = self.gate(around(self.norm(x), near)).chunk(2, -1)
        return x + self.out(F.silu(gate) * value)


class LocalConvolution(nn.Module):
    """States of residues that know of those near them in their runs.

    Parameters
    ----------
    inputs
        Numbers of a residue.
    width, layers
        Of the states.
    kernel
        Positions before and after a residue that a layer sees.
    window
        Positions before and after a residue whose numbers it is given at first.
    """

    def __init__(self, inputs: int, width: int, layers: int, kernel: int, window: int):
        super().__init__()
        #: `window`, and positions on either side beyond which nothing counts.
        self.kernel, self.window, self.reach = kernel, window, window + layers * kernel
        self.inputs = nn.Linear((2 * window + 1) * (inputs + 1), width)
        self.layers = nn.ModuleList(Layer(width, kernel) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "n d"], runs: Runs) -> Float[Tensor, "n w"]:
        """The sum along the layers is in float32 also under autocast."""
        # A constant tells residues with zeros from those beyond the ends.
        h = self.inputs(around(F.pad(x.float(), (0, 1), value=1.0), runs.near(self.window))).float()
        near = runs.near(self.kernel)
        for layer in self.layers:
            h = layer(h, near)
        return self.norm(h)
