"""What lies around residues in space: how dense it is, and who the nearest are, each seen from its own frame.

All numbers are seen from a residue's own frame, so they do not change when the structure moves, and do when
it is mirrored. A residue sees its own chain alone: an environment stays when another chain is added or taken
away. Memory is linear in length; the search for neighbours is by blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protok.model.batch import Batch
from protok.model.encoder import NUMBERS, window_features
from protok.model.runs import Runs
from protok.structure.geometry import beta_carbon, torsions
from protok.structure.poses import Poses

#: Å within which residues are counted, and over how many Å the edge is soft.
RADII, SOFT = (8.0, 12.0, 18.0), 1.0
#: Positions before and after a residue whose poses it knows as they are.
WINDOW = 4
#: Steps along the chain up to which neighbours are told apart.
APART = 8
#: Centres of distances of neighbours, Å.
CENTRES = (4.0, 5.0, 6.0, 7.0, 8.0, 9.5, 11.0, 13.0, 15.0, 18.0)
NODE = 9 + 2 * WINDOW * NUMBERS + 4 * len(RADII)
EDGE = 3 + len(CENTRES) + 9 + 2 * APART + 2
#: Residues whose distances to all others of a chain are held at a time.
BLOCK = 512


@dataclass
class Surroundings:
    """Of residues, of many chains laid end to end.

    Attributes
    ----------
    nodes : (n, f)
        Torsions, poses along the chain, densities.
    near : (n, k)
        Rows of the nearest residues of the same chain, nearest first; a residue's own row where there are
        no more.
    edges : (n, k, e)
        How each of them lies.
    there : (n, k)
        Whether it is another residue.
    """

    nodes: Float[Tensor, "n f"]
    near: Int[Tensor, "n k"]
    edges: Float[Tensor, "n k e"]
    there: Bool[Tensor, "n k"]


@torch.no_grad()
def surroundings(batch: Batch, neighbours: int) -> Surroundings:
    """Surroundings of the residues of structures; those of incomplete residues mean nothing."""
    poses, runs = Poses.of(batch.coords), Runs.in_batch(batch)
    n = len(batch.mask)
    cb = beta_carbon(*batch.coords[:, :3].unbind(1))
    near = torch.arange(n, device=cb.device)[:, None].repeat(1, neighbours)
    density = cb.new_zeros(n, len(RADII), 4)
    for rows in chains(batch):
        for block in rows.split(BLOCK):
            _look(cb, rows, block, near, density)
    there = near != torch.arange(n, device=near.device)[:, None]
    density[..., 1:] = torch.einsum("nij,nri->nrj", poses.turn, density[..., 1:])
    bonded = (runs.run[1:] == runs.run[:-1]) & batch.mask[1:]
    angle, defined = torsions(batch.coords, bonded)
    nodes = [angle.sin() * defined, angle.cos() * defined, defined.to(cb)]
    nodes += [window_features(poses, runs, WINDOW), density.flatten(1)]
    return Surroundings(torch.cat(nodes, 1), near, _edges(poses, cb, runs, near), there)


def chains(batch: Batch) -> list[Int[Tensor, "m"]]:
    """Rows of the complete residues of each chain of each structure."""
    sizes = torch.tensor(batch.sizes, device=batch.chain.device)
    number = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)
    key = number * (int(batch.chain.max()) + 1 if len(batch.chain) else 1) + batch.chain
    rows = batch.mask.nonzero()[:, 0]
    rows = rows[key[rows].argsort(stable=True)]
    counts = key[rows].unique_consecutive(return_counts=True)[1]
    return list(rows.split(counts.tolist()))


def _look(cb: Tensor, rows: Tensor, block: Tensor, near: Tensor, density: Tensor) -> None:
    """Fill in the nearest residues and the densities of a block of a chain."""
    # In float64, so that sums over a chain do not hang on the order in which they are taken.
    x, here = cb[rows].double(), cb[block].double()
    apart = torch.cdist(here, x, compute_mode="donot_use_mm_for_euclid_dist")
    for r, radius in enumerate(RADII):
        weight = ((radius - apart) / SOFT).sigmoid()
        total = weight.sum(1, keepdim=True)
        centre = (weight @ x - total * here) / radius
        scale = (radius / 4) ** 2
        density[block, r] = (torch.cat([total - 1, centre], 1) / scale).to(cb)
    apart[block[:, None] == rows] = torch.inf
    count = min(near.shape[1], len(rows) - 1)
    if count:
        near[block, :count] = rows[apart.topk(count, largest=False).indices]


def _edges(poses: Poses, cb: Tensor, runs: Runs, near: Tensor) -> Float[Tensor, "n k e"]:
    n, k = near.shape
    shift = torch.einsum("nij,nki->nkj", poses.turn, cb[near] - cb[:, None])
    apart = shift.norm(dim=-1, keepdim=True)
    turn = torch.einsum("nij,nkil->nkjl", poses.turn, poses.turn[near]).flatten(2)
    width = torch.tensor(CENTRES).diff(append=torch.tensor([22.0])).to(cb)
    bumps = (-(((apart - torch.tensor(CENTRES).to(cb)) / width) ** 2)).exp()
    offset = (near - torch.arange(n, device=near.device)[:, None]).clamp(-APART - 1, APART + 1)
    same = runs.run[near] == runs.run[:, None]
    kind = torch.where(same & (offset.abs() <= APART), offset + APART + (offset < 0), 2 * APART + 1)
    return torch.cat([shift / 10, bumps, turn, F.one_hot(kind, 2 * APART + 2).to(cb)], -1)
