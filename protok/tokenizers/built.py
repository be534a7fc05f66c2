"""From tokens to atoms: runs, keyframes with their poses, residues between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from protok.errors import CodebookMismatch
from protok.model.close_bonds import close_bonds, with_oxygen
from protok.model.keyframes import Grid, decode
from protok.model.links import CODES
from protok.model.network import ShapeNetwork
from protok.model.runs import Runs
from protok.structure.backbone import Backbone
from protok.structure.geometry import residue_atoms
from protok.structure.poses import Poses
from protok.tokens.keyframes import Keyframes, chain_order
from protok.tokens.tokens import Tokens


@dataclass
class Read:
    """What tokens say before residues are built.

    `group` is of runs: those of one number lie as they should to one another.
    """

    states: Tensor
    steps: Poses
    grid: Grid
    keyframes: Poses
    group: Tensor


@dataclass
class Atoms:
    """What letters or weights of them decode to, as tensors.

    Attributes
    ----------
    coords : (L, 4, 3)
        N, CA, C, O in Å; NaN where a residue has no letter.
    confidence : (L,)
        The CA lDDT, 0 to 100, that the decoder expects of each residue by itself: `decode` gives the mean
        among its neighbours.
    """

    coords: Float[Tensor, "n 4 3"]
    confidence: Float[Tensor, "n"]


def by_chain(like: Backbone | Tokens) -> np.ndarray | None:
    """Order of residues in which those of a chain stand together; None where they do."""
    order = chain_order(like.chain)
    return None if np.array_equal(order, np.arange(len(order))) else order


def runs_of(tokens: Tokens, device: torch.device) -> Runs:
    """Runs of residues with a token, which end at a missing one, at another chain and where keyframes say."""
    present = torch.from_numpy(tokens.ids >= 0)
    bonded = present[1:] & present[:-1]
    chain = tokens.chain
    bonded &= torch.from_numpy(chain[1:] == chain[:-1])
    if tokens.keyframes is not None:
        start = tokens.keyframes.start
        bonded[torch.from_numpy(start[start > 0].astype(np.int64)) - 1] = False
    return Runs.of(present.to(device), bonded.to(device))


def placed(
    network: ShapeNetwork, tokens: Tokens, runs: Runs, h: Tensor, steps: Poses, structure: np.ndarray
) -> Read:
    """With keyframes of tokens, and one in the middle of each run that has none.

    `structure` is of residues, ascending: each lies about its own first keyframe.
    """
    frames, config = tokens.keyframes, network.config.keyframes
    if frames is None:
        none = np.zeros(0, np.int32)
        frames = Keyframes(config.spacings[0], config.sizes[0], none, none, none, none.reshape(0, CODES))
    if frames.spacing not in config.spacings or frames.size != config.size(frames.spacing):
        raise CodebookMismatch(
            f"keyframes each {frames.spacing} of {frames.size} motions, which the model has not",
            "encode again",
            file=tokens.name,
        )
    device = runs.first.device
    place, code, start, link = (
        torch.from_numpy(part.astype(np.int64)).to(device)
        for part in (frames.place, frames.code, frames.start, frames.link)
    )
    has = torch.zeros(len(runs), dtype=torch.bool, device=device)
    has[runs.run[place]] = True
    middle = (runs.first + runs.size // 2)[~has]
    row, order = torch.cat([place, middle]).sort()
    grid = Grid.of(runs, row)
    ids = torch.cat([code, torch.full_like(middle, -1)])[order]
    by_run = link.new_full((len(runs), CODES), -1)
    by_run[runs.run[start]] = link
    links = torch.where(grid.first[:, None], by_run[grid.run], -1)
    group = torch.from_numpy(structure.astype(np.int64)).to(device)[runs.first]
    poses = decode(grid, steps, ids, links, network.motions(frames.spacing), group)
    # A run without a link lies anywhere, and those that hang on it with it.
    return Read(h, steps, grid, poses, (by_run[:, 0] < 0).cumsum(0))


def atoms_of(network: ShapeNetwork, runs: Runs, read: Read) -> Atoms:
    """Atoms from states, steps, and keyframes with their poses."""
    h = read.states
    if not len(runs):
        return Atoms(h.new_full((len(h), 4, 3), torch.nan), h.new_full((len(h),), torch.nan))
    decoded = network.decode(h, read.steps.to(h), read.grid, read.keyframes.to(h), runs)
    atoms = residue_atoms(decoded.poses.turn, decoded.poses.shift)
    return Atoms(with_oxygen(close_bonds(atoms, runs), runs), 100 * decoded.confidence.sigmoid())
