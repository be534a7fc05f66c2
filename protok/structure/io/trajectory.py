"""Frames of trajectories as Backbones: residues of a structure file, coordinates of each frame.

biotite reads the trajectories (XTC, TRR, DCD) and the order of all atoms in the structure file.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from protok.errors import CorruptFile, FormatError, ProtokError, Unsupported
from protok.structure.backbone import Backbone
from protok.structure.io.interop import from_biotite
from protok.structure.io.options import ReadOptions
from protok.structure.io.read import read_file
from protok.structure.io.sources.content import load, sniff
from protok.structure.io.sources.paths import stem

#: Å within which an atom of the structure and one of the list of all its atoms are the same.
SAME = 0.005
#: Frames that are read at once.
AT_ONCE = 32


def read_frames(
    structure: str | os.PathLike,
    trajectories: Sequence[str | os.PathLike],
    options: ReadOptions | None = None,
    *,
    every: int = 1,
) -> Iterator[Backbone]:
    """Yield the frames of trajectories one by one, as Backbones of the same residues.

    Parameters
    ----------
    structure
        File of all the atoms that the trajectory has, in its order: PDB, mmCIF, BinaryCIF or GRO.
    trajectories
        Files: .xtc, .trr, .dcd. Those of several files follow each other.
    options
        How the structure is read, such as which chains and residues; of GRO, nothing of it.
    every
        Take each so-manieth frame, the first among them.

    Yields
    ------
    Backbone
        Called ``name#1``, ``name#2`` and so on by the number of the frame. Atoms are where the frame has
        them: molecules that a periodic box cuts have to be made whole before.

    Raises
    ------
    ProtokError
        If a file cannot be read, or the frames have another number of atoms.
    """
    path = Path(structure)
    atoms, template = _structure(path, options or ReadOptions())
    there = np.isfinite(template.coords).all(axis=-1)
    far, row = KDTree(atoms).query(template.coords[there])
    if far.max(initial=0) > SAME:
        remedy = "encode the assembly alone: a trajectory has no copies"
        raise Unsupported("holds residues that are no atoms of the file", remedy, file=path)
    number = 0
    for file in map(Path, trajectories):
        for coords in _frames(file):
            number += 1
            if len(coords) != len(atoms):
                raise FormatError(
                    f"has {len(coords)} atoms, and {path} has {len(atoms)}",
                    "give the structure that the trajectory was written with, water and all",
                    file=file,
                )
            if (number - 1) % every:
                continue
            placed = np.full(template.coords.shape, np.nan, np.float32)
            placed[there] = coords[row]
            yield replace(template, coords=placed, name=f"{template.name}#{number}", notes=())


def _structure(path: Path, options: ReadOptions) -> tuple[np.ndarray, Backbone]:
    """Coordinates (n, 3) of all atoms of the structure in their order, and its Backbone."""
    from biotite.structure.io import gro, pdb, pdbx

    if path.suffix.lower() == ".gro":
        if options != ReadOptions():
            raise Unsupported("of GRO nothing can be chosen", "give PDB or mmCIF", file=path)
        array = _parsed(path, lambda: gro.GROFile.read(str(path)).get_structure(model=1))
        return array.coord, from_biotite(array, stem(path).removesuffix(".gro"))
    (backbone,) = read_file(path, options)
    data, _ = load(path)
    kind = sniff(data, path)

    def parse() -> Any:
        if kind == "pdb":
            return pdb.PDBFile.read(io.StringIO(data.decode("latin-1"))).get_structure(
                options.model, altloc="all"
            )
        if kind == "bcif":
            file: Any = pdbx.BinaryCIFFile.read(io.BytesIO(data))
        else:
            file = pdbx.CIFFile.read(io.StringIO(data.decode("utf-8", "replace")))
        return pdbx.get_structure(file, model=options.model, altloc="all", use_author_fields=True)

    return _parsed(path, parse).coord, backbone


def _parsed(path: Path, parse: Callable[[], Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # elements are guessed, and not needed
            return parse()
    except Exception as error:  # whatever biotite finds wrong with it
        raise CorruptFile(
            f"its atoms cannot be listed ({error})", "write it anew, as mmCIF", file=path
        ) from error


def _frames(path: Path) -> Iterator[np.ndarray]:
    """Coordinates (n, 3) in Å of each frame."""
    from biotite.structure.io import dcd, trr, xtc

    kinds = {".xtc": xtc.XTCFile, ".trr": trr.TRRFile, ".dcd": dcd.DCDFile}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise FormatError(
            f"{path.suffix or 'no suffix'} is no trajectory", f"give one of {', '.join(kinds)}", file=path
        )
    if not path.is_file():
        raise ProtokError("no such file", "check the path", file=path)
    stacks: Iterator[Any] = kind.read_iter(str(path), stack_size=AT_ONCE)
    while True:
        try:
            stack = next(stacks, None)
        except Exception as error:  # of the library, which has no type of its own for it
            raise CorruptFile(f"cannot be read on ({error})", "write it anew", file=path) from error
        if stack is None:
            return
        yield from stack[0]
