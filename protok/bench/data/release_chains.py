"""Chains of the files that the StructTokenBench release names: each read once, damage named."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from protok.bench.data.release_lists import Left
from protok.errors import CorruptFile, ProtokError
from protok.structure.backbone import Backbone
from protok.structure.io.read import read

#: Residues held, about 70 bytes each; all chains of all tasks are some ten million residues.
HELD = 12_000_000
MEND = "fetch it again as plain mmCIF, or take its examples out of the lists"


class Chains:
    """Chains of an opened release: lists name the same ones again and again.

    Parameters
    ----------
    held
        Residues that are kept at most. The chains not asked for the longest go first; they are
        read again when asked for.
    """

    def __init__(self, held: int = HELD):
        self.held = held
        # Backbones, since parsed files hold every atom of every chain; or why there is none.
        self._known: OrderedDict[tuple[Path, str | None], Backbone | str] = OrderedDict()
        self._size = 0

    def get(self, path: Path, chain: str | None = None) -> Backbone:
        """A chain of an mmCIF file; without a name, all of a file of any format.

        Raises
        ------
        Left
            If the file does not have the chain.
        ProtokError
            If the file is damaged. That is not kept: a file that was mended is read.
        """
        held = self._known.pop((path, chain), None)
        if held is None:
            try:
                held = from_mmcif(path, chain) if chain is not None else read(path)
            except Left as why:
                held = str(why)
            self._size += len(held)
        self._known[path, chain] = held
        while self._size > self.held:
            self._size -= len(self._known.popitem(last=False)[1])
        if isinstance(held, str):
            raise Left(held)
        return held


def from_mmcif(path: Path, chain: str) -> Backbone:
    """One chain as the reference reads it: ATOM records of model 1, author id, then label id.

    Raises
    ------
    Left
        If the file does not have the chain.
    ProtokError
        If the file is damaged, or the chain has no backbone; names both.
    """
    import biotite.structure as struc
    from biotite.structure.io import pdbx

    from protok.structure.io.interop import from_biotite

    try:
        atoms = pdbx.get_structure(
            pdbx.CIFFile.read(path),
            model=1,
            altloc="first",
            extra_fields=["b_factor", "label_asym_id"],
            use_author_fields=True,
        )
    except MemoryError:  # no fault of the file
        raise
    except Exception as error:  # biotite raises whatever its parsing stumbles on
        raise CorruptFile(_damage(path, error), MEND, file=str(path), chain=chain) from error
    assert isinstance(atoms, struc.AtomArray)  # of one model
    # Numbers are those of the author even where the chain is found by its label.
    for named in (atoms.chain_id, atoms.label_asym_id):
        keep = struc.filter_amino_acids(atoms) & ~np.asarray(atoms.hetero) & (named == chain)
        if keep.any():
            break
    else:
        raise Left(f"no chain {chain}")
    try:
        return replace(from_biotite(cast(struc.AtomArray, atoms[keep])), name=f"{path.stem}_{chain}")
    except ProtokError as error:
        error.file, error.chain = str(path), chain
        raise


def _damage(path: Path, error: Exception) -> str:
    """What is wrong with a file: protok's own reader tells more kinds of damage apart."""
    try:
        read(path)
    except ProtokError as known:
        return known.cause
    first: BaseException = error
    while first.__context__ is not None:  # the reason; what follows only says where it was met
        first = first.__context__
    return f"no mmCIF that can be read ({type(first).__name__}: {first})"
