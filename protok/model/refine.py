"""From placed residues to a backbone: bonds get their lengths and angles, and O is added."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from protok.model.decoder import Trace
from protok.structure.geometry import C_O, CA_C_O, dihedral, place, residue_atoms

#: Target distances across a peptide bond in Å (Engh & Huber 1991): C-N, CA-N, C-CA, CA-CA.
ACROSS = (1.329, 2.425, 2.435, 3.80)
CIS = 2.95


def relax(
    trace: Trace, torsion: Float[Tensor, "l 3 2"], bonded: Bool[Tensor, "m"], steps: int = 60
) -> tuple[Float[Tensor, "l 3"], Float[Tensor, "l 3 3"]]:
    """CA and frames of residues, moved as little as gives their bonds the right lengths and angles.

    Parameters
    ----------
    trace
        Where residues should be.
    torsion
        Unit (sine, cosine) of phi, psi, omega, which the result leans towards.
    bonded : (l-1,)
        Between which residues there is a bond.
    steps
        Of Adam on rotation vectors and positions.
    """
    with torch.enable_grad():
        turn = torch.zeros_like(trace.ca, requires_grad=True)
        ca = trace.ca.clone().requires_grad_(True)
        target = torch.tensor(ACROSS, device=ca.device).expand(len(ca) - 1, 4).clone()
        cis = torsion[:-1, 2, 1] > 0
        target[cis, 3] = CIS
        strength = torch.tensor([60.0, 60.0, 60.0, 10.0], device=ca.device)
        optimiser = torch.optim.Adam([{"params": [turn]}, {"params": [ca]}])
        for step in range(steps):
            for group, rate in zip(optimiser.param_groups, (0.06, 0.1), strict=True):
                group["lr"] = rate * (1 - step / steps)
            optimiser.zero_grad()
            rotation = trace.rotation @ torch.matrix_exp(_skew(turn))
            atoms = residue_atoms(rotation, ca)
            gaps = _gaps(atoms)
            loss = ((gaps - target).square() * strength * bonded[:, None]).sum()
            loss = loss + 0.2 * (ca - trace.ca).square().sum() + 0.5 * turn.square().sum()
            loss = loss + 2.0 * _torsion_strain(atoms, torsion, bonded)
            loss.backward()
            optimiser.step()
    return ca.detach(), rotation.detach()


def _skew(v: Tensor) -> Tensor:
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))


def _gaps(atoms: Tensor) -> Tensor:
    left, right = atoms[:-1], atoms[1:]
    pairs = ((2, 0), (1, 0), (2, 1), (1, 1))
    return torch.stack([(left[:, a] - right[:, b]).norm(dim=-1) for a, b in pairs], dim=-1)


def _torsion_strain(atoms: Tensor, torsion: Tensor, bonded: Tensor) -> Tensor:
    (n, ca, c), (n2, ca2, c2) = atoms[:-1].unbind(1), atoms[1:].unbind(1)
    measured = torch.stack(
        [dihedral(c, n2, ca2, c2), dihedral(n, ca, c, n2), dihedral(ca, c, n2, ca2)], dim=-1
    )
    aim = torch.stack([torsion[1:, 0], torsion[:-1, 1], torsion[:-1, 2]], dim=-2)
    gap = 1 - (measured.sin() * aim[..., 0] + measured.cos() * aim[..., 1])
    return (gap * bonded[:, None]).sum()


def add_oxygen(
    atoms: Float[Tensor, "l 3 3"], torsion: Float[Tensor, "l 3 2"], bonded: Bool[Tensor, "m"]
) -> Float[Tensor, "l 4 3"]:
    """N, CA, C with O in the peptide plane; by the predicted psi where the chain ends."""
    n, ca, c = atoms.unbind(1)
    psi = torch.atan2(torsion[:, 1, 0], torsion[:, 1, 1])
    if len(atoms) > 1:
        built = dihedral(n[:-1], ca[:-1], c[:-1], n[1:])
        psi = torch.cat([torch.where(bonded, built, psi[:-1]), psi[-1:]])
    o = place(n, ca, c, C_O, CA_C_O, psi + torch.pi)
    return torch.cat([atoms, o[:, None]], dim=1)
