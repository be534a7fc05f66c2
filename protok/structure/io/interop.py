"""Backbones from and to the structures of biotite, Biopython (Bio.PDB) and PyTorch Geometric.

What is a residue, its letter, and which alternate location counts is decided as for files
(`protok.read`), whatever the object's own library makes of it.

On the way out missing atoms are left out, since those libraries expect finite coordinates;
only CA is always there, with NaN coordinates if it is missing, so that no residue is lost
and the way back gives the same Backbone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from protok.common.extras import Extra
from protok.errors import FormatError, NoProtein, ProtokError, Unsupported
from protok.structure.backbone import ATOMS, Backbone
from protok.structure.io.assemble import assemble
from protok.structure.io.formats.residues import NAMES
from protok.structure.io.formats.table import OTHER_MODELS, Table

if TYPE_CHECKING:
    from Bio.PDB.Chain import Chain
    from Bio.PDB.Model import Model
    from Bio.PDB.Structure import Structure
    from biotite.structure import AtomArray
    from torch_geometric.data import Data

_SLOTS = {name: slot for slot, name in enumerate(ATOMS)}


def as_backbone(structure: Any) -> Backbone:
    """Make a Backbone of whatever holds one.

    Parameters
    ----------
    structure
        A Backbone (returned as it is), the path of a file, a biotite AtomArray, a Bio.PDB
        Structure, Model or Chain, or a PyG Data with `pos`.

    Raises
    ------
    TypeError
        If it is none of these.
    ProtokError
        If it holds no protein, or is damaged.
    """
    if isinstance(structure, Backbone):
        return structure
    if isinstance(structure, (str, os.PathLike)):
        from protok.structure.io.read import read

        return read(structure)
    # By name, so that no library is loaded that the object does not come from.
    libraries = {cls.__module__.partition(".")[0] for cls in type(structure).__mro__}
    if "biotite" in libraries and hasattr(structure, "atom_name"):
        return from_biotite(structure)
    if "Bio" in libraries and hasattr(structure, "level"):
        return from_biopython(structure)
    if "torch_geometric" in libraries and hasattr(structure, "keys"):
        return from_pyg(structure)
    raise TypeError(
        f"cannot make a Backbone of a {type(structure).__module__}.{type(structure).__name__}: "
        "give a Backbone, a path, a biotite AtomArray, a Bio.PDB Structure, Model or Chain, "
        "or a PyG Data"
    )


def to_biotite(backbone: Backbone) -> AtomArray:
    """Make a biotite AtomArray of N, CA, C and O.

    Returns
    -------
    AtomArray
        With `b_factor` if the Backbone has B-factors. Residues are named by their letter:
        a modified residue by its parent, `X` UNK. A missing CA has NaN coordinates, other
        missing atoms are left out.

    Raises
    ------
    Unsupported
        If neighbouring residues share chain, number and insertion code: biotite would take
        them for one.
    """
    from biotite.structure import AtomArray

    labels = _labels(backbone)
    for here, there in zip(labels, labels[1:], strict=False):
        if here == there:
            raise _doubled(backbone, "two residues in a row are", here)
    residue, slot = _present(backbone)
    array = AtomArray(len(residue))
    array.coord = backbone.coords[residue, slot]
    array.set_annotation("chain_id", backbone.chain[residue].astype(str))
    array.res_id = backbone.index[residue]
    array.ins_code = backbone.icode[residue].astype(str)
    array.res_name = np.array(_names(backbone), dtype="U3")[residue]
    array.atom_name = np.array(ATOMS)[slot]
    array.element = np.array(list("NCCO"))[slot]
    if np.isfinite(backbone.bfactor).any():
        array.set_annotation("b_factor", backbone.bfactor[residue].astype(float))
    return array


def from_biotite(array: AtomArray, name: str = "") -> Backbone:
    """Take the protein residues of a biotite AtomArray.

    Parameters
    ----------
    array
        With all its atoms: ligands, waters and nucleic acids are told apart here. `b_factor`,
        `occupancy` and `altloc_id` are used if present; biotite reads them on request
        (``extra_fields``, ``altloc="all"``).
    name
        Of the Backbone.

    Raises
    ------
    Unsupported
        If it is an AtomArrayStack.
    ProtokError
        If there is no protein.
    """
    xyz = np.asarray(array.coord)
    if xyz.ndim != 2:
        raise Unsupported(
            f"an AtomArrayStack of {len(xyz)} models", "give one of them, such as stack[0]", file=name
        )
    kinds = set(array.get_annotation_categories())
    columns = [
        np.asarray(array.get_annotation(kind))
        for kind in ("res_name", "chain_id", "res_id", "ins_code", "hetero", "atom_name")
    ]
    fresh = np.ones(len(xyz), bool)
    fresh[1:] = np.any([label[1:] != label[:-1] for label in columns[:4]], axis=0)
    slot = np.array([_SLOTS.get(atom, -1) for atom in columns[5].tolist()], int)
    atoms = np.flatnonzero(slot >= 0)

    def column(kind: str, default: Any) -> np.ndarray:
        if kind not in kinds:
            return np.full(len(atoms), default)
        return np.asarray(array.get_annotation(kind))[atoms]

    numbers = column("occupancy", 1.0), column("b_factor", np.nan)
    places = (np.cumsum(fresh) - 1)[atoms], slot[atoms]
    residues = [label[fresh] for label in columns[:5]]
    return _assembled(name, residues, (*places, column("altloc_id", ""), *numbers, xyz[atoms]))


def to_biopython(backbone: Backbone) -> Structure:
    """Make a Bio.PDB Structure of one model.

    Returns
    -------
    Structure
        Its id is the Backbone's name. Residues are named by their letter, a modified residue
        by its parent, and grouped by chain. A missing CA has NaN coordinates, other missing
        atoms are left out. The B-factor is NaN where it is not known.

    Raises
    ------
    Unsupported
        If two residues share chain, number and insertion code, which Bio.PDB cannot hold.
    """
    with Extra("interop", "a structure of Bio.PDB"):
        from Bio.PDB.Atom import Atom
        from Bio.PDB.Chain import Chain
        from Bio.PDB.Model import Model
        from Bio.PDB.Residue import Residue
        from Bio.PDB.Structure import Structure

    structure, model = Structure(backbone.name), Model(0)
    structure.add(model)
    seen: set[tuple[str, int, str]] = set()
    residues = []
    for label, residue_name in zip(_labels(backbone), _names(backbone), strict=True):
        chain, number, icode = label
        if label in seen:
            raise _doubled(backbone, "two residues are", label)
        seen.add(label)
        if chain not in model:
            model.add(Chain(chain))
        residues.append(Residue((" ", number, icode or " "), residue_name, ""))
        model[chain].add(residues[-1])
    rows = zip(*(column.tolist() for column in _present(backbone)), strict=True)
    for serial, (residue, slot) in enumerate(rows, start=1):
        name, place, bfactor = ATOMS[slot], backbone.coords[residue, slot].copy(), backbone.bfactor[residue]
        atom = Atom(name, place, float(bfactor), 1.0, " ", f" {name:<3}", serial, element=name[0])
        residues[residue].add(atom)
    return structure


def from_biopython(entity: Structure | Model | Chain, model: int = 1) -> Backbone:
    """Take the protein residues of a Bio.PDB Structure, Model or Chain.

    Alternate locations are chosen by their occupancy over the whole residue, not by what is
    selected in the object.

    Parameters
    ----------
    entity
        Structure, Model or Chain.
    model
        Which model of a Structure, counted from 1.

    Raises
    ------
    TypeError
        If it is a Residue or an Atom.
    ProtokError
        If there is no such model, or no protein in it.
    """
    with Extra("interop", "a structure of Bio.PDB"):
        from Bio.PDB.Chain import Chain
        from Bio.PDB.Model import Model
        from Bio.PDB.Residue import DisorderedResidue
        from Bio.PDB.Structure import Structure

    if not isinstance(entity, Structure | Model | Chain):
        raise TypeError(
            f"cannot make a Backbone of a Bio.PDB {type(entity).__name__}: give a Structure, Model or Chain"
        )
    whole = entity if isinstance(entity, Structure | Model) else entity.parent or entity
    whole = whole.parent or whole if isinstance(whole, Model) else whole
    name = str(whole.id) if isinstance(whole, Structure) else ""
    notes = []
    if isinstance(entity, Structure):
        models = list(entity)
        if not 1 <= model <= len(models):
            raise FormatError(f"holds {len(models)} models, not {model}", "choose one", file=name)
        if len(models) > 1:
            notes.append(OTHER_MODELS.format(model))
        entity = models[model - 1]
    residues, atoms = [], []
    for chain in [entity] if isinstance(entity, Chain) else entity:
        for place in chain:
            # At a point mutation every kind of residue is an alternative.
            kinds = place.disordered_get_list() if isinstance(place, DisorderedResidue) else [place]
            for residue in kinds:
                hetero, number, icode = residue.id
                for atom in residue.get_unpacked_list():
                    if (slot := _SLOTS.get(atom.get_name())) is not None:
                        numbers = atom.get_occupancy(), atom.get_bfactor(), atom.get_coord()
                        atoms.append((len(residues), slot, atom.get_altloc(), *numbers))
                residues.append((residue.resname, str(chain.id), number, icode, hetero != " "))
    residues = list(zip(*residues, strict=True)) or [()] * 5
    atoms = list(zip(*atoms, strict=True)) or [()] * 6
    return _assembled(name, residues, atoms, notes)


def to_pyg(backbone: Backbone) -> Data:
    """Make a PyTorch Geometric Data without edges.

    Returns
    -------
    Data
        `pos` (L, 4, 3) float32 in Å with NaN for missing atoms, `mask` (L,) bool where N, CA
        and C are present, `bfactor` (L,) float32; `chain`, `index` and `icode` as numpy
        arrays, `sequence` and `name` as str. `index` is no tensor because PyG adds node
        offsets to tensors of that name when it batches.
    """
    import torch

    with Extra("interop", "a structure of PyTorch Geometric"):
        from torch_geometric.data import Data

    return Data(
        pos=torch.tensor(backbone.coords, dtype=torch.float32),
        mask=torch.tensor(backbone.mask),
        bfactor=torch.tensor(backbone.bfactor, dtype=torch.float32),
        sequence=backbone.sequence,
        chain=backbone.chain.copy(),
        index=backbone.index.copy(),
        icode=backbone.icode.copy(),
        name=backbone.name,
    )


def from_pyg(data: Data) -> Backbone:
    """Take the Backbone of a PyTorch Geometric Data.

    Parameters
    ----------
    data
        With `pos` (L, 4, 3) or (L, 3, 3): N, CA, C and (if given) O in Å, NaN or zeros where missing.
        The other fields of `to_pyg` are used if present; `mask` is not, since `pos` says it.

    Raises
    ------
    FormatError
        If `pos` is missing or of another shape, or a field does not fit it.
    Unsupported
        If it is a batch of several graphs, or in bfloat16.
    """
    pos = getattr(data, "pos", None)
    name = getattr(data, "name", None) or ""
    if getattr(data, "batch", None) is not None or not isinstance(name, str):
        raise Unsupported("a batch of graphs", "give its graphs, as batch.to_data_list() does")
    if pos is None or pos.ndim != 3 or tuple(pos.shape[1:]) not in ((4, 3), (3, 3)):
        shape = "missing" if pos is None else f"of shape {tuple(pos.shape)}"
        raise FormatError(
            f"pos is {shape}",
            "give N, CA, C and O of each residue as (L, 4, 3), NaN where missing",
            file=name,
        )
    if str(pos.dtype) == "torch.bfloat16":
        raise Unsupported(
            "pos is in bfloat16, which rounds coordinates by up to 0.5 Å", "give it in float32", file=name
        )
    chain, index = getattr(data, "chain", "A"), getattr(data, "index", None)
    try:
        backbone = Backbone.from_arrays(
            _array(pos),
            getattr(data, "sequence", None),
            chain=chain if isinstance(chain, str) else _array(chain),
            index=None if index is None else _array(index),
            name=name,
        )
        others = {
            key: _array(value).astype(kind)
            for key, kind in (("icode", str), ("bfactor", np.float32))
            if (value := getattr(data, key, None)) is not None
        }
        return replace(backbone, **others)
    except ValueError as error:
        raise FormatError(str(error), "give one entry a residue", file=name) from error


def _array(value: Any) -> np.ndarray:
    if not hasattr(value, "detach"):
        return np.asarray(value)
    value = value.detach().cpu()
    return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()  # numpy has none


def _labels(backbone: Backbone) -> list[tuple[str, int, str]]:
    columns = (backbone.chain.tolist(), backbone.index.tolist(), backbone.icode.tolist())
    return list(zip(*columns, strict=True))


def _doubled(backbone: Backbone, what: str, label: tuple[str, int, str]) -> Unsupported:
    chain, number, icode = label
    remedy = "number them apart (dataclasses.replace(backbone, index=...))"
    return Unsupported(f"{what} number {number}{icode}", remedy, file=backbone.name, chain=chain)


def _names(backbone: Backbone) -> list[str]:
    return [NAMES.get(letter, "UNK") for letter in backbone.sequence]


def _present(backbone: Backbone) -> tuple[np.ndarray, np.ndarray]:
    """Residue and slot of the atoms that are written: those present, and every CA."""
    present = np.all(np.isfinite(backbone.coords), axis=2)
    present[:, ATOMS.index("CA")] = True
    residue, slot = np.nonzero(present)
    return residue, slot


def _bytes(text: Sequence | np.ndarray) -> np.ndarray:
    return np.char.strip(np.char.encode(np.asarray(text, str), "utf-8"))


def _assembled(name: str, residues: Sequence, atoms: Sequence, notes: Iterable[str] = ()) -> Backbone:
    """Assemble the table that a file with these residues and backbone atoms would give.

    Parameters
    ----------
    residues
        Columns: name, chain, number, insertion code, whether HETATM.
    atoms
        Columns: residue, slot, alternate location, occupancy and B-factor (None for none), place.
    """
    if not len(residues[0]):
        raise NoProtein("holds no atoms", "give a structure with a protein chain", file=name)
    chain, icode, alt = _bytes(residues[1]), _bytes(residues[3]), _bytes(atoms[2])
    number = np.asarray(residues[2], np.int64).astype(np.int32)
    alt[np.isin(alt, (b".", b"?"))] = b""
    count = len(number)
    table = Table(
        name=_bytes(residues[0]),
        chain=chain,
        icode=icode,
        number=number,
        key=np.unique(np.rec.fromarrays([chain, number, icode]), return_inverse=True)[1],
        hetero=np.asarray(residues[4], bool),
        # Neither library says which HETATM belong to a polymer, nor where TER stood.
        polymer=np.full(count, -1, np.int8),
        closed=np.zeros(count, bool),
        part=np.zeros(count, int),
        segment=np.zeros(count, "S1"),
        residue=np.asarray(atoms[0], int),
        slot=np.asarray(atoms[1], int),
        alt=alt.astype("S1"),
        occupancy=np.asarray(atoms[3], np.float32),
        bfactor=np.asarray(atoms[4], np.float32),
        xyz=np.asarray(atoms[5], np.float64).reshape(-1, 3),
        notes=list(notes),
    )
    try:
        return assemble(table, None, name)
    except ProtokError as error:
        error.file = error.file or name
        raise
