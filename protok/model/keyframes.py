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
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protok.model.links import CODES, link, linked_by
from protok.model.runs import Runs
from protok.structure.poses import Poses, orthonormal, rotation, rotation_vector


def lever(spacing: int) -> float:
    """Å for which a radian counts in the distance of motions: a choice, the more the more residues turn."""
    return max(4.0, spacing / 2)


def vector(motion: Poses, spacing: int) -> Float[Tensor, "*b 6"]:
    """A motion as six numbers in Å: its shift, and its rotation vector times `lever`."""
    return torch.cat([motion.shift, lever(spacing) * rotation_vector(motion.turn)], -1)


def motion(numbers: Float[Tensor, "*b 6"], spacing: int) -> Poses:
    """The way back from `vector`."""
    return Poses(numbers[..., :3], rotation(numbers[..., 3:] / lever(spacing)))


def places(runs: Runs, spacing: int) -> Int[Tensor, "m"]:
    """Rows of the residues with a keyframe: the middle of each `spacing` residues of a run.

    What is left at the end of a run has its keyframe at the same place, or at its last residue if it
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

    def ranks(self, group: Int[Tensor, "r"]) -> Int[Tensor, "m"]:
        """How many keyframes of its group of runs stand before each.

        Parameters
        ----------
        group : (r,)
            Of each run, ascending.
        """
        of = group[self.run]
        return torch.arange(len(of), device=of.device) - torch.searchsorted(of, of)


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


def chords(grid: Grid, way: Poses) -> Float[Tensor, "m 3 3"]:
    """Axes in the frame to which each way leads: back to where it came from, and across.

    Where a correction hangs on the direction of the way, one codebook for all places can say so only in
    axes that follow the way. The first of a run has no way, and keeps the axes of its frame.
    """
    back = way.back()
    axes = orthonormal(torch.cat([back.shift, back.turn[..., 0]], -1))
    return torch.where(grid.first[:, None, None], torch.eye(3).to(axes), axes)


def along(way: Poses, chord: Float[Tensor, "m 3 3"]) -> Poses:
    """The way to each keyframe from the one before, both in the axes of their chords.

    Between frames whose axes are their chords a correction is the same motion everywhere.
    """
    before = chord.roll(1, 0).mT
    return Poses((before @ way.shift[..., None])[..., 0], before @ way.turn @ chord)


#: Of a matrix of a pose, the column of the origin.
ORIGIN = (0.0, 0.0, 0.0, 1.0)


def walk(
    grid: Grid,
    way: Poses,
    truth: Poses,
    group: Int[Tensor, "r"],
    correct: Callable[[Int[Tensor, "k"], Poses], Float[Tensor, "k 4 4"]],
) -> tuple[Int[Tensor, "m c"], Poses]:
    """Keyframes of one rank after the other (see `Grid.ranks`), which need not wait for each other.

    Parameters
    ----------
    way
        To each keyframe from the one before (see `hops`).
    truth
        Of the keyframes.
    group : (r,)
        Of each run, ascending: the runs of one hang on each other by links.
    correct
        Called with keyframes and the motions that they miss, along their chords; returns the corrections
        to make, as matrices.

    Returns
    -------
    links, poses
        See `Coded`; poses are true at the first of each group.
    """
    links = grid.row.new_full((len(grid), CODES), -1)
    rank, chord = grid.ranks(group), chords(grid, way)
    # By rank, long groups first: what comes after the first k of a rank are the first k of the next.
    longest = torch.bincount(group[grid.run])[group[grid.run]]
    order = (rank * (len(grid) + 1) - longest).argsort(stable=True)
    sizes = torch.bincount(rank).tolist()
    opening = set(rank[grid.first].tolist())
    hop = along(way, chord).matrices()[order]
    goal = Poses(truth.shift, truth.turn @ chord).matrices()[order]
    out, origin = goal.clone(), goal.new_tensor(ORIGIN)
    last, parts = goal, (x.split(sizes) for x in (order, hop, goal, out))
    for number, (keys, hop, goal, here) in enumerate(zip(*parts, strict=True)):
        if number:
            last = last[: len(keys)]
            ahead = last @ hop
            missed = ahead[:, :3, :3].mT @ (goal[:, :3] - ahead[:, :3] * origin)
            torch.matmul(ahead, correct(keys, Poses(missed[..., 3], missed[..., :3])), out=here)
            if number in opening:
                first = grid.first[keys].nonzero()[:, 0]
                before = Poses.of_matrices(last[first])
                before.turn = before.turn @ chord[keys[first] - 1].mT
                links[keys[first]] = codes = link(before.to_reach(Poses.of_matrices(goal[first])))
                here[first] = before.then(linked_by(codes)).matrices()
        last = here
    poses = Poses.of_matrices(torch.empty_like(out).index_copy_(0, order, out))
    return links, Poses(poses.shift, poses.turn @ chord.mT)


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


#: Motions that are searched for at once: their scores stay in a CPU's caches.
SEARCHED = 128


class Search:
    """The nearest of some vectors in float64, the first of equal ones, mostly found in float32."""

    def __init__(self, book: Float[Tensor, "k d"]):
        self.book = book.double()
        self.table = torch.cat(
            [book.float(), -book.float().square().sum(-1, keepdim=True) / 2], -1
        ).T.contiguous()
        self.widest = float(self.book.norm(dim=-1).max())
        self.scores = self.table.new_empty(SEARCHED, len(book))

    def nearest(self, vectors: Float[Tensor, "n d"]) -> Int[Tensor, "n"]:
        """Index of the nearest to each."""
        return torch.cat([self._nearest(part) for part in vectors.split(SEARCHED)])

    def _nearest(self, vectors: Tensor) -> Tensor:
        scores = self.scores[: len(vectors)]
        torch.mm(F.pad(vectors.float(), (0, 1), value=1.0), self.table, out=scores)
        ids = _largest(scores)[:, None]
        best = scores.gather(1, ids)
        gap = best - scores.scatter_(1, ids, -torch.inf).amax(1, keepdim=True)
        # A score is off by less than sixteen roundings of the largest terms that it may be made of.
        off = 16 * 2.0**-24 * self.widest * (vectors.norm(dim=-1, keepdim=True) + self.widest / 2)
        for row in (gap <= 2 * off).nonzero()[:, 0].tolist():
            ids[row] = (self.book - vectors[row]).square().sum(-1).argmin()
        return ids[:, 0]


def _largest(scores: Tensor) -> Tensor:
    """Index of the largest of each row; on a CPU numpy finds it ten times faster."""
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.numpy().argmax(1))
    return scores.argmax(1)


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
    search = Search(motions.numbers)
    corrections = motion(motions.numbers.double(), motions.spacing).matrices()
    ids = grid.row.new_full((len(grid),), -1)

    def correct(keys: Tensor, missed: Poses) -> Tensor:
        ids[keys] = chosen = search.nearest(vector(missed, motions.spacing))
        return corrections[chosen]

    links, poses = walk(grid, hops(grid, steps), true.double()[grid.row], group, correct)
    return Coded(ids.masked_fill(grid.first, -1), links, poses)


def decode(
    grid: Grid,
    steps: Poses,
    ids: Int[Tensor, "m"],
    links: Int[Tensor, "m c"],
    motions: Motions,
    group: Int[Tensor, "r"],
) -> Poses:
    """Poses of stored keyframes, each structure about its first (see `code`).

    A run without a link begins at the last keyframe of the one before it, and says nothing of where it is.
    """
    way, rank = hops(grid, steps), grid.ranks(group)
    chord = chords(grid, way)
    way = linked_by(links.clamp(min=0)).where(grid.first & (links[:, 0] >= 0), way)
    still = torch.eye(4).to(way.shift)
    numbers = motions.numbers.double()[ids.clamp(min=0)]
    corrections = motion(numbers, motions.spacing).matrices().where((ids >= 0)[:, None, None], still)
    out = torch.where((rank == 0)[:, None, None], still, along(way, chord).matrices() @ corrections)
    # What leads from the one before, from the two before, from the four before: in the end from the first.
    apart = 1
    while (later := (rank >= apart).nonzero()[:, 0]).numel():
        out[later] = out[later - apart] @ out[later]
        apart *= 2
    poses = Poses.of_matrices(out)
    return Poses(poses.shift, poses.turn @ chord.mT)
