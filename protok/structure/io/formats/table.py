"""Table: what the format readers hand to the assembler."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from protok.errors import CorruptFile
from protok.structure.backbone import WIDEST

UNREADABLE = np.iinfo(np.int32).min
"""Stands for a residue number that could not be read."""
OTHER_MODELS = "model {} read, others left out"
"""The note of a file that has more models than were asked for."""


def check_width(width: int, what: str, most: int = WIDEST) -> None:
    """Refuse a column with one value of so many characters, before all are as wide.

    Raises
    ------
    CorruptFile
        If no format means such a value.
    """
    if width > most:
        raise CorruptFile(f"a {what} of {width} characters", f"{most} are enough: write it anew")


@dataclass
class Table:
    """Residues of one model as the file lists them, and their backbone atoms.

    A residue here is a run of neighbouring lines that agree in name, chain and
    number, so microheterogeneity and split residues still show as several.

    Attributes
    ----------
    name, chain, icode : (R,) bytes
        Residue name, chain id, insertion code; blanks stripped.
    number : (R,) int32
        Author residue number, `UNREADABLE` where it is none.
    key : (R,) any sortable type
        Equal for residues at one position of one chain.
    hetero : (R,) bool
        HETATM and not ATOM.
    polymer : (R,) int8
        1 part of a polymer, 0 not, -1 the file does not say.
    closed : (R,) bool
        A TER record of the same chain follows.
    part, segment : (R,) int, bytes
        How many TER records come before, and the segment id of CHARMM and NAMD; in CIF zero,
        and the label id of the chain.
    residue, slot : (A,) int
        Residue and place in `ATOMS` of each backbone atom.
    alt : (A,) S1
        Alternate location, empty if none.
    occupancy, bfactor : (A,) text or numbers
        Parsed by `floats` where they are needed, which is for few atoms.
    xyz : (A, 3) float64
        Å; NaN where unreadable.
    """

    name: np.ndarray
    chain: np.ndarray
    icode: np.ndarray
    number: np.ndarray
    key: np.ndarray
    hetero: np.ndarray
    polymer: np.ndarray
    closed: np.ndarray
    part: np.ndarray
    segment: np.ndarray
    residue: np.ndarray
    slot: np.ndarray
    alt: np.ndarray
    occupancy: np.ndarray
    bfactor: np.ndarray
    xyz: np.ndarray
    notes: list[str] = field(default_factory=list)
