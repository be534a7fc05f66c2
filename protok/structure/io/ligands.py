"""What a structure file holds beside its protein, to be shown: ligands, ions, glycans, nucleic acids."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from protok.errors import CorruptFile
from protok.structure.backbone import Backbone
from protok.structure.io.formats.residues import CAPS, THREE, WATER
from protok.structure.io.read import read
from protok.structure.io.sources.content import load, sniff

# An AtomArray of biotite, which types every annotation as one that may be missing.
AtomArray = Any
#: Å from a CA within which something belongs to a structure: a long side chain, and a contact.
REACH = 12.0
#: Å within which two atoms are one that was read twice.
SAME = 0.01


@dataclass(frozen=True, eq=False)
class Ligands:
    """Atoms that are of no protein and no water.

    Attributes
    ----------
    coords : (A, 3) float32
        Å.
    element, atom, residue : (A,) str
        Symbol of the element, names of the atom and of its residue.
    label : (A,) str
        Name, chain and number of the residue: `HEM A 201`.
    """

    coords: np.ndarray
    element: np.ndarray
    atom: np.ndarray
    residue: np.ndarray
    label: np.ndarray


def read_ligands(path: str | os.PathLike, shown: Backbone, *, model: int = 1) -> Ligands:
    """Read what is not protein, and near a protein.

    Parameters
    ----------
    path
        A file that `protok.read` reads.
    shown
        What was read of it, all chains or some: what is farther than 12 Å from every CA of it is
        left out.
    model
        As for `protok.read`.

    Returns
    -------
    Ligands
        One conformer of each.

    Raises
    ------
    ProtokError
        If the file cannot be read. This reader is biotite's, which takes fewer files than `protok.read`.
    """
    whole = read(path, model=model, truncated="keep")
    data, _ = load(Path(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of columns that are not needed here
            atoms = _atoms(data, sniff(data, Path(path)), model)
    except Exception as error:  # its readers raise what they like
        reason = f"its ligands cannot be read ({error})"
        raise CorruptFile(reason, "only its protein can be shown", file=str(path)) from error
    other = ~np.isin(np.char.upper(atoms.res_name), [*WATER, *CAPS])
    other &= atoms.hetero | ~np.isin(atoms.res_name, list(THREE))
    atoms = atoms[other & np.isfinite(atoms.coord).all(axis=1)]
    # What is left may be a modified residue: what `read` took for protein is no ligand.
    atoms = atoms[~_residues_with(atoms, _near(atoms.coord, whole.coords.reshape(-1, 3), SAME))]
    atoms = atoms[_residues_with(atoms, _near(atoms.coord, shown.coords[:, 1], REACH))]
    atoms = atoms[_first_conformer(atoms)]
    return Ligands(atoms.coord, atoms.element, atoms.atom_name, atoms.res_name, _labels(atoms))


def _atoms(data: bytes, kind: str, model: int) -> AtomArray:
    """All atoms of a model, with all conformers."""
    from biotite.structure.io import pdb, pdbx

    options: dict[str, Any] = {"model": model, "altloc": "all"}
    # By the names of the authors, as the protein is read; what biotite does by itself depends on its version.
    of_cif: dict[str, Any] = options | {"use_author_fields": True}
    if kind == "bcif":
        return pdbx.get_structure(pdbx.BinaryCIFFile.read(io.BytesIO(data)), **of_cif)
    text = io.StringIO(data.decode("utf-8", "replace"))
    if kind == "mmcif":
        return pdbx.get_structure(pdbx.CIFFile.read(text), **of_cif)
    return pdb.PDBFile.read(text).get_structure(**options)


def _near(points: np.ndarray, others: np.ndarray, distance: float) -> np.ndarray:
    """(A,) bool: which points are within a distance of any of the others."""
    others = others[np.isfinite(others).all(axis=1)]
    if not len(points) or not len(others):
        return np.zeros(len(points), bool)
    return np.isfinite(KDTree(others).query(points, distance_upper_bound=distance)[0])


def _places(atoms: AtomArray) -> np.ndarray:
    return np.rec.fromarrays([atoms.chain_id, atoms.res_id, atoms.ins_code])


def _residues_with(atoms: AtomArray, chosen: np.ndarray) -> np.ndarray:
    """(A,) bool: all atoms of the residues of which one is chosen."""
    return np.isin(_places(atoms), _places(atoms)[chosen])


def _first_conformer(atoms: AtomArray) -> np.ndarray:
    first: dict[tuple, str] = {}
    kept = []
    for place, alt in zip(_places(atoms).tolist(), atoms.altloc_id.tolist(), strict=True):
        kept.append(not alt.strip(" .?") or first.setdefault(place, alt) == alt)
    return np.array(kept, bool)


def _labels(atoms: AtomArray) -> np.ndarray:
    columns = (atoms.res_name, atoms.chain_id, atoms.res_id, atoms.ins_code)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return np.array(
        [" ".join(f"{name} {chain} {number}{icode}".split()) for name, chain, number, icode in rows], str
    )
