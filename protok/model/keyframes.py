"""Keyframes: stored poses of every few residues, each corrected where the shapes lead.

Between two keyframes the chain goes as the steps say that are read from the shape letters. At the
next keyframe the true pose differs from the predicted one by a motion, and the code of that motion,
in the predicted frame, is all that is stored. The walk is in *closed loop*: each code corrects the pose
that decoding will really have, the errors of all codes before it included, so that errors do not
add up along a chain (as in differential coding of sound and video). Nothing here has a global frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protok.model.links import CODES, link, linked_by
from protok.model.runs import Runs
from protok.quantize.centres import nearest
from protok.structure.poses import Poses, rotation, rotation_vector

#: Å for which a radian counts in the distance of motions.
LEVER = 4.0


def vector(motion: Poses) -> Float[Tensor, "*b 6"]:
    """A motion as six numbers in Å: its shift, and its rotation vector times `LEVER`."""
    return torch.cat([motion.shift, LEVER * rotation_vector(motion.turn)], -1)


def motion(numbers: Float[Tensor, "*b 6"]) -> Poses:
    """The way back from `vector`."""
    return Poses(numbers[..., :3], rotation(numbers[..., 3:] / LEVER))


def places(runs: Runs, spacing: int) -> Int[Tensor, "m"]:
    """Rows of the residues with a keyframe: the middle of each `spacing` residues of a run.

    What is left at the end of a run has its keyframe in its middle too, or at its last residue if it
    is shorter. They follow from the runs alone.
    """
    count = -(-runs.size // spacing)
    run = torch.repeat_interleave(torch.arange(len(runs), device=count.device), count)
    block = torch.arange(len(run), device=count.device) - (count.cumsum(0) - count)[run]
    return runs.first[run] + torch.minimum(block * spacing + spacing // 2, runs.size[run] - 1)


@dataclass
class Grid:
    """The keyframes of runs that lie end to end, in the order of their rows.

    Attributes
    ----------
    row : (m,)
        Of their residues.
    run : (m,)
        Of their residues.
    first : (m,)
        Whether none is before it in its run.
    start : (m,)
        Row of the first residue of its run.
    """

    row: Int[Tensor, "m"]
    run: Int[Tensor, "m"]
    first: Bool[Tensor, "m"]
    start: Int[Tensor, "m"]

    @classmethod
    def of(cls, runs: Runs, row: Int[Tensor, "m"]) -> Grid:
        """From the rows of the keyframes, ascending."""
        run = runs.run[row]
        first = torch.ones_like(run, dtype=torch.bool)
        first[1:] = run[1:] != run[:-1]
        return cls(row, run, first, runs.first[run])

    def __len__(self) -> int:
        return len(self.row)

    def walks(self, group: Int[Tensor, "r"]) -> list[Int[Tensor, "_"]]:
        """Keyframes by their rank in their group of runs: those of one rank need not wait for each other.

        Parameters
        ----------
        group : (r,)
            Of each run, ascending.
        """
        of = group[self.run]
        index = torch.arange(len(of), device=of.device)
        begin = torch.searchsorted(of, of)
        rank = index - begin
        order = rank.argsort(stable=True)
        return list(order.split(torch.bincount(rank).tolist())) if len(of) else []


def hops(grid: Grid, steps: Poses) -> Poses:
    """The motion from each keyframe to the next, as the steps say; still where the next is of another run.

    ``steps[i]`` leads from residue i to i + 1.
    """
    gap = torch.zeros_like(grid.row)
    gap[:-1] = torch.where(grid.first[1:], 0, grid.row[1:] - grid.row[:-1])
    way = Poses.still(len(grid), like=steps.shift)
    for d in range(int(gap.max()) if len(gap) else 0):
        row = (grid.row + d).clamp(max=len(steps) - 1)
        way = way.then(steps[row]).where(d < gap, way)
    return way


def walk(
    grid: Grid,
    way: Poses,
    ranks: list[Int[Tensor, "_"]],
    settle: Callable[[Int[Tensor, "_"], Poses | None, Poses], Poses],
) -> Poses:
    """Decoded poses of keyframes, rank by rank.

    Parameters
    ----------
    way
        From each keyframe to the next (see `hops`).
    ranks
        See `Grid.walks`.
    settle
        Called with the keyframes of a rank, the decoded poses before them (None for the first rank), and
        the poses to which the way leads from there; returns their decoded poses.
    """
    out = Poses.still(len(grid), like=way.shift)
    shift, turn = out.shift, out.turn.clone()
    for keys in ranks:
        before = keys - 1
        if keys is ranks[0]:
            last, ahead = None, Poses(shift[keys], turn[keys])
        else:
            last = Poses(shift[before], turn[before])
            ahead = last.then(way[before])
        here = settle(keys, last, ahead)
        shift[keys], turn[keys] = here.shift, here.turn
    return Poses(shift, turn)


@dataclass
class Coded:
    """Keyframes as they are stored, and as they are decoded.

    Attributes
    ----------
    code : (m,)
        Of the correction at each keyframe; -1 at the first of a run.
    link : (m, c)
        Codes of the link at the first keyframe of each run but the first of a structure; else -1.
    poses
        Decoded, about the first keyframe of each structure, in float64.
    """

    code: Int[Tensor, "m"]
    link: Int[Tensor, "m c"]
    poses: Poses


def code(
    grid: Grid, steps: Poses, true: Poses, motions: Float[Tensor, "k 6"], group: Int[Tensor, "r"]
) -> Coded:
    """Keyframes of runs in closed loop.

    Parameters
    ----------
    steps
        See `hops`; as decoding has them, to the last digit.
    true
        Of all residues.
    motions
        The codebook.
    group : (r,)
        Structure of each run, ascending: the runs of one hang on each other by links.
    """
    book, truth = motions.double(), true.double()[grid.row]
    ids = grid.row.new_full((len(grid),), -1)
    links = grid.row.new_full((len(grid), CODES), -1)

    def settle(keys: Tensor, last: Poses | None, ahead: Poses) -> Poses:
        if last is None:
            return truth[keys]
        first = grid.first[keys]
        chosen = nearest(vector(ahead.to_reach(truth[keys])), book)
        here = ahead.then(motion(book[chosen]))
        ids[keys] = torch.where(first, -1, chosen)
        if first.any():
            codes = link(last.to_reach(truth[keys]))
            links[keys] = torch.where(first[:, None], codes, -1)
            here = last.then(linked_by(codes)).where(first, here)
        return here

    return Coded(ids, links, walk(grid, hops(grid, steps), grid.walks(group), settle))


def decode(
    grid: Grid,
    steps: Poses,
    ids: Int[Tensor, "m"],
    links: Int[Tensor, "m c"],
    motions: Float[Tensor, "k 6"],
    group: Int[Tensor, "r"],
) -> Poses:
    """Poses of stored keyframes, each structure about its first (see `code`).

    A run without a link lies where the one before it ends, and says nothing of where it is.
    """
    corrections = motion(motions.double()[ids.clamp(min=0)])
    jumps = linked_by(links.clamp(min=0))

    def settle(keys: Tensor, last: Poses | None, ahead: Poses) -> Poses:
        if last is None:
            return ahead
        here = ahead.then(corrections[keys]).where(ids[keys] >= 0, ahead)
        return last.then(jumps[keys]).where(grid.first[keys] & (links[keys, 0] >= 0), here)

    return walk(grid, hops(grid, steps), grid.walks(group), settle)
