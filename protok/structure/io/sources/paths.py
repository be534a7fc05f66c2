"""Which files to read: folders, patterns, lists, and the names of structures."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from protok.errors import ProtokError

FORMAT = re.compile(r"(?<=.)\.(?:pdb\d*|ent\d*|cif|mmcif|bcif)$", re.IGNORECASE)
"""Suffix of a structure file; .pdb1 is the first assembly of an entry."""

PACKED = (".gz", ".zst", ".bz2", ".fcz")


def stem(path: str | os.PathLike) -> str:
    """Name of a structure: its file name without format and compression suffix.

    >>> stem("x/1aki.cif.gz"), stem("7dz2.C.pdb.gz")
    ('1aki', '7dz2.C')
    """
    name = Path(utf8(path)).name
    for suffix in PACKED:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
            break
    return FORMAT.sub("", name)


def utf8(path: str | os.PathLike) -> str:
    r"""A path as text that can be written: bytes that are not UTF-8 as ``\udc..``.

    >>> utf8(os.fsdecode(b"x/\xe9.pdb"))
    'x/\\udce9.pdb'
    """
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def iter_files(paths: str | os.PathLike | Iterable[str | os.PathLike]) -> Iterator[Path]:
    """Yield structure files named by files, folders, glob patterns and lists, each once.

    A file is taken whatever its suffix. A folder is searched to the bottom for
    .pdb, .pdb1, .ent, .cif, .mmcif and .bcif, plain or .gz, .zst, .bz2, and .fcz; hidden
    names and folders that are symbolic links are passed over. Files of one folder or
    pattern come sorted. ``@name`` is a list: a text file with a file or folder a line;
    ``-`` reads such lines from the standard input. What a list names is yielded even if
    it does not exist, and a folder in a folder if it cannot be searched.

    Raises
    ------
    ProtokError
        If a path does not exist, a pattern matches nothing, or a list cannot be read.
    """
    seen = set()
    for name in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        listed = _listed(str(name))
        for path in _expand(Path(name)) if listed is None else listed:
            if path not in seen:
                seen.add(path)
                yield path


def _listed(name: str) -> Iterator[Path] | None:
    """What a list names, if it is one."""
    if name == "-":
        return _lines(sys.stdin.buffer.read())
    if not name.startswith("@") or os.path.exists(name):
        return None
    try:
        return _lines(Path(name[1:]).read_bytes())
    except (OSError, ValueError) as error:
        raise ProtokError(f"the list cannot be read ({error})", "check the path", file=name[1:]) from error


def _lines(text: bytes) -> Iterator[Path]:
    for name in text.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if name := name.rstrip(b"\r"):
            path = Path(os.fsdecode(name))
            # Of a long list one bad line costs itself: whoever opens the file says so.
            yield from _expand(path) if os.path.isdir(path) else (path,)


def _expand(path: Path) -> Iterator[Path]:
    if os.path.isdir(path):
        shut: list[OSError] = []
        # Names only: a stat of each of a million files would take longer than the walk.
        for folder, folders, names in os.walk(path, onerror=shut.append):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith(".") and is_structure(name):
                    yield Path(folder, name)
        yield from (Path(error.filename) for error in shut)  # who reads it says why not
    elif os.path.exists(path):
        yield path
    else:
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise ProtokError("no such file or folder", "check the path", file=str(path))
        for match in map(Path, matches):
            yield from _expand(match) if match.is_dir() else (match,)


def is_structure(name: str) -> bool:
    """Whether a file name has a suffix of structure files."""
    name = name.lower()
    if name.endswith(".fcz"):
        return True
    for suffix in PACKED:
        name = name.removesuffix(suffix)
    return FORMAT.search(name) is not None
