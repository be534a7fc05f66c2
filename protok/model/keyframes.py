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
from protok.structure.poses import Poses, orthonormal, rotation, rotation_vector


def lever(spacing: int) -> float:
    """Å for which a radian counts in the distance of motions: a choice, the more the more residues turn."""
    return max(4.0, spacing / 2)


def vector(motion: Poses, chord: Float[Tensor, "*b 3 3"], spacing: int) -> Float[Tensor, "*b 6"]:
    """A motion as six numbers in Å: its shift, and its rotation vector times `lever`, along a chord."""
    parts = motion.shift, lever(spacing) * rotation_vector(motion.turn)
    return torch.cat([(part[..., None] * chord).sum(-2) for part in parts], -1)


def motion(numbers: Float[Tensor, "*b 6"], chord: Float[Tensor, "*b 3 3"], spacing: int) -> Poses:
    """The way back from `vector`."""
    shift, turn = ((chord * part[..., None, :]).sum(-1) for part in numbers.split(3, -1))
    return Poses(shift, rotation(turn / lever(spacing)))


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
    """The motion to each keyframe from the one before it, as the steps say; still at the first of a run.

    ``steps[i]`` leads from residue i to i + 1.
    """
    before = torch.where(grid.first, grid.row, grid.row.roll(1))
    gap = grid.row - before
    way = Poses.still(len(grid), like=steps.shift)
    for d in range(int(gap.max()) if len(gap) else 0):
        way = way.then(steps[(before + d).clamp(max=len(steps) - 1)]).where(d < gap, way)
    return way


def chords(way: Poses) -> Float[Tensor, "m 3 3"]:
    """Axes in the frame to which each way leads: back to where it came from, and across.

    Where a correction hangs on the direction of the way, one codebook for all places can say so only in
    axes that follow the way.
    """
    back = way.back()
    return orthonormal(torch.cat([back.shift, back.turn[..., 0]], -1))


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
        To each keyframe from the one before (see `hops`).
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
            ahead = last.then(way[keys])
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


@dataclass
class Motions:
    """A codebook of corrections: their numbers (see `vector`), for keyframes each so many residues."""

    numbers: Float[Tensor, "k 6"]
    spacing: int


def code(grid: Grid, steps: Poses, true: Poses, motions: Motions, group: Int[Tensor, "r"]) -> Coded:
    """Keyframes of runs in closed loop.

    Parameters
    ----------
    steps
        See `hops`; as decoding has them, to the last digit.
    true
        Of all residues.
    motions
        Of the spacing of the keyframes.
    group : (r,)
        Structure of each run, ascending: the runs of one hang on each other by links.
    """
    book, truth = motions.numbers.double(), true.double()[grid.row]
    way = hops(grid, steps)
    chord = chords(way)
    ids = grid.row.new_full((len(grid),), -1)
    links = grid.row.new_full((len(grid), CODES), -1)

    def settle(keys: Tensor, last: Poses | None, ahead: Poses) -> Poses:
        if last is None:
            return truth[keys]
        first = grid.first[keys]
        missed = vector(ahead.to_reach(truth[keys]), chord[keys], motions.spacing)
        chosen = nearest(missed, book)
        here = ahead.then(motion(book[chosen], chord[keys], motions.spacing))
        ids[keys] = torch.where(first, -1, chosen)
        if first.any():
            links[keys[first]] = codes = link(last[first].to_reach(truth[keys[first]]))
            hung = last[first].then(linked_by(codes))
            here.shift[first], here.turn[first] = hung.shift, hung.turn
        return here

    return Coded(ids, links, walk(grid, way, grid.walks(group), settle))


def decode(
    grid: Grid,
    steps: Poses,
    ids: Int[Tensor, "m"],
    links: Int[Tensor, "m c"],
    motions: Motions,
    group: Int[Tensor, "r"],
) -> Poses:
    """Poses of stored keyframes, each structure about its first (see `code`).

    A run without a link lies where the one before it ends, and says nothing of where it is.
    """
    way = hops(grid, steps)
    corrections = motion(motions.numbers.double()[ids.clamp(min=0)], chords(way), motions.spacing)
    jumps = linked_by(links.clamp(min=0))

    def settle(keys: Tensor, last: Poses | None, ahead: Poses) -> Poses:
        if last is None:
            return ahead
        here = ahead.then(corrections[keys]).where(ids[keys] >= 0, ahead)
        return last.then(jumps[keys]).where(grid.first[keys] & (links[keys, 0] >= 0), here)

    return walk(grid, way, grid.walks(group), settle)
