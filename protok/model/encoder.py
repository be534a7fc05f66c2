"""Shape encoder: what a letter knows of a residue, which is its own stretch of chain and nothing else.

A residue sees the poses of the residues up to `window` positions before and after it, in its own
frame, as far as the chain is unbroken. So a latent, and the letter made of it, cannot change by
anything farther along the chain: not when the chain is cut there, nor moved, nor joined to another.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from protok.errors import Unsupported
from protok.model.runs import Runs
from protok.structure.geometry import dihedral
from protok.structure.poses import Poses

#: Numbers that say where a neighbour lies: position, two axes, presence.
NUMBERS = 3 + 6 + 1
#: Å per unit of position, at a distance of one position along the chain and farther.
SCALE = (3.8, 12.0)


def window_features(poses: Poses, runs: Runs, window: int) -> Float[Tensor, "n f"]:
    """Poses of the residues around each, up to `window` positions away, in its own frame.

    Zero where the run has ended before. Float32; not differentiable.
    """
    n = len(runs.run)
    if not n:
        return poses.shift.new_zeros(0, 2 * window * NUMBERS)
    apart = torch.cat([torch.arange(-window, 0), torch.arange(1, window + 1)]).to(runs.run.device)
    beside = apart + window
    inside = runs.near(window)[:, beside]
    # Position and two axes of each, by coordinate, one before the other: (n, 3, 3, 2 window).
    placed = torch.cat([poses.shift[..., None], poses.turn[..., :2]], -1)
    placed = F.pad(placed, (0, 0, 0, 0, window, window)).unfold(0, 2 * window + 1, 1)[..., beside]
    placed[:, :, 0] -= poses.shift[:, :, None]
    placed[:, :, 0] /= (apart.abs() * SCALE[0]).clamp(max=SCALE[1])
    placed = placed * inside[:, None, None]
    turned = [(poses.turn[:, :, axis, None, None] * placed).sum(1) for axis in range(3)]
    return torch.cat([*(part.flatten(1) for part in turned), inside.to(placed)], 1).view(n, -1)


#: Separations along the chain of which the trace says the distance.
APART = (2, 3, 4, 5, 6)


def trace_numbers(window: int) -> int:
    """Numbers of `trace_features`."""
    return sum(2 * window + 1 - s for s in APART) + 2 * (2 * window - 2)


def trace_features(ca: Float[Tensor, "n 3"], runs: Runs, window: int) -> Float[Tensor, "n f"]:
    """Distances and dihedrals of the CA trace in the window of each residue.

    They hang on no residue's own frame, which small errors of N and C turn by degrees. Zero where the run
    has ended.
    """
    n, columns = len(ca), []
    if not n:
        return ca.new_zeros(0, trace_numbers(window))
    inside = runs.near(window)
    # In float64: in float32 the last rows of a vector are computed by another routine than the others, and
    # latents would hang, by a last digit, on where in a batch a residue lies.
    angle = dihedral(*(part.double() for part in (ca[:-3], ca[1:-2], ca[2:-1], ca[3:])))
    tracks = [(s, ((ca[s:] - ca[:-s]).norm(dim=-1) - 2.6 * s**0.8) / 2) for s in APART]
    tracks = [*tracks, (3, angle.sin().to(ca)), (3, angle.cos().to(ca))]
    for s, track in tracks:
        track = F.pad(track, (window, window + n - len(track))).unfold(0, 2 * window + 1 - s, 1)
        columns.append(track[:n] * (inside[:, : track.shape[1]] & inside[:, s : s + track.shape[1]]))
    return torch.cat(columns, 1)


class Encoder(nn.Module):
    """Base: latents of residues from their poses; of one of yours too, which is made with `dim` first.

    Latents that turn with the structure make codes that do.
    """

    def forward(self, poses: Poses, runs: Runs) -> Float[Tensor, "n d"]:
        """Latents of all residues; those of incomplete residues mean nothing, but are finite."""
        raise AttributeError(f"{type(self).__name__} has no forward")

    def states(self, poses: Poses, runs: Runs) -> Float[Tensor, "n h"]:
        """What residues know before it is projected to latents, if the encoder shows that."""
        raise Unsupported(f"{type(self).__name__} shows no hidden states", "use the latents")


class ShapeEncoder(Encoder):
    """Latents of residues from their windows; see the module docstring.

    Parameters
    ----------
    dim
        Dimension of the latents, which have zero mean and unit variance a residue, so that
        their scale cannot be used to soften a codebook.
    hidden, layers
        Width, and number of residual layers.
    window
        Positions before and after a residue that it sees.
    """

    def __init__(self, dim: int = 5, hidden: int = 128, layers: int = 2, window: int = 6):
        super().__init__()
        self.window = window
        self.inputs = nn.Linear(2 * window * NUMBERS + trace_numbers(window), hidden)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden), nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden)
            )
            for _ in range(layers)
        )
        self.outputs = nn.Sequential(
            nn.LayerNorm(hidden), nn.Linear(hidden, dim), nn.LayerNorm(dim, elementwise_affine=False)
        )

    def forward(self, poses: Poses, runs: Runs) -> Float[Tensor, "n d"]:
        return self.outputs(self.states(poses, runs))

    def states(self, poses: Poses, runs: Runs) -> Float[Tensor, "n h"]:
        with torch.no_grad():
            placed = window_features(poses, runs, self.window)
            features = torch.cat([placed, trace_features(poses.shift, runs, self.window)], 1)
        h = F.gelu(self.inputs(features))
        for layer in self.layers:
            h = h + layer(h)
        return h
