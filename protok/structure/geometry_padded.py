"""Surroundings of residues of many chains at once, as a GPU is best used.

`protok.structure.geometry` works chain by chain, in pieces that fit the cache of a processor; to a GPU
each chain is then a hundred small tasks. Here chains lie in rows of one length, and all pairs
of residues of a chain are computed: memory grows with the square of the longest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from protok.structure.geometry import chain_frame, distances, powers_of, seen_moments

#: Pairs of residues in rows, at most: 1 GB a matrix in float64.
PAIRS = 2**27


@dataclass
class PaddedRows:
    """Where the residues of chains that lie end to end go when each has a row of its own.

    Attributes
    ----------
    shape
        Chains, and residues of the longest.
    place : (n,)
        Of each residue, in the flattened rows.
    """

    shape: tuple[int, int]
    place: Int[Tensor, "n"]

    @classmethod
    def of(cls, sizes: list[int], device: torch.device) -> PaddedRows:
        """The rows of chains of these sizes."""
        longest = max(sizes)
        place = [torch.arange(size) + i * longest for i, size in enumerate(sizes)]
        return cls((len(sizes), longest), torch.cat(place).to(device))

    def scatter(self, flat: Shaped[Tensor, "n *d"]) -> Shaped[Tensor, "b l *d"]:
        """Into rows; zero, or False, on padding."""
        rows = flat.new_zeros(self.shape[0] * self.shape[1], *flat.shape[1:])
        rows[self.place] = flat
        return rows.unflatten(0, self.shape)

    def end_to_end(self, rows: Shaped[Tensor, "b l *d"]) -> Shaped[Tensor, "n *d"]:
        """Out of rows."""
        return rows.flatten(0, 1)[self.place]


def fits(sizes: list[int]) -> bool:
    """Whether rows of chains of these sizes are not too many and too long."""
    return bool(sizes) and 0 < len(sizes) * max(sizes) ** 2 <= PAIRS


def neighbours(
    ca: Float[Tensor, "b l 3"], mask: Bool[Tensor, "b l"], k: int
) -> tuple[Int[Tensor, "b l k"], Bool[Tensor, "b l k"]]:
    """As `geometry.neighbours`; indices are places in the flattened rows."""
    b, longest, _ = ca.shape
    apart = distances(ca, ca).masked_fill(~mask[:, None], torch.inf)
    apart.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    nearest = apart.topk(min(k, longest), largest=False, sorted=True)
    own = torch.arange(b * longest, device=ca.device).view(b, longest, 1)
    index, valid = own.repeat(1, 1, k), mask.new_zeros(b, longest, k)
    real = nearest.values.isfinite() & mask[..., None]
    first = own[:, :1]
    index[..., : min(k, longest)] = torch.where(real, nearest.indices + first, own)
    valid[..., : min(k, longest)] = real
    return index, valid


def density_moments(
    ca: Float[Tensor, "b l 3"],
    rotation: Float[Tensor, "b l 3 3"],
    mask: Bool[Tensor, "b l"],
    radii: tuple[float, ...],
) -> Float[Tensor, "b l f"]:
    """As `geometry.density_moments`."""
    # In float64, for the same reason.
    there = mask[..., None].double()
    centre = (ca * there).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)
    here = (ca - centre) * there
    square = here.square().sum(-1)
    apart = square[:, :, None] + square[:, None] - 2 * here @ here.transpose(1, 2)
    powers = powers_of(here) * there
    inside = [(1 - apart / r**2).clamp_(min=0).square_() @ powers for r in radii]
    moments = seen_moments(torch.stack(inside, 2), here, rotation, radii)
    return (moments * mask[..., None, None]).flatten(2)


def placement(
    ca: Float[Tensor, "b l 3"], turn: Float[Tensor, "b l 3 3"], mask: Bool[Tensor, "b l"]
) -> Float[Tensor, "b l p"]:
    """Position, orientation and size of chains, one a row (see `protok.model.encoder`)."""
    axes, centre = chain_frame(ca, mask)
    here = (ca - centre[:, None]) @ axes / 10.0
    # Length and radius of gyration: how finely the chain must be divided.
    count = mask.sum(1).clamp(min=1)
    radius = ((here.square().sum(-1) * mask).sum(1) / count).clamp(min=1e-4).sqrt()
    size = torch.stack([count.to(ca.dtype), radius], -1).log()
    turned = axes.transpose(1, 2)[:, None] @ turn
    return torch.cat([here, turned.flatten(2), size[:, None].expand(-1, ca.shape[1], -1)], -1)
