"""Lists of the StructTokenBench release from before structures were added to them.

Each source has its own items, and its own rule to turn them into a label a residue once the
chain is known: InterPro gives ranges, BioLiP residues by letter and number, ProteinShake labels
by number with CA coordinates, ProteinGLUE labels along a sequence, ATLAS a table beside its own
PDB file, TAPE a SCOP domain. The rules are those of the reference.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from protok.bench.data.regions import in_range
from protok.errors import FormatError
from protok.structure.backbone import AMINO_ACIDS, Backbone

#: Column of BioLiP that each label comes from.
BIOLIP = {
    "binding_label": "binding_site_residues_pdb_numbered",
    "catalytic_label": "catalytic_site_residues_pdb_numbered",
}
#: Column of ATLAS' table, and what the reference multiplies it by.
ATLAS = {"rmsf_score": ("RMSF", 1.0), "bfactor_score": ("Bfactor", 0.01), "neq_score": ("Neq", 0.1)}
SAME = 1e-3  # Å between CA of ProteinShake and of the mmCIF file
SCOP = "dir.cla.scop.1.75.txt"
#: TAPE's folds with fewer training proteins are not part of the task.
PROTEINS = 50


class Left(Exception):
    """Why an example is left out, as the reference would."""


def where(item: dict[str, Any], root: Path) -> tuple[str, str, list[str]]:
    """Entry, chain and ranges of residues of an item (none: the whole chain).

    Parameters
    ----------
    root
        The folder of the list, which holds the SCOP classification for TAPE's items.
    """
    if "pdb_id_chain_id" in item:
        entry, _, chain = str(item["pdb_id_chain_id"]).partition("_")
        return entry, chain, []
    if "pdb_id" not in item:
        return _scop(item, root)
    chain = item.get("receptor_chain", item.get("chain_id"))
    if isinstance(chain, list | tuple | np.ndarray):  # ProteinShake: one a residue
        chain = chain[0]
    return str(item["pdb_id"]), str(chain), [part for part in item.get("residue_range") or [] if part]


def _scop(item: dict[str, Any], root: Path) -> tuple[str, str, list[str]]:
    name = item.get("id")
    name = name.decode() if isinstance(name, bytes) else str(name)
    path = root / SCOP
    if not path.is_file():
        raise FormatError(f"domain {name} without a structure", f"put {SCOP} beside the list")
    if name not in _domains(path):
        raise Left("not in SCOP 1.75")
    entry, described = _domains(path)[name]
    parts = [part.partition(":") for part in described.split(",")]
    if not parts[0][1] or len({part[0] for part in parts}) > 1:
        raise Left("not one chain in SCOP 1.75")
    # Letters before or after a number are insertion codes, which the reference drops.
    ranges = [part[2].strip("-") for part in parts]
    return entry, parts[0][0], [part for part in ranges if part]


@lru_cache(maxsize=2)
def _domains(path: Path) -> dict[str, tuple[str, str]]:
    """Entry and description of each domain of a SCOP classification."""
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line[:1] != "#")
    return {row[0]: (row[1], row[2]) for row in rows if len(row) > 2}


def label(item: dict[str, Any], field: str, structure: Backbone, root: Path) -> np.ndarray:
    """(L,) float32 labels of the residues of a chain.

    Raises
    ------
    Left
        If the reference would leave the example out.
    FormatError
        If the item is of no known source.
    """
    if "fragments" in item or "fragment" in item:
        return _interpro(item, structure)
    if BIOLIP.get(field) in item:
        return _biolip(item[BIOLIP[field]], structure)
    if "residue_coord_x" in item:
        return _shake(item, field, structure)
    if "annot_seq" in item:
        return _glue(item, structure)
    if field in ATLAS:
        return _atlas(item, field, structure, root)
    raise FormatError(
        f"an example of {item.get('pdb_id')} has neither a structure nor labels of a known source",
        "give the lists that the reference saved with structures (processed_structured_*)",
    )


def _interpro(item: dict[str, Any], structure: Backbone) -> np.ndarray:
    # Numbers of the first fragment's UniProt range are taken as author numbers.
    text = str(item.get("fragments", item.get("fragment")))
    inside = in_range(structure.index, text.split(",")[0])
    if not inside.any():
        raise Left("no positive residue")
    return inside.astype(np.float32)


def _biolip(text: Any, structure: Backbone) -> np.ndarray:
    if not isinstance(text, str) or text.strip() in ("", "?"):
        raise Left("no residues of this kind")
    out = np.zeros(len(structure), np.float32)
    letters = np.array(list(structure.sequence))
    for residue in text.split():
        number = int(residue[1:] if residue[-1].isdigit() else residue[1:-1])
        at = np.flatnonzero(structure.index == number)
        if len(at) > 1:  # insertion codes: the letter decides, as in the reference
            at = at[letters[at] == residue[0]]
            if not len(at):
                raise Left(f"no residue {residue}")
        out[at[:1]] = 1
    return out


def _shake(item: dict[str, Any], field: str, structure: Backbone) -> np.ndarray:
    ca = np.stack([np.asarray(item[f"residue_coord_{axis}"], float) for axis in "xyz"], axis=1)
    n = len(ca)
    if n > len(structure) or not (np.abs(structure.coords[:n, 1] - ca) < SAME).all():
        raise Left("coordinates are not those of the mmCIF file")
    out = np.full(len(structure), np.nan, np.float32)
    out[:n] = np.asarray(item[field], np.float32)
    return out


def _glue(item: dict[str, Any], structure: Backbone) -> np.ndarray:
    from biotite.sequence import ProteinSequence
    from biotite.sequence.align import SubstitutionMatrix
    from biotite.sequence.align.pairwise import align_optimal

    texts = (str(item["annot_seq"]), structure.sequence)
    plain = ("".join(c if c in AMINO_ACIDS else "X" for c in text) for text in texts)
    annotated, known = map(ProteinSequence, plain)
    matrix = SubstitutionMatrix.std_protein_matrix()
    trace = align_optimal(annotated, known, matrix, gap_penalty=-10, max_number=1)[0].trace
    pairs = trace[(trace >= 0).all(axis=1)]
    out = np.zeros(len(structure), np.float32)
    out[pairs[:, 1]] = np.asarray(item["annot_label"], np.float32)[pairs[:, 0]]
    return out


def atlas_file(item: dict[str, Any], root: Path, ending: str) -> Path:
    """A file of ATLAS' own folder of a chain."""
    name = str(item.get("pdb_id_chain_id") or f"{item['pdb_id']}_{item['chain_id']}")
    return root / "analysis" / name / f"{name}{ending}"


def _atlas(item: dict[str, Any], field: str, structure: Backbone, root: Path) -> np.ndarray:
    path = atlas_file(item, root, "_per_residue_labels.csv")
    if not path.is_file():
        raise Left("no table of ATLAS")
    column, factor = ATLAS[field]
    with path.open(newline="", encoding="utf-8") as lines:
        values = [row[column] for row in csv.DictReader(lines)]
    if len(values) != len(structure):
        raise FormatError(
            f"{len(values)} rows for {len(structure)} residues", "fetch the folder again", file=str(path)
        )
    return np.array([float(text) if text else np.nan for text in values], np.float32) * factor
