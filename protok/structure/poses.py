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
    def stack(cls, poses: list[Poses]) -> Poses:
        """Along a new dimension in front."""
        return cls(torch.stack([p.shift for p in poses]), torch.stack([p.turn for p in poses]))

    @classmethod
    def of_matrices(cls, matrices: Float[Tensor, "*b 4 4"]) -> Poses:
        """The way back from `matrices`."""
        return cls(matrices[..., :3, 3], matrices[..., :3, :3])

    def matrices(self) -> Float[Tensor, "*b 4 4"]:
        """Turn and shift side by side over (0, 0, 0, 1): their products are what `then` gives."""
        out = self.shift.new_zeros(*self.shift.shape[:-1], 4, 4)
        out[..., :3, :3], out[..., :3, 3], out[..., 3, 3] = self.turn, self.shift, 1.0
        return out

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
    m = turn.flatten(-2)
    trace = m[..., 0] + m[..., 4] + m[..., 8]
    # 4 w (w, x, y, z), which is the most precise where w is the largest.
    real, odd = 1 + trace, m[..., (7, 2, 3)] - m[..., (5, 6, 1)]
    sine = odd.square().sum(-1).sqrt().clamp(min=1e-12)
    vector = odd * (2 * torch.atan2(sine, real) / sine)[..., None]
    wide = trace < m[..., ::4].amax(-1)
    if bool(wide.any()):
        vector[wide] = _wide_rotation_vector(turn[wide])
    return vector


def _wide_rotation_vector(m: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 3"]:
    """The same where the largest entry of the quaternion is not the real one."""
    trace = m.diagonal(dim1=-2, dim2=-1)
    sum_ = trace.sum(-1)
    # Each candidate is 4 q_k q, for k = x, y, z; the longest is the most precise.
    a = torch.stack([m[..., 2, 1], m[..., 0, 2], m[..., 1, 0]], -1)
    b = torch.stack([m[..., 1, 2], m[..., 2, 0], m[..., 0, 1]], -1)
    odd, even = a - b, a + b
    x = torch.stack([odd[..., 0], 1 + 2 * trace[..., 0] - sum_, even[..., 2], even[..., 1]], -1)
    y = torch.stack([odd[..., 1], even[..., 2], 1 + 2 * trace[..., 1] - sum_, even[..., 0]], -1)
    z = torch.stack([odd[..., 2], even[..., 1], even[..., 0], 1 + 2 * trace[..., 2] - sum_], -1)
    best = trace.argmax(-1)[:, None, None].expand(-1, 1, 4)
    q = F.normalize(torch.stack([x, y, z], -2).gather(-2, best).squeeze(-2), dim=-1)
    q = torch.where(q[..., :1] < 0, -q, q)
    sine = q[..., 1:].norm(dim=-1, keepdim=True)
    return q[..., 1:] * (2 * torch.atan2(sine, q[..., :1]) / sine)


def rotation(vector: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """The rotation about an axis by the length of the vector (Rodrigues)."""
    angle = vector.norm(dim=-1)[..., None, None].clamp(min=1e-9)
    x, y, z = vector.unbind(-1)
    o = torch.zeros_like(x)
    skew = torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3)) / angle
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return eye + angle.sin() * skew + (1 - angle.cos()) * (skew @ skew)
