"""Files, folders, lists and archives as inputs of a job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from protok.common.grouping import numbered
from protok.errors import ProtokError


@dataclass(frozen=True)
class Source:
    """One input as it was found: a change of size or time makes it another.

    `archive` is the path of the archive that it is a member of, and `path` then that path
    with the member's name.
    """

    path: str
    name: str
    size: int
    mtime: int
    archive: str = ""


def find_sources(paths: str | Path | Iterable[str | Path]) -> list[Source]:
    """List the structure files that `paths` name, under names that tell them apart.

    An archive stands for its members, and for itself if it cannot be read to its end.

    Raises
    ------
    ProtokError
        If a path does not exist or no structure file is found.
    """
    from protok.structure.io.sources.archives import SEPARATOR, is_archive, list_members
    from protok.structure.io.sources.paths import is_structure, iter_files

    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    rows: list[tuple[str, int, int, str]] = []
    for file in iter_files(paths):
        path = str(file)
        try:
            status = file.stat()
        except (OSError, ValueError):  # on a list, or deleted meanwhile: who opens it says so
            rows.append((path, 0, 0, ""))
            continue
        size, mtime = status.st_size, status.st_mtime_ns
        if is_structure(file.name) or not is_archive(file):
            rows.append((path, size, mtime, ""))
            continue
        try:
            for member in list_members(file):
                rows.append((f"{path}{SEPARATOR}{member.name}", member.size, mtime, path))
        except ProtokError:
            rows.append((path, size, mtime, path))
    if not rows:
        raise ProtokError(
            "no structure files found",
            "give files, folders, patterns, lists or archives of .pdb, .cif, .bcif",
            file=", ".join(map(str, paths)),
        )
    names = unique_names([Path(path.replace(SEPARATOR, "/", bool(a))) for path, _, _, a in rows])
    return [
        Source(path, name, size, mtime, archive)
        for (path, size, mtime, archive), name in zip(rows, names, strict=True)
    ]


def repeated(sources: Sequence[Source]) -> dict[Source, str]:
    """Members of archives that are there in another format too, as in those of AlphaFold, and
    the note that each but the first is worth."""
    from protok.structure.io.sources.paths import stem

    first: dict[tuple[str, Path, str], Source] = {}
    notes = {}
    for source in sources:
        path = Path(source.path)
        if source.archive and first.setdefault((source.archive, path.parent, stem(path)), source) != source:
            notes[source] = "in the archive in another format too; both are encoded"
    return notes


def unique_names(files: Sequence[Path]) -> list[str]:
    """Name files by their stems; where these are the same, by as much of the path as it takes.

    >>> unique_names([Path("x/1aki.pdb"), Path("y/1aki.pdb"), Path("y/1ubq.cif")])
    ['x/1aki.pdb', 'y/1aki.pdb', '1ubq']

    Members of archives may have the same path, as `./x.pdb` and `x.pdb`: these are numbered.
    """
    from protok.structure.io.sources.paths import stem, utf8

    files = [Path(utf8(file)) for file in files]
    parts = dict.fromkeys(files, 0)
    while True:
        names = {file: "/".join(file.parts[-n:]) if n else stem(file) for file, n in parts.items()}
        count = Counter(names.values())
        if len(count) == len(names):
            return numbered([names[file] for file in files], "#")
        parts = {file: n + (count[names[file]] > 1) for file, n in parts.items()}
