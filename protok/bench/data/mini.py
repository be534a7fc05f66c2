"""Folders of plain structure files, among them the bundled mini set for a first look offline.

They are turned into a data folder in a temporary place every time; `protok bench prepare` does
that once, and takes labels. The mini set, some seventy PDB chains, lies in `structures` beside
this file.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

from protok.bench.data.folder import Folder
from protok.bench.data.prepare import prepare


def mini_files() -> Path:
    """Folder of the mini set, which is part of the package."""
    return Path(__file__).parents[1] / "structures"


def from_files(path: Path) -> Folder:
    """A folder of structure files as a data folder, which lasts as long as the object.

    `pairs.csv` in it, if there is one, gives the pairs of conformations. Files that cannot be
    read are in `errors` of the folder, with reasons.
    """
    temporary = tempfile.mkdtemp(prefix="protok-bench-")
    try:
        pairs = path / "pairs.csv"
        made = prepare(path, temporary, pairs=pairs if pairs.exists() else None)
        folder = Folder(temporary)
        folder.errors = made.errors
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    weakref.finalize(folder, _remove, temporary)
    return folder


def _remove(folder: str) -> None:
    """Remove a folder, also if a signal comes in the middle, which a finalizer cannot pass on."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
