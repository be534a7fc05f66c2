"""Which residues touch a ligand: labels that a structure file carries itself."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np

from protok.structure.backbone import Backbone
from protok.structure.io.sources.content import load, sniff

CONTACT = 4.5  # Å between heavy atoms
SMALLEST = 7  # heavy atoms of a ligand: ions, water and most buffers have fewer
#: Crystallisation aids and buffers that are large enough to pass for ligands.
AIDS = {*"PEG PG4 PGE 1PE P6G 2PE MES EPE TRS BTB CIT FLC MPD GOL EDO BOG LDA LMT OLC OLA PLM".split()}
#: Sugars that are bound to the protein by a glycosylation.
GLYCANS = {*"NAG NDG BMA MAN FUC FUL GAL SIA XYP".split()}


def contacts(path: str | Path, chain: Backbone, *, model: int = 1) -> np.ndarray | None:
    """Residues with a heavy atom within 4.5 Å of a ligand.

    Ligands are HETATM residues of at least 7 heavy atoms that are neither amino acids nor
    nucleotides, water, buffer nor glycan.

    Parameters
    ----------
    path
        The file that `chain` was read from, by author chain ids and numbers.
    chain
        One chain of it.

    Returns
    -------
    (L,) float32 of 0 and 1, or None if no ligand touches the chain.
    """
    atoms = _atoms(Path(path), model)
    protein = (atoms.chain_id == chain.chain[0]) & (atoms.element != "H")
    ligand = _ligands(atoms)
    if not ligand.any():
        return None
    row_of = {name: i for i, name in enumerate(zip(chain.index.tolist(), chain.icode.tolist(), strict=True))}
    numbers, codes = np.asarray(atoms.res_id).tolist(), np.char.strip(np.asarray(atoms.ins_code)).tolist()
    rows = np.array([row_of.get(name, -1) for name in zip(numbers, codes, strict=True)])
    near = np.flatnonzero(protein & ~ligand & (rows >= 0))
    label = np.zeros(len(chain), np.float32)
    coord = np.asarray(atoms.coord)
    for xyz in coord[ligand]:
        close = ((coord[near] - xyz) ** 2).sum(1) < CONTACT**2
        label[rows[near[close]]] = 1
    return label if label.any() else None


def _atoms(path: Path, model: int):
    from biotite.structure.io import pdb, pdbx

    data, _ = load(path)
    kind = sniff(data, path)
    if kind == "pdb":
        file = pdb.PDBFile.read(io.StringIO(data.decode("latin-1")))
        return pdb.get_structure(file, model=model, altloc="first")
    if kind == "bcif":
        file = pdbx.BinaryCIFFile.read(io.BytesIO(data))
    else:
        file = pdbx.CIFFile.read(io.StringIO(data.decode("utf-8", "replace")))
    return pdbx.get_structure(file, model=model, altloc="first", use_author_fields=True)


def _ligands(atoms) -> np.ndarray:
    import biotite.structure as struc

    heavy = atoms.hetero & (atoms.element != "H") & (atoms.element != "D")
    heavy &= ~struc.filter_amino_acids(atoms) & ~struc.filter_nucleotides(atoms)
    heavy &= ~np.isin(atoms.res_name, sorted(AIDS | GLYCANS | {"HOH", "DOD"}))
    residues = [*zip(atoms.chain_id[heavy], atoms.res_id[heavy], atoms.res_name[heavy], strict=True)]
    size = Counter(residues)
    heavy[heavy] = [size[residue] >= SMALLEST for residue in residues]
    return heavy
