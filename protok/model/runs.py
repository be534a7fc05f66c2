"""Runs: stretches of residues that are bonded one to the next, the pieces that shapes are made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from protok.model.batch import Batch
from protok.structure.geometry import linked


@dataclass
class Runs:
    """Where each run of bonded residues lies, of many chains laid end to end.

    Attributes
    ----------
    run : (n,)
        Of each residue, counted from 0; -1 where it lacks N, CA or C.
    size : (r,)
        Residues of each run.
    first : (r,)
        Row of the first residue of each run.
    """

    run: Int[Tensor, "n"]
    size: Int[Tensor, "r"]
    first: Int[Tensor, "r"]

    @classmethod
    def of(cls, present: Bool[Tensor, "n"], bonded: Bool[Tensor, "m"]) -> Runs:
        """From which residues are there, and which of them are bonded to the next."""
        starts = present.clone()
        starts[1:] &= ~bonded
        first = starts.nonzero()[:, 0]
        run = torch.where(present, starts.cumsum(0) - 1, -1)
        size = torch.bincount(run[present], minlength=len(first))
        return cls(run, size, first)

    @classmethod
    def in_batch(cls, batch: Batch) -> Runs:
        """Runs of structures; none goes on in another structure or chain."""
        bonded = linked(batch.coords, batch.mask) & (batch.chain[1:] == batch.chain[:-1])
        ends = torch.tensor(batch.sizes, device=bonded.device).cumsum(0)[:-1] - 1
        bonded[ends[(ends >= 0) & (ends < len(bonded))]] = False
        return cls.of(batch.mask, bonded)

    def __len__(self) -> int:
        return len(self.size)

    def near(self, window: int) -> Bool[Tensor, "n v"]:
        """Whether the residues up to `window` positions before and after each, in order, are of its run."""
        if not len(self.run):
            return self.present[:, None].expand(0, 2 * window + 1)
        beside = F.pad(self.run, (window, window), value=-1).unfold(0, 2 * window + 1, 1)
        return (beside == self.run[:, None]) & self.present[:, None]

    @property
    def present(self) -> Bool[Tensor, "n"]:
        """Which residues are in a run."""
        return self.run >= 0
