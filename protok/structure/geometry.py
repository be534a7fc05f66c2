"""Geometry of protein backbones: frames, dihedrals, superposition.

Torch only, no I/O, no classes. Lengths are in Å. Every function is batched over
leading dimensions and differentiable unless it says otherwise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from protok.structure.backbone import BOND_LIMIT

#: Ideal N, CA and C of a residue in its own frame (Engh & Huber 1991 bond lengths and angle).
IDEAL_RESIDUE = ((-0.525, 1.363, 0.0), (0.0, 0.0, 0.0), (1.526, 0.0, 0.0))
#: Peptide bond geometry in Å and radians (Engh & Huber 1991).
C_N, CA_C_N, C_N_CA, C_O, CA_C_O = 1.329, 2.035, 2.124, 1.231, 2.108


def frames(
    n: Float[Tensor, "*b 3"], ca: Float[Tensor, "*b 3"], c: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 3 3"]:
    """Orientation of residues by Gram-Schmidt (Jumper et al. 2021, algorithm 21).

    Columns are x along CA->C, y towards N in the N-CA-C plane, z = x cross y:
    right-handed, so that mirror images have different local coordinates. The
    origin of the frame is the CA atom.
    """
    x = F.normalize(c - ca, dim=-1, eps=1e-6)
    v = n - ca
    y = F.normalize(v - (v * x).sum(-1, keepdim=True) * x, dim=-1, eps=1e-6)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def beta_carbon(
    n: Float[Tensor, "*b 3"], ca: Float[Tensor, "*b 3"], c: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 3"]:
    """Where CB of an L-residue is, in Å, from N, CA and C; of glycine too (Dauparas et al. 2022)."""
    b, d = ca - n, c - ca
    return -0.58273431 * torch.linalg.cross(b, d) + 0.56802827 * b - 0.54067466 * d + ca


def residue_atoms(rotation: Float[Tensor, "*b 3 3"], ca: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """N, CA and C of ideal residues placed at frames; rows are atoms."""
    ideal = torch.tensor(IDEAL_RESIDUE, dtype=ca.dtype, device=ca.device)
    return ideal @ rotation.transpose(-1, -2) + ca.unsqueeze(-2)


def dihedral(
    a: Float[Tensor, "*b 3"], b: Float[Tensor, "*b 3"], c: Float[Tensor, "*b 3"], d: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b"]:
    """Dihedral angle a-b-c-d in radians, IUPAC sign, in (-pi, pi]."""
    u, v, w = b - a, c - b, d - c
    m, n = torch.linalg.cross(u, v), torch.linalg.cross(v, w)
    y = (torch.linalg.cross(m, n) * F.normalize(v, dim=-1, eps=1e-9)).sum(-1)
    return torch.atan2(y, (m * n).sum(-1))


def place(
    a: Float[Tensor, "*b 3"],
    b: Float[Tensor, "*b 3"],
    c: Float[Tensor, "*b 3"],
    length: float,
    angle: float,
    torsion: Float[Tensor, "*b"],
) -> Float[Tensor, "*b 3"]:
    """Place d so that |c-d| = length, angle b-c-d and dihedral a-b-c-d are as given (NeRF)."""
    x = F.normalize(c - b, dim=-1, eps=1e-9)
    z = F.normalize(torch.linalg.cross(b - a, x), dim=-1, eps=1e-9)
    y = torch.linalg.cross(z, x)
    angle_t = torch.as_tensor(angle, dtype=c.dtype, device=c.device)
    return c + length * (
        -torch.cos(angle_t) * x
        + torch.sin(angle_t) * (torch.cos(torsion)[..., None] * y + torch.sin(torsion)[..., None] * z)
    )


def torsions(
    coords: Float[Tensor, "n 4 3"], linked: Bool[Tensor, "m"]
) -> tuple[Float[Tensor, "n 3"], Bool[Tensor, "n 3"]]:
    """phi, psi and omega (of the bond to the next residue) with what is defined.

    Parameters
    ----------
    coords
        N, CA, C, O of consecutive residues; only the first three are used.
    linked : (n-1,)
        True where residue i is bonded to i+1.

    Returns
    -------
    angles, defined
        Radians, zero where undefined; and a mask of the same shape.
    """
    n, ca, c = coords[:, 0], coords[:, 1], coords[:, 2]
    angles = coords.new_zeros(len(coords), 3)
    defined = torch.zeros_like(angles, dtype=torch.bool)
    if len(coords) > 1:
        angles[1:, 0] = dihedral(c[:-1], n[1:], ca[1:], c[1:])
        angles[:-1, 1] = dihedral(n[:-1], ca[:-1], c[:-1], n[1:])
        angles[:-1, 2] = dihedral(ca[:-1], c[:-1], n[1:], ca[1:])
        defined[1:, 0] = linked
        defined[:-1, 1:] = linked[:, None]
    return torch.where(defined, angles, 0.0), defined


def linked(coords: Float[Tensor, "n 4 3"], mask: Bool[Tensor, "n"]) -> Bool[Tensor, "m"]:
    """Whether residue i is bonded to i+1: both complete and C-N below `BOND_LIMIT`; shape (n-1,)."""
    gap = (coords[:-1, 2] - coords[1:, 0]).norm(dim=-1)
    return (gap < BOND_LIMIT) & mask[:-1] & mask[1:]


def chain_frame(
    ca: Float[Tensor, "*b n 3"], mask: Bool[Tensor, "*b n"]
) -> tuple[Float[Tensor, "*b 3 3"], Float[Tensor, "*b 3"]]:
    """A right-handed frame of a chain as a whole: axes as columns, and its centre.

    The axes are the first two cosine modes of the CA trace (the discrete cosine transform
    of the coordinates along the chain, type II), orthonormalised, and their cross product.
    Unlike principal axes they have signs, they say which end is which, and noise on single
    atoms averages out in them. The frame turns with the structure; a mirror image has the
    mirrored frame with its third axis inverted. The cost is linear in the length.
    """
    kept = mask.to(ca.dtype)
    total = kept.sum(-1).clamp(min=1)[..., None]
    centre = (ca * kept[..., None]).sum(-2) / total
    x = torch.where(mask[..., None], ca - centre.unsqueeze(-2), 0.0)
    phase = ((kept.cumsum(-1) - 0.5) / total * torch.pi).unsqueeze(-2)
    first, second = ((times * phase).cos() @ x for times in (1, 2))
    u = F.normalize(first.squeeze(-2), dim=-1, eps=1e-6)
    second = second.squeeze(-2)
    v = F.normalize(second - torch.linalg.vecdot(second, u)[..., None] * u, dim=-1, eps=1e-6)
    return torch.stack([u, v, torch.linalg.cross(u, v)], dim=-1), centre


def polar_rotation(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
    """The proper rotation nearest to each matrix (Kabsch 1976; no reflections)."""
    u, _, vt = torch.linalg.svd(matrix)
    sign = torch.linalg.det(u @ vt)
    fix = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=-1)
    return (u * fix.unsqueeze(-2)) @ vt


def superpose(
    mobile: Float[Tensor, "*b n 3"],
    target: Float[Tensor, "*b n 3"],
    weight: Float[Tensor, "*b n"] | None = None,
) -> tuple[Float[Tensor, "*b 3 3"], Float[Tensor, "*b 3"]]:
    """Weighted least-squares superposition (Kabsch 1976): rotation R and shift t.

    ``mobile @ R.mT + t`` is as close to `target` as a proper motion brings it.
    """
    w = torch.ones_like(mobile[..., 0]) if weight is None else weight
    w = (w / w.sum(-1, keepdim=True).clamp(min=1e-9)).unsqueeze(-1)
    cm, ct = (w * mobile).sum(-2, keepdim=True), (w * target).sum(-2, keepdim=True)
    rotation = polar_rotation(((target - ct) * w).transpose(-1, -2) @ (mobile - cm))
    shift = ct.squeeze(-2) - (rotation @ cm.transpose(-1, -2)).squeeze(-1)
    return rotation, shift
