"""What the encoder sees of a residue: invariant features of it, of its neighbours, of its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protok.structure import geometry_padded
from protok.structure.backbone import Backbone
from protok.structure.geometry import chain_frame, density_moments, frames, linked, neighbours, torsions

#: Radii in Å of the density moments; beyond the last a residue is not seen directly.
RADII = (10.0, 18.0, 30.0)
#: Sequence separations beyond this are one class; another stands for other chains.
FAR = 32
RBF = 16
#: Residues whose edges are worked on at once without gradients: 1 MB in a layer of 128, which
#: stays in the cache of a processor; a GPU takes many at once.
ROWS, GPU_ROWS = 128, 2**15
NODE = 6 + 3 + 2 + 10 * len(RADII)
#: What placed encoders see beyond: position 3, orientation 9, length and extent of the chain.
PLACE = 3 + 9 + 2
EDGE = 3 + 3 + 9 + 3 + RBF


def node_features(global_frame: bool) -> int:
    """Node features of an encoder, with or without the place in the whole chain."""
    return NODE + PLACE * global_frame


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
        Residues of each structure; neighbourhoods do not cross structures.
    chain : (n,)
        Integer chain label; messages know whether they cross chains.
    """

    coords: Float[Tensor, "n 4 3"]
    mask: Bool[Tensor, "n"]
    sizes: list[int]
    chain: Int[Tensor, "n"]

    @classmethod
    def of(cls, backbones: Sequence[Backbone]) -> Batch:
        """Join Backbones; each is one neighbourhood, whatever chains it has."""
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


@dataclass
class Graph:
    """Invariant features of a batch and its neighbour lists (see `featurize`)."""

    node: Float[Tensor, "n f"]
    edge: Float[Tensor, "n k e"]
    separation: Int[Tensor, "n k"]
    index: Int[Tensor, "n k"]
    valid: Bool[Tensor, "n k"]


@torch.no_grad()
def featurize(batch: Batch, k: int, global_frame: bool = False) -> Graph:
    """Neighbour graph and SE(3)-invariant features of a batch, in float32.

    Node features: sine and cosine of phi, psi and omega with their presence, bonds
    to both sequence neighbours, density moments. Edge features: the neighbour's CA
    in the residue's frame (scaled, and as a direction), its relative orientation,
    the residue's direction in the neighbour's frame, radial basis of the distance.
    """
    coords, mask, chain = batch.coords, batch.mask, batch.chain
    n, ca, c = coords[:, 0], coords[:, 1], coords[:, 2]
    turn = frames(n, ca, c)
    if not len(ca):
        ints = torch.zeros(0, k, dtype=torch.long, device=ca.device)
        node = ca.new_zeros(0, node_features(global_frame))
        return Graph(node, ca.new_zeros(0, k, EDGE), ints, ints, ints.bool())
    together = ca.device.type != "cpu" and geometry_padded.fits(batch.sizes) and _one_chain_each(batch)
    around = (_around_rows if together else _around)(batch, turn, k, global_frame)
    index, valid = around.index, around.valid
    node = torch.cat([_local(batch), *around.node], 1)
    here = torch.arange(len(ca), device=ca.device)[:, None]
    separation = (index - here).clamp(-FAR, FAR) + FAR
    separation = torch.where(chain[index] == chain[:, None], separation, 2 * FAR + 1)
    edge, step = ca.new_empty(*index.shape, EDGE), row_blocks(ca)
    for start in range(0, len(ca), step):
        rows = slice(start, start + step)
        edge[rows] = edge_features(ca, turn, ca[rows], turn[rows], index[rows], valid[rows])
    return Graph(node * mask[:, None], edge, separation, index, valid)


@dataclass
class _Around:
    """What residues have around them: node features, neighbours, whether these are real."""

    node: list[Tensor]
    index: Tensor
    valid: Tensor


def _around(batch: Batch, turn: Tensor, k: int, global_frame: bool) -> _Around:
    """Structure by structure."""
    parts, start, ca = [], 0, batch.coords[:, 1]
    for size in batch.sizes:
        rows = slice(start, start + size)
        here = (ca[rows], turn[rows], batch.mask[rows])
        node = density_moments(*here, RADII)
        if global_frame:
            node = torch.cat([node, _placement(*here, batch.chain[rows])], 1)
        near, real = neighbours(ca[rows], batch.mask[rows], k)
        parts.append((node, near + start, real))
        start += size
    node, index, valid = (torch.cat(part) for part in zip(*parts, strict=True))
    return _Around([node], index, valid)


def _one_chain_each(batch: Batch) -> bool:
    change = batch.chain[1:] != batch.chain[:-1]
    ends = torch.tensor(batch.sizes).cumsum(0)[:-1] - 1
    change[ends[(ends >= 0) & (ends < len(change))].to(change.device)] = False
    return not bool(change.any())


def _around_rows(batch: Batch, turn: Tensor, k: int, global_frame: bool) -> _Around:
    """All structures at once, each of one chain."""
    rows = geometry_padded.PaddedRows.of(batch.sizes, turn.device)
    ca, frame, mask = (rows.scatter(part) for part in (batch.coords[:, 1], turn, batch.mask))
    node = [geometry_padded.density_moments(ca, frame, mask, RADII)]
    if global_frame:
        node.append(geometry_padded.placement(ca, frame, mask))
    index, valid = geometry_padded.neighbours(ca, mask, k)
    back = rows.scatter(torch.arange(len(turn), device=turn.device)).flatten()
    flat = [rows.end_to_end(part) for part in (*node, index, valid)]
    return _Around(flat[:-2], back[flat[-2]], flat[-1])


def _local(batch: Batch) -> Tensor:
    """Torsions of residues and their bonds to the residues before and after."""
    coords, mask, chain = batch.coords, batch.mask, batch.chain
    bond = linked(coords, mask) & (chain[1:] == chain[:-1])
    ends = torch.tensor(batch.sizes, device=bond.device).cumsum(0)[:-1] - 1
    bond[ends[(ends >= 0) & (ends < len(bond))]] = False
    angles, defined = torsions(coords, bond)
    pad = F.pad(bond, (1, 1))
    return torch.cat(
        [
            angles.sin() * defined,
            angles.cos() * defined,
            defined.float(),
            pad[:-1, None].float(),
            pad[1:, None].float(),
        ],
        dim=-1,
    )


def row_blocks(x: Tensor) -> int:
    """Residues that are worked on at once."""
    return ROWS if x.device.type == "cpu" else GPU_ROWS


def edge_features(
    ca: Tensor, turn: Tensor, here: Tensor, own: Tensor, index: Tensor, valid: Tensor
) -> Tensor:
    """Features of the edges of the residues at `here`, whose frames are `own`."""
    centres = torch.linspace(2.0, 22.0, RBF, device=ca.device)
    there, shape = index.flatten(), index.shape
    shift = ca.index_select(0, there).view(*shape, 3) - here[:, None]
    distance = shift.norm(dim=-1, keepdim=True).clamp(min=1e-4)
    local = shift @ own
    other = turn.index_select(0, there).view(*shape, 3, 3)
    relative = own.transpose(1, 2)[:, None] @ other
    back = -(shift[:, :, None] @ other)[:, :, 0]
    features = [
        local / 10.0,
        local / distance,
        relative.flatten(-2),
        back / distance,
        torch.exp(-(((distance - centres) / 1.5) ** 2)),
    ]
    return torch.cat(features, dim=-1) * valid[..., None]


def _placement(ca: Tensor, turn: Tensor, mask: Tensor, chain: Tensor) -> Tensor:
    """Position and orientation of residues in the frames of their chains; the chains' size."""
    placed = ca.new_zeros(len(ca), PLACE)
    for label in chain.unique():
        rows = (chain == label).nonzero()[:, 0]
        axes, centre = chain_frame(ca[rows], mask[rows])
        keep = mask[rows]
        here = (ca[rows] - centre) @ axes / 10.0
        # Length and radius of gyration: how finely the chain must be divided.
        count = keep.sum().clamp(min=1)
        radius = (here[keep].square().sum() / count).clamp(min=1e-4).sqrt()
        size = torch.stack([count.to(ca.dtype), radius]).log().expand(len(rows), 2)
        placed[rows] = torch.cat([here, (axes.T @ turn[rows]).flatten(1), size], dim=-1)
    return placed
