"""Residues of a Backbone by their numbers, and those that are blanked for their B-factor or pLDDT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from protok.errors import NoProtein
from protok.structure.backbone import Backbone


def in_ranges(backbone: Backbone, ranges: Sequence[tuple[int, int]]) -> Backbone:
    """The residues whose numbers lie in any of the ranges, both ends included.

    Raises
    ------
    NoProtein
        If there is none.
    """
    number = backbone.index
    inside = np.any([(first <= number) & (number <= last) for first, last in ranges], axis=0)
    if not inside.any():
        listed = ",".join(f"{first}-{last}" for first, last in ranges)
        spans = ", ".join(
            f"{chain.chains[0]!r} has {chain.index.min()} to {chain.index.max()}"
            for chain in backbone.by_chain()
        )
        raise NoProtein(f"no residue is numbered {listed}", f"chain {spans}")
    return backbone[inside]


def masked(backbone: Backbone, min_plddt: float = 0.0, max_bfactor: float = 0.0) -> Backbone:
    """The same residues, without the coordinates of those that the B-factor column speaks against.

    Parameters
    ----------
    min_plddt
        Residues with less have no coordinates; 0 for no such limit.
    max_bfactor
        Residues with more have none; 0 for no such limit.

    Raises
    ------
    NoProtein
        If no residue is left.
    """
    limits = []
    blank = np.zeros(len(backbone), bool)
    if min_plddt:
        blank |= backbone.bfactor < min_plddt
        limits.append(f"a pLDDT below {min_plddt:g}")
    if max_bfactor:
        blank |= backbone.bfactor > max_bfactor
        limits.append(f"a B-factor above {max_bfactor:g}")
    blank &= backbone.mask
    if not blank.any():
        return backbone
    words = " or ".join(limits)
    if not (backbone.mask & ~blank).any():
        low, high = np.nanmin(backbone.bfactor), np.nanmax(backbone.bfactor)
        raise NoProtein(
            f"every residue has {words}", f"values go from {low:g} to {high:g}: choose another limit"
        )
    coords = np.where(blank[:, None, None], np.float32(np.nan), backbone.coords)
    n = int(blank.sum())
    note = f"{n} residue{'s' if n > 1 else ''} with {words} masked"
    return replace(backbone, coords=coords, notes=(*backbone.notes, note))
