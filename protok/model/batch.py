"""Residues of several structures laid end to end: what networks read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protok.structure.backbone import Backbone


@dataclass
class Batch:
    """Residues of several structures laid end to end.

    Attributes
    ----------
    coords : (n, 4, 3)
        N, CA, C, O in Å; zero where the residue is incomplete.
    mask : (n,)
        Residue has N, CA and C.
    sizes : list of int
        Residues of each structure; no run goes on in the next.
    chain : (n,)
        Integer chain label; a run ends where it changes.
    """

    coords: Float[Tensor, "n 4 3"]
    mask: Bool[Tensor, "n"]
    sizes: list[int]
    chain: Int[Tensor, "n"]

    @classmethod
    def of(cls, backbones: Sequence[Backbone]) -> Batch:
        """Join Backbones."""
        coords = np.concatenate([b.coords for b in backbones]) if backbones else np.zeros((0, 4, 3))
        chain = [np.unique(b.chain, return_inverse=True)[1] for b in backbones]
        return cls.from_coords(
            torch.from_numpy(np.ascontiguousarray(coords, dtype=np.float32)),
            [len(b) for b in backbones],
            torch.from_numpy(np.concatenate(chain)).long() if chain else None,
        )

    @classmethod
    def from_coords(
        cls, coords: Float[Tensor, "n 4 3"], sizes: list[int], chain: Tensor | None = None
    ) -> Batch:
        """Build from coordinates with NaN for missing atoms."""
        mask = coords[:, :3].isfinite().all(-1).all(-1)
        if chain is None:
            chain = torch.zeros(len(coords), dtype=torch.long, device=coords.device)
        return cls(torch.where(mask[:, None, None], coords, 0.0).nan_to_num(), mask, sizes, chain)

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """The structures of several batches, one after the other."""
        coords, mask, chain = (
            torch.cat([getattr(b, key) for b in batches]) for key in ("coords", "mask", "chain")
        )
        return cls(coords, mask, [size for b in batches for size in b.sizes], chain)

    def to(self, device: torch.device | str) -> Batch:
        """Move to a device."""
        return Batch(self.coords.to(device), self.mask.to(device), self.sizes, self.chain.to(device))
