"""Geometry of protein backbones: frames, neighbours, dihedrals, superposition.

Torch only, no I/O, no classes. Lengths are in Å. Every function is batched over
leading dimensions and differentiable unless it says otherwise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protok.structure.backbone import BOND_LIMIT

#: Ideal N, CA and C of a residue in its own frame (Engh & Huber 1991 bond lengths and angle).
IDEAL_RESIDUE = ((-0.525, 1.363, 0.0), (0.0, 0.0, 0.0), (1.526, 0.0, 0.0))
#: Residues that look for their surroundings together, where there are many.
GROUP = 256
#: Which products of coordinates stand for all, as rows and columns.
UPPER = ([0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2])
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


def groups(points: Float[Tensor, "n 3"], most: int) -> list[Int[Tensor, "_"]]:
    """Divide points into groups of at most `most` that lie together, by halving the longest side.

    Returns the indices of each group; every point is in one. Points that fit into one
    group stay in their order.
    """
    done, todo = [], [torch.arange(len(points), device=points.device)]
    while todo:
        rows = todo.pop()
        if len(rows) <= most:
            done.append(rows)
            continue
        here = points[rows]
        axis = int((here.amax(0) - here.amin(0)).argmax())
        todo.extend(rows[half] for half in here[:, axis].argsort().tensor_split(2))
    return done


def near(points: Float[Tensor, "n 3"], here: Float[Tensor, "m 3"], reach: float) -> Int[Tensor, "c"]:
    """Indices of all points within `reach` of the box around the points `here`, ascending."""
    outside = torch.maximum(here.amin(0) - points, points - here.amax(0)).clamp(min=0)
    return (outside.square().sum(-1) <= reach**2).nonzero()[:, 0]


def neighbours(
    ca: Float[Tensor, "n 3"], mask: Bool[Tensor, "n"], k: int, group: int = 512
) -> tuple[Int[Tensor, "n k"], Bool[Tensor, "n k"]]:
    """The k nearest residues of each residue, itself excluded, nearest first.

    Distances are explicit differences (`cdist` without its matrix-product
    path, which is imprecise beyond 25 points). Where there are fewer than k, the second
    result is False and the index is the residue's own. Beyond `group` residues those that
    lie together search their surroundings, farther out until enough is found: memory is
    O(n k), and time nearly linear.
    """
    n = len(ca)
    index = torch.arange(n, device=ca.device)[:, None].repeat(1, k)
    valid = torch.zeros(n, k, dtype=torch.bool, device=ca.device)
    there = mask.nonzero()[:, 0]
    take = min(k, len(there) - 1)
    if take < 1:
        return index, valid
    points = ca[there]
    alone = len(points) <= group
    for rows in groups(points, group if alone else GROUP):
        for reach in (torch.inf,) if alone else (16.0, 48.0, torch.inf):
            columns = near(points, points[rows], reach)
            if len(columns) <= take:
                continue
            d = distances(points[rows], points[columns])
            d[torch.arange(len(rows)), torch.searchsorted(columns, rows)] = torch.inf
            nearest = d.topk(take, largest=False, sorted=True)
            enough = nearest.values[:, -1] <= reach
            sure = there[rows[enough]]
            index[sure, :take] = there[columns[nearest.indices[enough]]]
            valid[sure, :take] = True
            rows = rows[~enough]
            if not len(rows):
                break
    return index, valid


def distances(a: Float[Tensor, "*b n 3"], b: Float[Tensor, "*b m 3"]) -> Float[Tensor, "*b n m"]:
    """Distances of all pairs, as explicit differences."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


@torch.no_grad()
def density_moments(
    ca: Float[Tensor, "n 3"],
    rotation: Float[Tensor, "n 3 3"],
    mask: Bool[Tensor, "n"],
    radii: tuple[float, ...],
    group: int = 512,
) -> Float[Tensor, "n f"]:
    """Where the rest of the chain lies, seen from each residue: smooth invariants.

    For each radius r, in ascending order, the CA atoms are weighted with (1 - (d/r)^2)^2
    inside r and nothing outside. Returned per radius: the logarithm of the summed weight, the
    weighted mean position (3) and second moment (6) in the residue's own frame,
    in units of r. Compact support keeps a code local: an atom farther than
    max(radii) cannot change it. Beyond `group` residues those that lie together look at
    their surroundings only: memory is O(n), and time nearly linear. Not differentiable.
    """
    there = mask.nonzero()[:, 0]
    points, turns = ca[there], rotation[there]
    out = ca.new_zeros(len(ca), len(radii), 10)
    alone = len(points) <= group
    for rows in groups(points, group if alone else GROUP):
        if not len(rows):
            continue
        # Not far from the origin, and in float64: squares of distances and the shift rule below
        # take differences of large sums, which would lose the last digits in float32.
        centre = points[rows].mean(0)
        here = (points[rows] - centre).double()
        others, sums = points, []
        for r in reversed(radii):
            if not alone:
                others = others[near(others, points[rows], r)]
            if not alone or not sums:
                p = (others - centre).double()
                powers, square = powers_of(p), p.square().sum(1)
                column = torch.cat([p, powers[:, :1]], 1).T
            # 1 - (d/r)^2 of all pairs by one product of matrices.
            mine = torch.cat([2 * here, r**2 - here.square().sum(1, keepdim=True)], 1)
            inside = torch.addmm(square.div(-(r**2)), mine / r**2, column)
            sums.append(inside.clamp_(min=0).square_() @ powers)
        out[there[rows]] = seen_moments(torch.stack(sums[::-1], 1), here, turns[rows], radii)
    return out.flatten(1)


def powers_of(p: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 10"]:
    """One, the coordinates of points, and their products two by two."""
    i, j = UPPER
    return torch.cat([torch.ones_like(p[..., :1]), p, p[..., i] * p[..., j]], -1)


def seen_moments(
    sums: Float[Tensor, "*b r 10"],
    here: Float[Tensor, "*b 3"],
    turn: Float[Tensor, "*b 3 3"],
    radii: tuple[float, ...],
) -> Float[Tensor, "*b r 10"]:
    """Moments in the frames of residues at `here`, from weighted sums of `powers_of` points."""
    (i, j), x = UPPER, here.unsqueeze(-2)
    # Moments about the residue itself, by the shift rule.
    total, first, second = sums.split((1, 3, 6), dim=-1)
    shift = first - total * x
    second = second - first[..., i] * x[..., j] - shift[..., j] * x[..., i]
    total, shift, second = (part.to(turn.dtype) for part in (total, shift, second))
    # Into the residue's frame; sums of products, as the library's products of so many
    # matrices of three by three take longer.
    turn = turn.unsqueeze(-3)
    mean = (turn * shift[..., None]).sum(-2)
    whole = second[..., ([0, 1, 2, 1, 3, 4, 2, 4, 5])].unflatten(-1, (3, 3))
    whole = (whole[..., :, :, None] * turn[..., None, :, :]).sum(-2)
    whole = (turn[..., :, :, None] * whole[..., :, None, :]).sum(-3)
    scale, unit = total.clamp(min=1.0), turn.new_tensor(radii)[:, None]
    return torch.cat([total.log1p(), mean / (scale * unit), whole[..., i, j] / (scale * unit**2)], dim=-1)


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
