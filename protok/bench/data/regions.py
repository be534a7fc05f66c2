"""Residues by their author numbers, as domain classifications write them: `A:2-129`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from protok.errors import FormatError
from protok.structure.backbone import Backbone


def in_region(structure: Backbone, text: str, file: str | Path) -> np.ndarray:
    """Rows (n,) of residues in a region, `A:2-129,A:140-150`; the chain is not looked at.

    Raises
    ------
    FormatError
        If it is no region, or no residue lies in it; names the file that has it.
    """
    try:
        parts = [in_range(structure.index, part.rpartition(":")[2]) for part in text.split(",")]
    except FormatError as error:
        error.file = str(file)
        raise
    rows = np.flatnonzero(np.any(parts, axis=0))
    if not len(rows):
        raise FormatError(f"{structure.name} has no residue in {text}", "correct the region", file=str(file))
    return rows


def in_range(index: np.ndarray, text: str) -> np.ndarray:
    """Whether each residue's number lies in `2-129`, (n,) bool.

    Parameters
    ----------
    index : (n,) int
        Author numbers; insertion codes are not looked at.
    text
        `2-129`, or one number; they may be negative, and an empty text is all.

    Raises
    ------
    FormatError
        If it is no range.
    """
    if not text:
        return np.ones(len(index), bool)
    dash = text.index("-", 1) if "-" in text[1:] else len(text)
    begin, end = text[:dash], text[dash + 1 :] or text[:dash]
    try:
        low, high = (int("".join(c for c in part if c in "-0123456789")) for part in (begin, end))
    except ValueError as error:
        raise FormatError(f"{text!r} is no range of residues", "write it as 2-129") from error
    return (index >= low) & (index <= high)
