"""Token files by their suffix: save, load, scan.

One record a chain, each with the fingerprint of its codebook, so that one file may hold tokens of
several tokenizers. All formats keep everything that `Tokens` has. Nothing is pickled. A damaged
file is refused with an error that names file and chain.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from protok.common.arrays import RATIO, allowed
from protok.common.files import atomic
from protok.errors import CorruptFile, FormatError, TruncatedFile
from protok.structure.io.sources.content import bomb
from protok.tokens import csv, fasta, npz
from protok.tokens.parquet import read_parquet, row_groups, write_parquet
from protok.tokens.tokens import Tokens


def save(tokens: Tokens | Iterable[Tokens], path: str | Path) -> None:
    """Write tokens to a file, in the format that its suffix says.

    One record a chain: a Tokens of several chains comes back as several Tokens.

    - `.fasta`, `.fa`: header `>1aki_A codebook=protok-1@3f2a91c0 size=64 index=1:129
      sequence=KVFG...`, then comma-separated ids with `-` for missing, or letters and
      `alphabet=` in the header for alphabets of at most 26 codes. What could not stand in a
      header is percent-encoded in it.
    - `.parquet`: name, chain, sequence, tokens (list of int32, -1 missing), index, icode,
      codebook, size, alphabet.
    - `.csv`: one row a residue: name, chain, index, icode, residue, token (-1 missing),
      codebook, size, alphabet, length (residues of the chain).
    - `.npz`: the arrays of all chains end to end, `length` residues each.

    FASTA and CSV may end in `.gz`. All but npz are written as the tokens come, so an iterator
    need not fit into memory. The file appears whole or not at all.

    Raises
    ------
    FormatError
        If the suffix is none of these.
    """
    (write, _), packed = format_of(path)
    if isinstance(tokens, Tokens):
        tokens = [tokens]
    chains = (chain for structure in tokens for chain in structure.by_chain())
    with atomic(path, "wb") as handle:
        with _Packed(handle) if packed else nullcontext(handle) as inner:
            write(chains, inner)


def load(path: str | Path) -> list[Tokens]:
    """Read all tokens of a file that `save` wrote, one a chain.

    Raises
    ------
    FormatError
        If the suffix or the content is no token file.
    CorruptFile, TruncatedFile
        If something is missing, out of range or cut off; the error names file and chain.
    """
    return list(scan(path))


@dataclass(frozen=True)
class Part:
    """What is read by itself: a row group of a Parquet file, or any other token file, which has none.

    Chains of one structure that `save` or a batch job wrote lie in one part.
    """

    path: Path
    group: int | None = None


def parts(path: str | Path) -> list[Part]:
    """Parts of a token file, or of a folder of Parquet files in the order of their names.

    Raises
    ------
    FormatError
        If there is no such file or folder of Parquet files, or its suffix is that of no token file.
    CorruptFile, TruncatedFile
        If a Parquet file is damaged.
    """
    path = Path(path)
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.exists() else []
    if not files:
        raise FormatError("no such token file", "give files of protok encode", file=str(path))
    return [part for file in files for part in _parts(file)]


def _parts(path: Path) -> list[Part]:
    if format_of(path)[0] is not _PARQUET:
        return [Part(path)]
    return [Part(path, group) for group in range(row_groups(str(path)))]


def scan(path: str | Path | Part) -> Iterator[Tokens]:
    """Read tokens one chain at a time, for files that do not fit into memory.

    Raises as `load` does, when the damage is reached. Only npz is read at once. A folder
    is a Parquet dataset as `encode_all` makes it: its files in the order of their names.
    """
    options = {}
    if isinstance(path, Part):
        path, options = path.path, {} if path.group is None else {"group": path.group}
    if Path(path).is_dir():
        for file in sorted(Path(path).glob("*.parquet")):
            yield from scan(file)
        return
    (_, read), packed = format_of(path)
    again = "the file was damaged on its way: write or copy it again"
    with (_Unpacked if packed else open)(path, "rb") as handle:
        try:
            head = handle.read(1)
            handle.seek(0)
            if not head:
                raise TruncatedFile("the file is empty", again, file=str(path))
            yield from read(handle, str(path), **options)
        except EOFError as error:
            raise TruncatedFile("the compressed data ends early", again, file=str(path)) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise CorruptFile(f"the compressed data is damaged ({error})", again, file=str(path)) from error
        except UnicodeDecodeError as error:
            raise CorruptFile("the text is not UTF-8", again, file=str(path)) from error


class _Packed(io.BufferedIOBase):
    """gzip, a member for each MiB, none of which packs so well that reading would refuse it as a bomb.

    Without name and time equal content gives equal files.
    """

    def __init__(self, handle: IO[bytes]):
        self._handle, self._held = handle, bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        if len(self._held) >= 1 << 20:
            self._member()
        return len(data)

    def _member(self) -> None:
        packed = b""
        # Letters alone pack 8 times at most.
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY):
            packer = zlib.compressobj(9, wbits=31, strategy=strategy)
            packed = packer.compress(self._held) + packer.flush()
            if len(self._held) <= RATIO // 2 * len(packed):
                break
        self._handle.write(packed)
        self._held.clear()

    def close(self) -> None:
        if not self.closed:
            self._member()
        super().close()


class _Unpacked(gzip.GzipFile):
    """A compressed text that is given up when it unpacks to more than its size allows."""

    def read1(self, size: int = -1) -> bytes:
        data = super().read1(size)
        packed = os.stat(self.name).st_size
        if self.tell() > allowed(packed):
            raise bomb(packed, self.tell())
        return data


def format_of(path: str | Path) -> tuple[tuple[Callable, Callable], bool]:
    """Writer (chains, handle) and reader (handle, path) by suffix, and whether it is compressed.

    Raises
    ------
    FormatError
        If the suffix is none of token files.
    """
    suffixes = [suffix.lower() for suffix in Path(path).suffixes[-2:]]
    packed = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if packed else suffixes)[-1:]
    codec = _CODECS.get(suffix[0] if suffix else "")
    if codec is None or (packed and codec not in (_FASTA, _CSV)):
        raise FormatError(
            f"{''.join(suffixes) or 'no suffix'!r} is no format of token files",
            "use .fasta, .csv (or either with .gz), .parquet or .npz",
            file=str(path),
        )
    return codec, packed


_FASTA, _CSV = (fasta.write_fasta, fasta.read_fasta), (csv.write_csv, csv.read_csv)
_NPZ, _PARQUET = (npz.write_npz, npz.read_npz), (write_parquet, read_parquet)
_CODECS = {".fasta": _FASTA, ".fa": _FASTA, ".parquet": _PARQUET, ".csv": _CSV, ".npz": _NPZ}
