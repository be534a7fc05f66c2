"""Why protok's residues of a file may differ from what the file lists: rules, each checked.

A rule is a name and a test of what the file holds. `None` means that no rule explains what is seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import gemmi
import numpy as np
from biotite.structure.info.ccd import get_from_ccd
from biotite.structure.io.pdbx import BinaryCIFCategory

from benchmarks.accuracy.peers import Site
from protok.structure.backbone import SURE_BOND
from protok.structure.io.formats.residues import FORCE_FIELD, WATER

#: Same number, given that files have three decimals and arrays 32 bits.
CLOSE = 2e-3
_STANDARD = {gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) for letter in "ACDEFGHIKLMNPQRSTVWY"}
_CAPS = {"ACE", "FOR", "ETA", "NH2", "NME", "NMA", "NHE", "MOH", "TFA", "BOC"}
REFUSALS = {
    r"ends early|end early|is cut$|is not closed|ends before its|without TER": "cut short",
    r"columns of line \d+ have slipped|has tabs": "columns of fixed width have slipped",
    r"stands where a \w+ should|that are no numbers": "what should be a number is none",
    r"values in the \d+ columns|do not fit its columns": "a row of atom_site has a value too few or too many",
    r"all atoms lie at the origin|no backbone atom has coordinates": "no coordinates",
    r"damaged \w+": "damaged packing or encoding",
    r"is empty": "empty",
}
"""What protok refuses although a peer reads it, by its cause."""


@dataclass
class Row:
    """A residue as protok reads it."""

    chain: str
    number: int
    icode: str
    letter: str
    coords: np.ndarray


@cache
def component(name: str) -> tuple[str, str, str]:
    """Type, one-letter code and parent of a residue name in the Chemical Component Dictionary."""
    tags = ("type", "one_letter_code", "mon_nstd_parent_comp_id")
    row = get_from_ccd("chem_comp", name)
    if not isinstance(row, BinaryCIFCategory):
        return "", "", ""
    kind, letter, parent = (str(row[tag].as_item()) for tag in tags)
    return kind.upper(), letter, parent


@cache
def letter_of(name: str) -> tuple[str, str]:
    """Letter of an amino acid's name, empty for none, and the rule that gives it, empty for gemmi's table."""
    name = name.upper()
    info = gemmi.find_tabulated_residue(name)
    if name in FORCE_FIELD:
        return FORCE_FIELD[name], "letter: protonation state of a force field"
    if info.is_amino_acid() and info.one_letter_code.strip():
        return info.one_letter_code.upper(), ""
    kind, letter, parent = component(name)
    if "PEPTIDE" in kind or info.is_amino_acid():
        if letter.strip() and letter not in "?.X" and len(letter) == 1:
            return letter, "letter: Chemical Component Dictionary"
        parents = [letter_of(word)[0] for word in re.split(r"\W+", parent) if word and word != name]
        if len(parents) == 1 and parents[0]:
            return parents[0], "letter: parent by the Chemical Component Dictionary"
        return "X", "letter: several residues fused, or without a parent"
    if len(name) == 4 and name[0] in "NCD" and (name[1:] in _STANDARD or name[1:] in FORCE_FIELD):
        return letter_of(name[1:])[0], "name: terminal residue of a force field"
    if len(name) == 4 and name[3].isdigit() and letter_of(name[:3])[0]:
        return letter_of(name[:3])[0], "name: state of a modified residue"
    return "", ""


def explain_letter(site: Site, letter: str) -> str | None:
    """Rule that gives the letter, empty if gemmi's table does."""
    expected, rule = letter_of(site.name)
    if letter == expected:
        return rule
    if letter == "X" and expected in ("", "X"):
        return "letter: X for a residue that has none"
    info = gemmi.find_tabulated_residue(site.name.upper())
    if site.hetero and info.is_amino_acid() and letter == info.one_letter_code.upper():
        return ""  # a name that force fields use for something else in ATOM records
    parent = component(site.name.upper())[2]
    if len(letter) == 1 and letter in {letter_of(word)[0] for word in re.split(r"\W+", parent) if word}:
        return "letter: parent by the Chemical Component Dictionary"
    return None


def explain_left_out(site: Site, rivals: list[Site], bonded: bool) -> str | None:
    """Rule that leaves a residue of the file out; `rivals` are kept in its place."""
    name = site.name.upper()
    info = gemmi.find_tabulated_residue(name)
    if info.is_water() or name in WATER:
        return "left out: water"
    if info.is_nucleic_acid() or re.fullmatch(r"[RD]?[ACGUTIN][35]?|ADE|CYT|GUA|THY|UR[AI]", name):
        return "left out: nucleotide"
    if name in _CAPS:
        return "left out: cap of a chain"
    if site.polymer is False:
        return "left out: not in a sequence, by the file"
    if site.end:
        return "left out: a terminal oxygen alone"
    if rivals and not site.atoms:
        return "left out: atoms beside the backbone of another residue in one place"
    weights = site.weights()
    if weights and any(max(r.weights().values(), default=0) >= max(weights.values()) for r in rivals):
        return "left out: less occupied of several kinds in one place"
    if not letter_of(name)[0]:
        if not site.has(0, 1, 2):
            return "left out: no amino acid (ion, ligand, lipid)"
        return "left out: HETATM that no peptide bond joins" if site.hetero and not bonded else None
    if site.hetero and not bonded:
        return "left out: HETATM that no peptide bond joins"
    if name not in _STANDARD and not site.has(1):
        return "left out: name of a modified residue without CA"
    return None


def explain_kept(site: Site, bonded: bool) -> str | None:
    """Rule that keeps a residue that is no amino acid by name, empty if it is one."""
    if letter_of(site.name)[0]:
        return ""
    if site.has(0, 1, 2) and (site.polymer or not site.hetero or bonded):
        return "kept: N, CA and C of a residue without a name of an amino acid"
    return None


def explain_atoms(site: Site, rivals: list[Site], row: Row) -> tuple[set[str], str]:
    """Rules that give the coordinates of a residue, and what none explains."""
    rules: set[str] = set()
    listed = np.array([atom.xyz for atom in site.atoms]).reshape(-1, 3)
    zeros = {atom.slot for atom in site.atoms if not atom.xyz.any()}
    weights = site.weights()
    ranks = sorted(weights, key=weights.__getitem__, reverse=True)
    for slot, name in enumerate(("N", "CA", "C", "O")):
        seen = row.coords[slot]
        atoms = site.candidates(slot)
        shared = [atom for rival in rivals for atom in rival.candidates(slot) if not atom.alt]
        if not np.isfinite(seen).all():
            if not atoms:
                continue  # nor does the file have it
            if not all(np.isfinite(atom.xyz).all() for atom in atoms):
                rules.add("missing: coordinates that are no numbers")
            elif len(zeros) > 1 and slot in zeros or (np.trunc(np.abs(atoms[0].xyz)) >= 9999).any():
                rules.add("missing: placeholder coordinates")
            else:
                return rules, f"{name} is missing, the file has {atoms[0].xyz.round(3).tolist()}"
            continue
        if not atoms and shared:
            atoms = shared
            rules.add("conformer: atom that several kinds in one place share")
        if not atoms:
            return rules, f"{name} at {seen.round(3).tolist()}, the file has none"
        order = {alt: rank for rank, alt in enumerate(ranks)} | {"": 0.5}
        best = min(atoms, key=lambda atom: order[atom.alt])
        scale = max(CLOSE, float(np.abs(best.xyz).max()) * 1e-6)
        if np.abs(best.xyz - seen).max() <= scale:
            if np.abs(atoms[0].xyz - seen).max() > scale:
                rules.add("conformer: most occupied alternate location of the whole residue")
            elif len(atoms) > 1 and len({atom.alt for atom in atoms}) < len(atoms):
                rules.add("conformer: first of an atom listed twice")
            continue
        return rules, f"{name} at {seen.round(3).tolist()}, the file has {best.xyz.round(3).tolist()}"
    if len(listed) == 0 and np.isfinite(row.coords).any():
        return rules, "coordinates of a residue without backbone atoms"
    return rules, ""


def explain_place(site: Site, row: Row) -> str | None:
    """Rule for a residue whose coordinates agree, but not its chain, number or insertion code."""
    if (site.number, site.icode) == (row.number, row.icode):
        if len(site.chain) > 1 and letter_of(site.name + site.chain[0])[0] and site.chain[1:] == row.chain:
            return "place: column 21 belongs to a name of four letters"
        return None
    if site.chain != row.chain:
        return None
    if site.icode.isdigit() and row.number == int(f"{site.number}{site.icode}"):
        return "place: a number of five digits reaches into the insertion code"
    # Hybrid-36 A000 and hexadecimal A000 are both 10,000; later they part.
    word = np.base_repr(site.number - 10**4 + 10 * 36**3, 36) if site.number >= 10**4 else ""
    if re.fullmatch(r"[A-F][0-9A-F]{3}", word) and row.number == int(word, 16) - 0xA000 + 10**4:
        return "place: hexadecimal numbers, as they count on from A00F to A010"
    return None


def explain_refusal(cause: str) -> str | None:
    """Rule for a file that protok refuses and a peer reads."""
    return next((f"refused: {rule}" for pattern, rule in REFUSALS.items() if re.search(pattern, cause)), None)


def bonded(sites: list[Site]) -> list[bool]:
    """Whether a peptide bond joins each residue to one of its neighbours in the file."""
    joined = [False] * len(sites)
    for i, (left, right) in enumerate(zip(sites, sites[1:], strict=False)):
        gaps = [
            np.linalg.norm(c.xyz - n.xyz)
            for c in left.candidates(2)
            for n in right.candidates(0)
            if left.chain == right.chain
        ]
        if gaps and min(gaps) < SURE_BOND:
            joined[i] = joined[i + 1] = True
    return joined
