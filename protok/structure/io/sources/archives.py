"""Structure files inside of tar and zip archives and Foldcomp databases, read as streams.

Members never become paths on disk, whatever they are called. An archive is walked in its
own order, twice: once to list what it holds, once to hand out the contents that are wanted.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from protok.errors import CorruptFile, FormatError, ProtokError
from protok.structure.io.sources import content
from protok.structure.io.sources.content import RATIO, TOO_LARGE, bomb, in_words
from protok.structure.io.sources.paths import is_structure

SEPARATOR = "::"
"""Between the path of an archive and the name of a member, in paths that are shown."""

_BLOCK = 2**20
#: What the standard library raises on damaged archives, and on encrypted ones.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error)
_DAMAGE += (EOFError, OSError, ValueError, RuntimeError, OverflowError)


@dataclass(frozen=True)
class Member:
    """One structure file in an archive: its name, unique there, and its unpacked size."""

    name: str
    size: int


#: A member, and what reads at most so many bytes of it; good until the next member.
Walk = Iterator[tuple[Member, Callable[[int], bytes]]]


def is_archive(path: str | os.PathLike) -> bool:
    """Whether a file is a tar (plain, .gz, .bz2, .zst) or zip archive or a Foldcomp database.

    The content decides, except that a Foldcomp database is known by the files beside it.
    """
    return _kind(Path(path)) is not None


def list_members(path: str | os.PathLike) -> Iterator[Member]:
    """Yield the structure files of an archive: .pdb, .ent, .cif, .mmcif, .bcif, .fcz, also packed.

    Of members of the same name the second is called ``2/name``, and so on, or by the next
    number of which no member before is called. Hidden files and links are passed over.

    Raises
    ------
    ProtokError
        Where the archive turns out to be damaged, after the members before; or if it
        holds no structure file.
    """
    empty = True
    for member, _ in _walk(Path(path)):
        empty = False
        yield member
    if empty:
        raise FormatError("an archive without structure files", "unpack it", file=str(path))


def read_members(
    path: str | os.PathLike, wanted: Collection[str], max_bytes: int | None = None
) -> Iterator[tuple[str, bytes | ProtokError]]:
    """Yield name and content of the members that are wanted, in the order of the archive.

    Parameters
    ----------
    path
        The archive.
    wanted
        Names as `list_members` gives them.
    max_bytes
        Larger members are refused, unread; 2 GiB by default.

    Yields
    ------
    name, content
        The bytes of the member as they lie in the archive, or the error that it costs. Damage
        of the archive itself comes as an error of every wanted member that was not reached,
        and of the name ``""`` if that is wanted.
    """
    limit = content.LIMIT if max_bytes is None else max_bytes
    missing = dict.fromkeys(wanted)
    damage = ProtokError("is not in the archive any more", "run again")
    try:
        for member, read in _walk(Path(path)):
            if member.name not in missing:
                continue
            del missing[member.name]
            try:
                # The size that the archive states may be a lie.
                data = b"" if member.size > limit else read(limit + 1)
                if max(member.size, len(data)) > limit:
                    raise CorruptFile(f"holds more than {in_words(limit)}", TOO_LARGE)
            except ProtokError as error:
                data = error
            except _DAMAGE as error:
                data = _corrupt(error)
            yield member.name, data
            if not missing:
                return
    except ProtokError as error:
        damage = error
    if "" in missing and not isinstance(damage, CorruptFile):
        damage = FormatError("an archive without structure files", "unpack it")
    for name in missing:
        yield name, type(damage)(damage.cause, damage.remedy)


def _corrupt(error: Exception, file: str = "") -> CorruptFile:
    return CorruptFile(f"damaged archive ({type(error).__name__}: {error})", "fetch it again", file=file)


def _kind(path: Path) -> Callable[[Path], Walk] | None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            head = file.read(4)
            if head == b"FCMP":
                return _walk_foldcomp if Path(f"{path}.index").exists() else None
            if head in (b"PK\x03\x04", b"PK\x05\x06"):
                return _walk_zip
            file.seek(0)
            with _unpacked(file) as stream:
                return _walk_tar if stream.read(512)[257:262] == b"ustar" else None
    except (*_DAMAGE, ProtokError):
        return None  # the reader of structure files says what is wrong with it


def _walk(path: Path) -> Walk:
    walk = _kind(path)
    if walk is None:
        raise ProtokError("is not an archive any more", "run again", file=str(path))
    taken: set[str] = set()
    times: dict[str, int] = {}
    try:
        for member, read in walk(path):
            name = member.name
            while name in taken:  # there may be a folder 2 in the archive
                times[member.name] = number = times.get(member.name, 1) + 1
                name = f"{number}/{member.name}"
            taken.add(name)
            yield Member(name, member.size), read
    except ProtokError as error:
        error.file = error.file or str(path)
        raise
    except _DAMAGE as error:
        raise _corrupt(error, str(path)) from error


def _wanted(name: str) -> bool:
    last = name.rsplit("/", 1)[-1]
    return is_structure(last) and not last.startswith(".")


class _Header(tarfile.TarInfo):
    """A header of a tar archive that is refused if damaged, where tarfile would just end."""

    def _block(self, count):
        # Back to where the reader was means for ever; long names (types L, K) and pax headers
        # (x, g, X) are held in memory.
        if count < 0 or (count > _BLOCK and self.type in b"LKxgX"):
            raise tarfile.HeaderError(f"a header of {count} bytes")
        return super()._block(count)  # pyright: ignore[reportAttributeAccessIssue]: not in typeshed

    @classmethod
    def fromtarfile(cls, archive):
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # pyright: ignore[reportAttributeAccessIssue]: not in typeshed
            raise
        except tarfile.HeaderError as error:
            where = archive.fileobj.tell() >> 10
            raise CorruptFile(
                f"the archive is cut off or damaged after {where} KiB", "fetch it again"
            ) from error


def _walk_tar(path: Path) -> Walk:
    with open(path, "rb") as file, _unpacked(file) as stream:
        # Only a plain archive can be skipped through; others are a stream.
        plain = stream is file
        with tarfile.open(
            fileobj=stream, mode="r:" if plain else "r|", tarinfo=_Header, bufsize=_BLOCK
        ) as archive:
            while (info := archive.next()) is not None:
                # tarfile keeps all headers otherwise, in a list that typeshed does not know.
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                archive.pax_headers = {}
                if info.isfile() and _wanted(info.name):
                    yield Member(info.name, info.size), partial(_read_tar, archive, info)


def _read_tar(archive: tarfile.TarFile, info: tarfile.TarInfo, limit: int) -> bytes:
    if info.issparse() and info.size > content.STEP:  # holes cost nothing in the archive
        raise FormatError(f"a sparse file of {in_words(info.size)}", "pack it without --sparse")
    pieces, left = [], min(limit, info.size)
    file = archive.extractfile(info)
    assert file is not None  # as of every member that is a file
    with file:
        while left and (piece := file.read(min(left, _BLOCK))):
            pieces.append(piece)
            left -= len(piece)
    if left:
        raise CorruptFile("the archive ends inside of this member", "fetch it again")
    return b"".join(pieces)


def _walk_zip(path: Path) -> Walk:
    with zipfile.ZipFile(path) as archive:
        # Members that lie over each other would be unpacked a thousand times, from one datum.
        if sum(info.compress_size for info in archive.infolist()) > path.stat().st_size:
            raise CorruptFile("holds less than its members, which lie over each other", "pack it again")
        for info in archive.infolist():
            link = stat.S_ISLNK(info.external_attr >> 16)
            if not link and not info.is_dir() and _wanted(info.filename):
                yield Member(info.filename, info.file_size), partial(_read_zip, archive, info)


def _read_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    if info.flag_bits & 1:
        raise FormatError("encrypted", "unpack the archive by hand")
    if info.file_size > max(content.STEP, RATIO * info.compress_size):
        raise bomb(info.compress_size, info.file_size)
    try:
        limit = min(limit, info.file_size)
        if info.compress_type in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            return _read_slowly(archive, info, limit)
        with archive.open(info) as file:
            return file.read(limit)
    except Exception as error:  # each decompressor has its own
        raise _corrupt(error) from error


def _read_slowly(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Unpack bzip2 or LZMA, of which the standard library makes gigabytes at a step."""
    import bz2
    import lzma

    packed = copy(info)
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, info.compress_size
    packed.CRC = None  # pyright: ignore[reportAttributeAccessIssue]: of the unpacked bytes
    with archive.open(packed) as file:
        data = file.read()
    if info.compress_type == zipfile.ZIP_LZMA:  # as a file of its own, of unknown size
        data = data[4:9] + b"\xff" * 8 + data[9:]
        unpacked = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=2 * content.STEP).decompress(data, limit)
    else:
        unpacked = bz2.BZ2Decompressor().decompress(data, limit)
    if len(unpacked) != info.file_size or zlib.crc32(unpacked) != info.CRC:
        raise ValueError("it is not what the archive says")
    return unpacked


def _walk_foldcomp(path: Path) -> Walk:
    from protok.structure.io.sources.foldcomp import entries

    with open(path, "rb") as file:
        for name, offset, size in entries(path):
            yield Member(name, size), partial(_read_piece, file, offset, size)


def _read_piece(file: BinaryIO, offset: int, size: int, limit: int) -> bytes:
    file.seek(offset)
    return file.read(min(limit, size))


def _unpacked(file: BinaryIO) -> BinaryIO | _Stream:
    """Open the stream inside of a compressed file; the file itself if it is not compressed."""
    head = file.read(4)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return _Stream(file, gzip.GzipFile(fileobj=file))
    if head.startswith(b"BZh"):
        import bz2

        return _Stream(file, bz2.BZ2File(file))
    if head == b"\x28\xb5\x2f\xfd":
        import zstandard

        inner = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return _Stream(file, inner)
    return file


class _Unpacker(Protocol):
    def read1(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class _Stream(io.BufferedIOBase):
    """A decompressed stream that is given up when it turns out to be a bomb."""

    def __init__(self, file: BinaryIO, inner: _Unpacker):
        self._file, self._inner, self._passed = file, inner, 0

    def close(self) -> None:
        self._inner.close()
        super().close()

    def tell(self) -> int:
        return self._passed

    def read(self, size: int) -> bytes:
        """Read on: small pieces whatever is asked for, as headers can lie; what lies before
        the damage of a stream still comes."""
        try:
            data = self._inner.read1(min(size, _BLOCK))
        except Exception as error:  # each decompressor has its own
            raise _corrupt(error) from error
        self._passed += len(data)
        if self._passed > max(content.STEP, RATIO * self._file.tell()):
            raise bomb(self._file.tell(), self._passed)
        return data
