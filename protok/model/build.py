"""From keyframes and steps to poses of all residues, and their refinement."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from protok.model.keyframes import Grid
from protok.model.local_convolution import LocalConvolution
from protok.model.runs import Runs
from protok.structure.poses import Poses, orthonormal


@dataclass
class Built:
    """Poses of residues between their keyframes.

    Attributes
    ----------
    poses
        Blended of the two below.
    ahead, back
        As the steps lead forwards from the keyframe before, and backwards from the one after.
    weight : (n,)
        Of `ahead` in the blend.
    """

    poses: Poses
    ahead: Poses
    back: Poses
    weight: Float[Tensor, "n"]


def build(grid: Grid, keyframes: Poses, steps: Poses, runs: Runs) -> Built:
    """Compose the steps from the keyframes on both sides of each residue, and blend by nearness.

    Where there is a keyframe on one side only, that one counts. Every run has one at least; residues of no
    run mean nothing.
    """
    n, m = len(runs.run), len(grid)
    if not m:
        still = Poses.still(n, like=steps.shift)
        return Built(still, still, still, steps.shift.new_zeros(n))
    row = torch.arange(n, device=grid.row.device)
    before = (torch.searchsorted(grid.row, row, right=True) - 1).clamp(min=0)
    after = torch.searchsorted(grid.row, row).clamp(max=m - 1)
    has_before = (grid.row[before] <= row) & (grid.run[before] == runs.run)
    has_after = (grid.row[after] >= row) & (grid.run[after] == runs.run)
    since = torch.where(has_before, row - grid.row[before], 0)
    until = torch.where(has_after, grid.row[after] - row, 0)

    path = [keyframes]
    for d in range(int(since.max())):
        path.append(path[-1].then(steps[(grid.row + d).clamp(max=n - 1)]))
    ahead = Poses.stack(path)[since, before]
    path = [keyframes]
    for d in range(int(until.max())):
        path.append(path[-1].then(steps[(grid.row - 1 - d).clamp(min=0)].back()))
    back = Poses.stack(path)[until, after]

    both = has_before & has_after
    weight = torch.where(both, until / (since + until).clamp(min=1), has_before.float())
    weight = torch.where(both & (since == 0), 1.0, weight)
    ahead, back = ahead.where(has_before, back), back.where(has_after, ahead)
    return Built(ahead.blend(back, weight), ahead, back, weight)


#: Numbers that the refiner sees of a residue: gap and turn between the two ways, step beside the one
#: predicted, weights.
SEEN = 3 + 6 + 3 + 6 + 2


class Refiner(nn.Module):
    """Moves residues in their own frames, from what disagrees where the two ways meet.

    All that it sees is local, so that the result turns with the structure.

    Parameters
    ----------
    states
        Width of what the step network says of residues.
    width, layers, kernel, window
        See `LocalConvolution`.
    """

    def __init__(self, states: int, width: int, layers: int, kernel: int, window: int):
        super().__init__()
        self.trunk = LocalConvolution(states + SEEN, width, layers, kernel, window)
        self.move = nn.Linear(width, 9)
        nn.init.zeros_(self.move.weight)
        self.move.bias.data = torch.tensor([0.0] * 3 + [1, 0, 0] + [0, 1, 0])
        self.sure = nn.Linear(width, 1)

    def forward(
        self, h: Float[Tensor, "n w"], built: Built, steps: Poses, runs: Runs
    ) -> tuple[Poses, Tensor]:
        """Poses of residues, and the logit of the CA lDDT that they are expected to have."""
        between = built.ahead.to_reach(built.back)
        taken = built.poses[:-1].to_reach(built.poses[1:])
        same = (runs.run[1:] == runs.run[:-1]) & (runs.run[1:] >= 0)
        off = F.pad((taken.shift - steps.shift[:-1]) * same[:, None], (0, 0, 0, 1))
        turned = ((taken.turn - steps.turn[:-1])[..., :2].flatten(-2)) * same[:, None]
        seen = [
            between.shift.clamp(-10, 10) / 3,
            between.turn[..., :2].flatten(-2),
            off.clamp(-5, 5),
            F.pad(turned, (0, 0, 0, 1)),
            built.weight[:, None],
            1 - built.weight[:, None],
        ]
        x = self.trunk(torch.cat([h.float(), *(part.float() for part in seen)], -1), runs)
        out = self.move(x).float()
        moved = built.poses.then(Poses(out[:, :3], orthonormal(out[:, 3:])))
        return moved, self.sure(x).float()[:, 0]
