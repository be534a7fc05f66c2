"""Rigid motions: where frames lie, how one is seen from another, and the way between two.

Torch only, no I/O. Lengths are in Å, angles in radians. Everything is batched over leading
dimensions and, but for `rotation_vector`, differentiable.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from protok.structure.geometry import frames


@dataclass
class Poses:
    """Frames in space, or motions: a motion is the pose of the next frame seen from this one.

    Attributes
    ----------
    shift : (..., 3)
        Origins in Å.
    turn : (..., 3, 3)
        Rotations; columns are axes.
    """

    shift: Float[Tensor, "*b 3"]
    turn: Float[Tensor, "*b 3 3"]

    @classmethod
    def of(cls, coords: Float[Tensor, "n a 3"]) -> Poses:
        """Of residues with N, CA and C: the origin is CA (see `protok.structure.geometry.frames`)."""
        return cls(coords[:, 1], frames(*coords[:, :3].unbind(1)))

    @classmethod
    def still(cls, *shape: int, like: Tensor) -> Poses:
        """Poses at the origin, without a turn."""
        return cls(like.new_zeros(*shape, 3), torch.eye(3).to(like).expand(*shape, 3, 3))

    @classmethod
    def stack(cls, poses: list[Poses], dim: int = 0) -> Poses:
        """Along a new dimension, counted from the front."""
        return cls(torch.stack([p.shift for p in poses], dim), torch.stack([p.turn for p in poses], dim))

    def __getitem__(self, rows) -> Poses:
        return Poses(self.shift[rows], self.turn[rows])

    def __len__(self) -> int:
        return len(self.shift)

    def double(self) -> Poses:
        """In float64."""
        return Poses(self.shift.double(), self.turn.double())

    def to(self, like: Tensor) -> Poses:
        """On the device of a tensor, in its precision."""
        return Poses(self.shift.to(like), self.turn.to(like))

    def detach(self) -> Poses:
        """Without gradient."""
        return Poses(self.shift.detach(), self.turn.detach())

    def then(self, motion: Poses) -> Poses:
        """Where a motion leads from here."""
        # Sums of products: the library's products of so many small matrices take longer.
        shift = self.shift + (self.turn * motion.shift[..., None, :]).sum(-1)
        turn = (self.turn[..., :, :, None] * motion.turn[..., None, :, :]).sum(-2)
        return Poses(shift, turn)

    def back(self) -> Poses:
        """The motion that undoes this one."""
        return Poses(-(self.turn * self.shift[..., None]).sum(-2), self.turn.transpose(-1, -2))

    def to_reach(self, other: Poses) -> Poses:
        """The motion that leads from here to there."""
        return self.back().then(other)

    def blend(self, other: Poses, weight: Float[Tensor, "*b"]) -> Poses:
        """Between the two: `weight` of this one, the rest of the other.

        Positions are averaged, rotations by Gram-Schmidt of the weighted sum of their axes.
        """
        w = weight[..., None]
        axes = w[..., None] * self.turn[..., :2] + (1 - w[..., None]) * other.turn[..., :2]
        return Poses(w * self.shift + (1 - w) * other.shift, orthonormal(axes.transpose(-1, -2).flatten(-2)))

    def where(self, chosen: Bool[Tensor, "*b"], other: Poses) -> Poses:
        """This one where `chosen`, else the other."""
        shift = torch.where(chosen[..., None], self.shift, other.shift)
        return Poses(shift, torch.where(chosen[..., None, None], self.turn, other.turn))


def orthonormal(axes: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation whose first axis is the first of two vectors, and whose second lies in their plane.

    Gram-Schmidt; continuous, as networks like it (Zhou et al. 2019, arXiv 1812.07035).
    """
    x = F.normalize(axes[..., :3], dim=-1, eps=1e-4)
    y = axes[..., 3:]
    y = F.normalize(y - (y * x).sum(-1, keepdim=True) * x, dim=-1, eps=1e-4)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def rotation_vector(turn: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Axis of a rotation times its angle in 0..pi, by the quaternion with the largest entry."""
    m = turn
    trace = m.diagonal(dim1=-2, dim2=-1)
    sum_ = trace.sum(-1)
    # Each candidate is 4 q_k q, for k = w, x, y, z; the longest is the most precise.
    a = torch.stack([m[..., 2, 1], m[..., 0, 2], m[..., 1, 0]], -1)
    b = torch.stack([m[..., 1, 2], m[..., 2, 0], m[..., 0, 1]], -1)
    odd, even = a - b, a + b
    w = torch.cat([1 + sum_[..., None], odd], -1)
    x = torch.stack([odd[..., 0], 1 + 2 * trace[..., 0] - sum_, even[..., 2], even[..., 1]], -1)
    y = torch.stack([odd[..., 1], even[..., 2], 1 + 2 * trace[..., 1] - sum_, even[..., 0]], -1)
    z = torch.stack([odd[..., 2], even[..., 1], even[..., 0], 1 + 2 * trace[..., 2] - sum_], -1)
    candidates = torch.stack([w, x, y, z], -2)
    best = candidates.diagonal(dim1=-2, dim2=-1).argmax(-1)
    q = candidates.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    q = F.normalize(q, dim=-1)
    q = torch.where(q[..., :1] < 0, -q, q)
    sine = q[..., 1:].norm(dim=-1, keepdim=True)
    half = torch.atan2(sine, q[..., :1])
    # 2 half / sine -> 2 / cosine where the angle vanishes.
    scale = torch.where(sine > 1e-6, 2 * half / sine.clamp(min=1e-6), 2.0)
    return q[..., 1:] * scale


def rotation(vector: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """The rotation about an axis by the length of the vector (Rodrigues)."""
    angle = vector.norm(dim=-1)[..., None, None].clamp(min=1e-9)
    x, y, z = vector.unbind(-1)
    o = torch.zeros_like(x)
    skew = torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3)) / angle
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return eye + angle.sin() * skew + (1 - angle.cos()) * (skew @ skew)
