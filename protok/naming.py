"""A side task of training: to name the amino acid of each residue from its surroundings.

A tokenizer that only rebuilds coordinates has no reason to keep what tells a binding site from
its neighbours. Naming residues (inverse folding: Ingraham et al. 2019, Dauparas et al. 2022) is
such a reason, and costs no labels. The encoder does not see a sequence, here as elsewhere; the
heads belong to the training and are not saved with the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from protok.encoder import Batch

#: Letters of the classes 0, 1 ...; what is none of them is not asked for.
LETTERS = "ACDEFGHIKLMNPQRSTVWY"
UNKNOWN = -1
#: What can be asked, in the order of ``optim.naming``.
PLACES = ("states", "codes", "decoder")


@dataclass
class Known:
    """What a network holds of each residue at its three places, chains end to end.

    Attributes
    ----------
    states : (n, h)
        The encoder after its last message.
    codes : (n, d)
        Code vectors, as the decoder gets them.
    decoder : (n, w)
        The decoder, which has read the codes of the whole chain.
    """

    states: Float[Tensor, "n h"]
    codes: Float[Tensor, "n d"]
    decoder: Float[Tensor, "n w"]


@dataclass
class Lesson:
    """A batch, and the amino acids in it (n,), `UNKNOWN` where there is no letter for it."""

    batch: Batch
    amino_acid: Int[Tensor, "n"]

    def to(self, device: torch.device | str) -> Lesson:
        """Move to a device."""
        return Lesson(self.batch.to(device), self.amino_acid.to(device))


@dataclass
class Named:
    """The weighted sum of the cross-entropies, and the share named rightly at each place asked."""

    loss: Tensor
    right: dict[str, Tensor]


class Naming(nn.Module):
    """Linear heads that name residues.

    Parameters
    ----------
    widths
        Of what `Known` holds, in its order.
    weights
        Of the cross-entropy at each place; without one, a place has no head.
    """

    def __init__(self, widths: tuple[int, int, int], weights: tuple[float, float, float]):
        super().__init__()
        asked = {place: w for place, w in zip(PLACES, weights, strict=True) if w}
        self.weights = asked
        self.heads = nn.ModuleDict(
            {
                place: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(LETTERS)))
                for place, width in zip(PLACES, widths, strict=True)
                if place in asked
            }
        )

    def forward(self, known: Known, amino_acid: Int[Tensor, "n"]) -> Named:
        """Cross-entropy over the residues that have a letter; 0 where none has."""
        rows = amino_acid != UNKNOWN
        true = amino_acid[rows]
        loss, right = known.states.new_zeros((), dtype=torch.float32), {}
        for place, head in self.heads.items():
            out = head(getattr(known, place)[rows]).float()
            count = max(len(true), 1)
            loss = loss + self.weights[place] * F.cross_entropy(out, true, reduction="sum") / count
            right[place] = (out.argmax(-1) == true).sum() / count
        return Named(loss, right)


def amino_acids(sequence: str) -> Tensor:
    """(n,) classes of the letters of a sequence."""
    return torch.from_numpy(np.array([LETTERS.find(one) for one in sequence], np.int64))
