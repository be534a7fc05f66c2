"""A side task of training: to name the amino acid of each residue from its surroundings.

A tokenizer that only rebuilds coordinates has no reason to keep what tells a binding site from
its neighbours. Naming residues (inverse folding: Ingraham et al. 2019, Dauparas et al. 2022) is
such a reason, and costs no labels. The encoder does not see a sequence, here as elsewhere; the
heads belong to the training and are not saved with the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from protok.model.network import Activations
from protok.structure.backbone import AMINO_ACIDS

#: The class of what is none of `AMINO_ACIDS`, which is not asked for.
UNKNOWN = -1
#: What can be asked, in the order of ``optim.residue_type_weights`` and ``optim.distill_weights``.
PLACES = ("states", "codes", "decoder")


@dataclass
class AuxiliaryLoss:
    """The weighted sum of the losses of a side task, and how good each place asked was.

    `right`: the share of amino acids named rightly, or of a teacher's variance explained.
    """

    loss: Tensor
    right: dict[str, Tensor]


def heads_for(
    widths: tuple[int, int, int], weights: tuple[float, ...], outs: Sequence[int]
) -> tuple[dict[str, float], nn.ModuleDict]:
    """The weights that are not 0, and a linear head for each of them.

    Heads begin at zero, so that what they hold is at first not pulled anywhere: random ones ask
    for nonsense, and a network that is trained already would follow before they have learned. The
    widths are those of what `Activations` holds, in its order; `outs` are the outputs of the heads.
    """
    asked = {place: weight for place, weight in zip(PLACES, weights, strict=True) if weight}
    heads = nn.ModuleDict()
    for place, width, out in zip(PLACES, widths, outs, strict=True):
        if place in asked:
            linear = nn.Linear(width, out)
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
            heads[place] = nn.Sequential(nn.LayerNorm(width), linear)
    return asked, heads


class ResidueTypeHeads(nn.Module):
    """Linear heads that name residues; for the parameters see `heads_for`."""

    def __init__(self, widths: tuple[int, int, int], weights: tuple[float, ...]):
        super().__init__()
        self.weights, self.heads = heads_for(widths, weights, (len(AMINO_ACIDS),) * 3)

    def forward(self, activations: Activations, amino_acid: Int[Tensor, "n"]) -> AuxiliaryLoss:
        """Cross-entropy over the residues that have a letter; 0 where none has."""
        rows = amino_acid != UNKNOWN
        true = amino_acid[rows]
        loss, right = activations.states.new_zeros((), dtype=torch.float32), {}
        for place, held, head in activations.for_heads(self.heads):
            out = head(held[rows]).float()
            count = max(len(true), 1)
            loss = loss + self.weights[place] * F.cross_entropy(out, true, reduction="sum") / count
            right[place] = (out.argmax(-1) == true).sum() / count
        return AuxiliaryLoss(loss, right)


def amino_acids(sequence: str) -> Tensor:
    """(n,) classes of the letters of a sequence."""
    return torch.tensor([AMINO_ACIDS.find(letter) for letter in sequence], dtype=torch.long)


class DistillationHeads(nn.Module):
    """Linear heads that predict what a teacher tells.

    Encoder states must say the teacher's state of the residue itself, code vectors and decoder
    states the means around it too: what a site is for shows in its surroundings, and what
    neighbours share can be said in few bits.

    Parameters
    ----------
    widths, weights
        See `protok.training.auxiliary.heads_for`.
    target_widths
        `Teacher.widths`.
    """

    def __init__(
        self, widths: tuple[int, int, int], weights: tuple[float, ...], target_widths: tuple[int, int]
    ):
        super().__init__()
        own, told = target_widths
        self.weights, self.heads = heads_for(widths, weights, (own, told, told))

    def forward(self, activations: Activations, targets: Float[Tensor, "n w"]) -> AuxiliaryLoss:
        """Mean squared error over the residues of which the teacher says something."""
        rows = targets.isfinite().all(-1)
        targets = targets[rows]
        loss, right = activations.states.new_zeros((), dtype=torch.float32), {}
        for place, held, head in activations.for_heads(self.heads):
            out = head(held[rows]).float()
            true = targets[:, : out.shape[1]]
            error = (out - true).square().sum() / max(true.numel(), 1)
            loss = loss + self.weights[place] * error
            right[place] = 1 - error.detach()
        return AuxiliaryLoss(loss, right)
