"""From frames of residues to atoms whose bonds have the lengths and angles that bonds have."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from protok.model.runs import Runs
from protok.structure.geometry import C_O, CA_C_O, dihedral, place

#: Distances in Å within a residue and over a peptide bond (Engh & Huber 1991), as pairs of atoms (N, CA, C of
#: this residue are 0, 1, 2; of the next 3, 4, 5).
LENGTHS = {
    (0, 1): 1.458,
    (1, 2): 1.525,
    (0, 2): 2.461,
    (2, 3): 1.329,
    (1, 3): 2.425,
    (2, 4): 2.435,
    (1, 4): 3.80,
}
#: CA-CA of a cis bond, and where the two kinds part.
CIS, BETWEEN = 2.95, 3.4
#: Rounds, and the share of each correction that is made: an atom takes part in up to eight.
ROUNDS, SHARE = 40, 0.3
#: psi where a run ends, in radians: of extended chains.
PSI = 2.3


def close_bonds(atoms: Float[Tensor, "n 3 3"], runs: Runs, rounds: int = ROUNDS) -> Float[Tensor, "n 3 3"]:
    """Atoms moved as little as gives bonds their lengths and angles.

    Every distance of `LENGTHS` pulls its two atoms by half of what it is off, all at once, round by
    round (position based dynamics: Müller et al. 2007). Cost is linear.
    """
    n = len(atoms)
    present, bonded = runs.present, _bonded(runs)
    # A row a coordinate: gathered and added up twice as fast as a row an atom.
    x = atoms.reshape(-1, 3).T.clone(memory_format=torch.contiguous_format)
    base = 3 * torch.arange(n, device=atoms.device)
    first, second, length = [], [], []
    for (a, b), target in LENGTHS.items():
        rows = base[present] if b < 3 else base[:-1][bonded]
        first.append(rows + a)
        second.append(rows + b)
        goal = torch.full_like(rows, 0, dtype=atoms.dtype) + target
        if (a, b) == (1, 4):
            goal[_size(x[:, rows + 1] - x[:, rows + 4]) < BETWEEN] = CIS
        length.append(goal)
    i, j, goal = torch.cat(first), torch.cat(second), torch.cat(length)
    goal = goal * (SHARE / 2)
    for _ in range(rounds):
        way = x.index_select(1, j) - x.index_select(1, i)
        # Half the share of what a distance is off, over the distance.
        pull = way * (SHARE / 2 - goal / _size(way).clamp(min=1e-3))
        x.index_add_(1, i, pull).index_add_(1, j, -pull)
    return x.T.reshape(n, 3, 3)


def _size(way: Float[Tensor, "3 m"]) -> Float[Tensor, "m"]:
    return way.square().sum(0).sqrt()


def with_oxygen(atoms: Float[Tensor, "n 3 3"], runs: Runs) -> Float[Tensor, "n 4 3"]:
    """N, CA, C with O in the plane of the peptide; where a run ends, as if it went on extended."""
    n, ca, c = atoms.unbind(1)
    psi = atoms.new_full((len(atoms),), PSI)
    if len(atoms) > 1:
        built = dihedral(n[:-1], ca[:-1], c[:-1], n[1:])
        psi = torch.cat([torch.where(_bonded(runs), built, psi[:-1]), psi[-1:]])
    o = place(n, ca, c, C_O, CA_C_O, psi + torch.pi)
    return torch.cat([atoms, o[:, None]], dim=1)


def _bonded(runs: Runs) -> Bool[Tensor, "m"]:
    return (runs.run[1:] == runs.run[:-1]) & (runs.run[1:] >= 0)
