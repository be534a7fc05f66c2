"""What the surroundings of a residue look like, in plain measures, a row a residue."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch

from protok.structure.backbone import Backbone
from protok.structure.geometry import beta_carbon, chain_frame, frames, linked, torsions

#: CA atoms that are handled at a time: bounds memory for long chains.
BLOCK = 512
#: Reach of the half sphere, Å (Hamelryck 2005).
HALF_SPHERE = 13.0


def secondary_structure(structure: Backbone) -> np.ndarray:
    """Helix `a`, strand `b` or other `c` of each residue, (L,) str; empty where incomplete.

    From the CA trace by biotite's P-SEA (Labesse et al. 1997, CABIOS 13, 291), chain by chain.
    """
    from biotite.structure import AtomArray, annotate_sse

    elements = np.full(len(structure), "", "<U1")
    for rows in _chains(structure, complete=True):
        array = AtomArray(len(rows))
        array.coord = structure.coords[rows, 1]
        for kind, value in (("atom_name", "CA"), ("res_name", "ALA"), ("chain_id", "A")):
            array.get_annotation(kind)[:] = value
        array.res_id = np.arange(len(rows))
        with warnings.catch_warnings():
            # Chains of a few residues have no elements.
            warnings.simplefilter("ignore")
            symbols = annotate_sse(array)
        if symbols.dtype.kind == "i":  # numbers from biotite 2 on
            from biotite.structure import PSeaElement  # pyright: ignore[reportAttributeAccessIssue]: compiled, without a stub

            symbols = PSeaElement.to_symbols(symbols)
        elements[rows] = symbols
    return elements


def backbone_torsions(structure: Backbone) -> np.ndarray:
    """phi and psi of each residue, (L, 2) radians; NaN at ends and breaks."""
    angles = np.full((len(structure), 2), np.nan)
    for rows in _chains(structure):
        coords = torch.from_numpy(np.nan_to_num(structure.coords[rows]))
        bonded = linked(coords, torch.from_numpy(structure.mask[rows]))
        chain_angles, defined = torsions(coords, bonded)
        angles[rows] = np.where(defined.numpy(), chain_angles.numpy(), np.nan)[:, :2]
    return angles


def neighbours(structure: Backbone, radius: float) -> np.ndarray:
    """CA atoms of the same chain within a radius in Å, (L,) int."""
    count = np.zeros(len(structure), int)
    for rows in _chains(structure):
        ca = structure.coords[rows, 1].astype(np.float64)
        for begin in range(0, len(rows), BLOCK):
            apart = ((ca[begin : begin + BLOCK, None] - ca) ** 2).sum(2)
            with np.errstate(invalid="ignore"):
                count[rows[begin : begin + BLOCK]] = (apart < radius**2).sum(1) - 1
    return count


def half_sphere(structure: Backbone, radius: float = HALF_SPHERE) -> np.ndarray:
    """CA atoms on the side of the side chain, (L,) float; NaN where incomplete.

    Those of the same chain within the radius and the half sphere towards CB, which is placed
    from N, CA and C: few at the surface, many in the core (Hamelryck 2005, Proteins 59, 38).
    """
    count = np.full(len(structure), np.nan)
    for rows in _chains(structure, complete=True):
        atoms = torch.from_numpy(structure.coords[rows, :3].astype(np.float64)).unbind(1)
        ca = atoms[1].numpy()
        out = beta_carbon(*atoms).numpy() - ca
        for begin in range(0, len(rows), BLOCK):
            here = slice(begin, begin + BLOCK)
            apart = ca - ca[here, None]
            near = (apart**2).sum(2) < radius**2
            ahead = np.einsum("ijk,ik->ij", apart, out[here]) > 0
            count[rows[here]] = (near & ahead).sum(1)
    return count


def place_in_chain(structure: Backbone) -> np.ndarray:
    """CA of each residue in the frame of its chain (see `geometry.chain_frame`), (L, 3) Å."""
    place = np.full((len(structure), 3), np.nan)
    for rows in _chains(structure, complete=True):
        ca = torch.from_numpy(structure.coords[rows, 1].astype(np.float64))
        axes, centre = chain_frame(ca, torch.ones(len(rows), dtype=torch.bool))
        place[rows] = ((ca - centre) @ axes).numpy()
    return place


def laid_flat(structure: Backbone) -> tuple[np.ndarray, np.ndarray]:
    """Centre and axes (rows) that show a structure best: longest across, thinnest in depth.

    ``(x - centre) @ axes.T`` is a motion: nothing is mirrored.
    """
    ca = structure.coords[structure.mask, 1].astype(np.float64)
    centre = ca.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((ca - centre).T) if len(ca) > 1 else np.eye(3))
    axes = axes.T[::-1].copy()
    axes[2] *= np.linalg.det(axes)
    return centre, axes


def windows(structure: Backbone, half: int) -> np.ndarray:
    """N, CA, C and O of the residues around each, in its own frame: (L, 2 half + 1, 4, 3) Å.

    NaN beyond the ends of the chain, beyond breaks, and where the residue is incomplete.
    """
    around = np.full((len(structure), 2 * half + 1, 4, 3), np.nan, np.float32)
    for rows in _chains(structure):
        coords = torch.from_numpy(structure.coords[rows].astype(np.float64))
        mask = torch.from_numpy(structure.mask[rows])
        axes = frames(*torch.nan_to_num(coords[:, :3]).unbind(1)).numpy()
        # Residues of one piece have one number.
        piece = np.cumsum([0, *(~linked(coords, mask).numpy())])
        at = np.arange(len(rows))[:, None] + np.arange(-half, half + 1)
        inside = (at >= 0) & (at < len(rows))
        at = at.clip(0, len(rows) - 1)
        inside &= (piece[at] == piece[:, None]) & mask.numpy()[:, None]
        x = coords.numpy()
        local = np.einsum("iwak,ikj->iwaj", x[at] - x[:, None, None, 1], axes)
        around[rows] = np.where(inside[..., None, None], local, np.nan)
    return around


def _chains(structure: Backbone, complete: bool = False) -> Iterator[np.ndarray]:
    """Yield the rows of the residues, or of the complete ones, of each chain that has some."""
    for chain in structure.chains:
        rows = np.flatnonzero((structure.chain == chain) & (structure.mask | (not complete)))
        if len(rows):
            yield rows
