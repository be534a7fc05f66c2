"""What Foldcomp (Kim et al., Bioinformatics 2023) stores of chains, and how far off it is: bytes against Å.

Each run of bonded residues is a file of its own: a chain is rebuilt from torsion angles, and what lies behind
a gap would be far off. Residues are glycines, of which the backbone alone is stored, as tokens do. All bytes
count, heads of files too. A chain is left out, and named, if the library fails on a run of it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

import protok
from protok.bench.measures.scores import Score, mean_of, ratio_of
from protok.common.extras import Extra
from protok.errors import ProtokError
from protok.structure.backbone import Backbone
from protok.structure.geometry import linked
from protok.structure.metrics import lddt, rmsd

#: A process of its own, as the library ends it on data that it does not expect.
COMPRESS = """
import pathlib, sys, foldcomp
for name in sys.argv[1:]:
    path = pathlib.Path(name)
    path.with_suffix(".fcz").write_bytes(foldcomp.compress(path.name, path.read_text()))
"""


def runs(chain: Backbone) -> list[slice]:
    """Stretches of complete residues that are bonded one to the next."""
    bonded = linked(torch.from_numpy(np.nan_to_num(chain.coords)), torch.from_numpy(chain.mask)).numpy()
    cut = [0, *(np.flatnonzero(~bonded) + 1).tolist(), len(chain)]
    parts = (slice(low, high) for low, high in zip(cut, cut[1:], strict=False))
    return [part for part in parts if chain.mask[part].all()]


def compress(files: Sequence[Path]) -> None:
    """Write the file of Foldcomp beside each PDB file that it can compress."""
    left = list(files)
    while left:
        subprocess.run([sys.executable, "-c", COMPRESS, *map(str, left)], capture_output=True)
        broken = next((i for i, file in enumerate(left) if not file.with_suffix(".fcz").exists()), len(left))
        left = left[broken + 1 :]


def measured(chains: Sequence[Backbone]) -> tuple[dict[str, Score], list[str]]:
    """Scores as of the task `rate`, with bytes a residue; and the names of chains that it failed on."""
    rows, failed = [], []
    with Extra("interop", "Foldcomp"):
        import_module("foldcomp")  # the other process needs it
    with tempfile.TemporaryDirectory() as folder:
        files = [[Path(folder, f"{i}_{part.start}.pdb") for part in runs(c)] for i, c in enumerate(chains)]
        for chain, own in zip(chains, files, strict=True):
            for part, file in zip(runs(chain), own, strict=True):
                run = chain[part]
                protok.write(replace(run, sequence="G" * len(run)), file)
        compress(sum(files, []))
        for chain, own in zip(chains, files, strict=True):
            coords = np.full_like(chain.coords, np.nan)
            try:
                packed = [file.with_suffix(".fcz") for file in own]
                for part, file in zip(runs(chain), packed, strict=True):
                    coords[part] = protok.read(file).coords
                size = sum(file.stat().st_size for file in packed)
            except (ProtokError, OSError, ValueError):
                failed.append(chain.name)
                continue
            back = replace(chain, coords=coords)
            rows.append((8 * size, int(back.mask.sum()), rmsd(back, chain), float(lddt(back, chain))))
    bits, residues, off, alike = np.array(rows).reshape(-1, 4).T
    scores = {"rmsd": mean_of(off), "lddt": mean_of(alike), "bits_a_residue": ratio_of(bits, residues)}
    return scores | {"bytes_a_residue": ratio_of(bits / 8, residues)}, failed
