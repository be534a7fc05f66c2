"""Bytes of a file: what is packed in them, which format it is.

The content decides, never the suffix: a gzip stream named `.pdb` and a plain
file named `.pdb.gz` are both read.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Callable
from pathlib import Path

from protok.errors import CorruptFile, FormatError, ProtokError

LIMIT = 2**31
"""Bytes of structure data that are read at most, after decompression."""

RATIO = 250  # coordinates pack 4 to 20 times; a bomb 1,000 times and more
STEP = 2**26  # bytes decompressed between two looks at the limits
TOO_LARGE = "split it, or raise the limit (--max-bytes)"
_GZIP, _BZIP2, _ZSTD = b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd"


def load(path: Path, max_bytes: int | None = None) -> tuple[bytes, bool]:
    """Return the unpacked content of a file and whether its stream was cut short."""
    limit = LIMIT if max_bytes is None else max_bytes
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            os.listdir(path)  # one that cannot be searched was given for its files
        # To open a pipe would wait for ever; what is too large is not read at all.
        regular = stat.S_ISREG(status.st_mode)
        data = path.read_bytes() if regular and status.st_size <= limit else None
    except FileNotFoundError as error:
        raise ProtokError("no such file", "check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ProtokError(f"cannot be read ({error})", "check the path") from error
    if data is None:
        if regular:
            raise CorruptFile(f"holds more than {in_words(limit)}", TOO_LARGE)
        raise ProtokError("is not a regular file", "check the path")
    return unpack(data, limit)


def unpack(data: bytes, max_bytes: int | None = None) -> tuple[bytes, bool]:
    """Return the unpacked content of some bytes and whether their stream was cut short."""
    limit = LIMIT if max_bytes is None else max_bytes
    cut = False
    for _ in range(3):  # packed twice happens; deeper is a trick
        magic = next((magic for magic in (_GZIP, _ZSTD, _BZIP2, b"FCMP") if data.startswith(magic)), None)
        if magic is None:
            break
        pieces: list[bytes] = []
        keep = _keeper(pieces, len(data), limit)
        if magic == b"FCMP":
            from protok.structure.io.sources import foldcomp

            keep(foldcomp.unpack(data))
        else:
            cut |= not _each(data, magic, keep, *_decompressor(magic))
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return data.removeprefix(b"\xef\xbb\xbf"), cut


def in_words(size: int) -> str:
    """A number of bytes in words."""
    return f"{size >> 20} MiB" if size >= 2**20 else f"{size} bytes"


def _keeper(pieces: list[bytes], packed: int, limit: int) -> Callable[[bytes], None]:
    """Return a function that appends to `pieces` and refuses decompression bombs."""
    total = 0

    def keep(piece: bytes) -> None:
        nonlocal total
        total += len(piece)
        if total > STEP and total > RATIO * packed:
            raise bomb(packed, total)
        if total > limit:
            raise CorruptFile(f"unpacks to more than {in_words(limit)}", TOO_LARGE)
        pieces.append(piece)

    return keep


def bomb(packed: int, unpacked: int) -> CorruptFile:
    """The refusal of compressed data that unpacks to suspiciously much."""
    return CorruptFile(
        f"{packed} compressed bytes unpack to more than {in_words(unpacked)}",
        "unpack it by hand if it is what it should be",
    )


def _decompressor(magic: bytes) -> tuple[str, Callable, int, type[Exception]]:
    """Name of a packing, what makes its decompressor, bytes a step, and its error on damage."""
    if magic == _GZIP:  # 1 byte unpacks to 1 KiB at most, so a step to 32 MiB
        return "gzip", lambda: zlib.decompressobj(31), 2**15, zlib.error
    if magic == _BZIP2:  # a block of 40 bytes unpacks to 44 MiB at most
        import bz2

        return "bzip2", bz2.BZ2Decompressor, 64, OSError
    import zstandard

    # A block of 4 bytes unpacks to 128 KiB at most, so a step to 128 MiB.
    return "Zstandard", zstandard.ZstdDecompressor().decompressobj, 4096, zstandard.ZstdError


def _each(
    data: bytes,
    magic: bytes,
    keep: Callable[[bytes], None],
    name: str,
    new: Callable,
    step: int,
    damage: type[Exception],
) -> bool:
    """Unpack streams that follow each other, in time linear in their bytes however many they
    are; False if the last is cut short. Padding may follow them."""
    position = 0
    while data.startswith(magic, position):
        stream = new()
        while not stream.eof and position < len(data):
            piece = data[position : position + step]
            try:
                keep(stream.decompress(piece))
            except damage as error:
                raise CorruptFile(f"damaged {name} stream ({error})", "fetch it again") from error
            position += len(piece)
        if not stream.eof:
            return False
        position -= len(stream.unused_data)
    return True


_FOREIGN = (
    (0, b"PK\x03\x04", "a zip archive", "unpack it"),
    (257, b"ustar", "a tar archive", "unpack it"),
    (0, b"\xfd7zXZ", "xz-compressed", "unpack it with xz"),
    (0, b"\xff\xfe", "UTF-16 text", "save it as UTF-8"),
    (0, b"\xfe\xff", "UTF-16 text", "save it as UTF-8"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run git lfs pull"),
    (0, b"<", "a web page or XML", "download the file itself, as PDB, mmCIF or BinaryCIF"),
    (0, b"{", "JSON", "give a PDB, mmCIF or BinaryCIF file"),
)
_SUFFIXES = {
    ".pqr": ("PQR, whose columns are free", "give the PDB file that it was made from"),
    ".pdbqt": ("PDBQT, which reorders atoms", "give the PDB file that it was made from"),
    ".mmtf": ("MMTF, which the PDB gave up in 2024", "fetch the entry as BinaryCIF"),
}
_CIF_START = re.compile(rb"(?:\s|#[^\r\n]*+)*+(?:data_|loop_|_\w+[.\s])", re.IGNORECASE)
_PDB_RECORD = re.compile(
    rb"(?:^|[\r\n])(?:ATOM  |HETATM|ATOM\t|HEADER|TITLE |COMPND|REMARK|CRYST1|MODEL |SEQRES)"
)


def sniff(data: bytes, path: Path) -> str:
    """Return "pdb", "mmcif" or "bcif" for the unpacked content of a file."""
    if not data or data.isspace():
        raise CorruptFile("is empty", "fetch it again")
    head = data[:4096]
    for offset, magic, what, remedy in _FOREIGN:
        if head.startswith(magic, offset):
            raise FormatError(what, remedy)
    binary = head[0] & 0xF0 == 0x80 or head[0] in b"\xde\xdf"  # a MessagePack map
    if binary and b"dataBlocks" in head:
        return "bcif"
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if binary and b"mmtfVersion" in head:
        suffix = ".mmtf"
    if suffix in _SUFFIXES:
        raise FormatError(*_SUFFIXES[suffix])
    if _CIF_START.match(data) or b"\n_atom_site." in data:
        return "mmcif"
    if _PDB_RECORD.search(data):
        return "pdb"
    raise FormatError(
        f"neither PDB nor mmCIF nor BinaryCIF (begins {head[:16]!r})", "convert it to one of them"
    )
