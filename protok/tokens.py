"""Tokens, and the files they travel in: FASTA, Parquet, CSV, npz.

A token file holds one record a chain, each with the fingerprint of its codebook, so one file
may hold tokens of several tokenizers. All four formats keep everything that `Tokens` has.
Nothing is pickled. A damaged file is refused with an error that names file and chain.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np

from protok.errors import CorruptFile, FormatError, TruncatedFile, Unsupported
from protok.structure.backbone import Backbone

#: Most codes of a codebook, and most residues of a chain, that a file may claim: what it says is
#: believed before there is memory for it.
LARGEST, LONGEST = 1 << 24, 1 << 22


@dataclass(frozen=True, eq=False)
class Tokens:
    """The discrete codes of one structure, one a residue.

    Attributes
    ----------
    ids : (L,) int32
        Codes 0..size-1, or -1 where a residue has none.
    size : int
        Number of codes in the codebook.
    codebook : str
        `name@fingerprint` of the codebook that the codes refer to.
    sequence, chain, index, icode, name
        Copied from the Backbone: one letter, chain id, number and insertion code a residue.
    alphabet : str
        One letter a code where the codebook has letters (3Di, Protein Blocks), else empty.
    """

    ids: np.ndarray
    size: int
    codebook: str
    sequence: str
    chain: np.ndarray
    index: np.ndarray
    icode: np.ndarray
    name: str = ""
    alphabet: str = ""

    def __post_init__(self) -> None:
        n = len(self.sequence)
        given = np.asarray(self.ids)
        if given.size and given.dtype.kind not in "iu":
            raise ValueError(f"token ids must be integers, not {given.dtype}")
        for key, kind in (("ids", None), ("chain", str), ("index", np.int32), ("icode", str)):
            value = np.asarray(getattr(self, key), dtype=kind)
            if value.shape != (n,):
                raise ValueError(f"{_count(value)} {key} for {n} residues")
            object.__setattr__(self, key, value)
        wrong = (self.ids < -1) | (self.ids >= self.size)
        if wrong.any():
            raise ValueError(f"token {self.ids[wrong][0]} is outside 0..{self.size - 1} (-1: none)")
        object.__setattr__(self, "ids", self.ids.astype(np.int32))
        if not self.codebook:
            raise ValueError("the codebook has no name")
        if not self.sequence.isascii():
            raise ValueError("the sequence holds one ASCII letter a residue")
        letters = self.alphabet
        if letters and (len(letters) != self.size or len(set(letters)) != self.size):
            raise ValueError(f"an alphabet of {self.size} codes needs as many different letters")
        if "-" in letters or not letters.isascii() or any(letter.isspace() for letter in letters):
            raise ValueError("an alphabet holds printable ASCII without '-', which means missing")

    @classmethod
    def like(
        cls, backbone: Backbone, ids: np.ndarray, size: int, codebook: str, alphabet: str = ""
    ) -> Tokens:
        """Tokens for the residues of `backbone`, from which they take all but the codes."""
        return cls(
            ids=ids,
            size=size,
            codebook=codebook,
            sequence=backbone.sequence,
            chain=backbone.chain,
            index=backbone.index,
            icode=backbone.icode,
            name=backbone.name,
            alphabet=alphabet,
        )

    def __len__(self) -> int:
        return len(self.sequence)

    def __repr__(self) -> str:
        present = self.ids[self.ids >= 0]
        parts = [self.name or "unnamed", f"{len(self)} residues", self.codebook]
        parts.append(f"{len(np.unique(present))} of {self.size} codes")
        if len(present) < len(self):
            parts.append(f"{len(self) - len(present)} missing")
        return f"Tokens({', '.join(parts)})"

    @property
    def letters(self) -> str:
        """One letter a residue, `-` where missing.

        Raises
        ------
        Unsupported
            If the codebook has no letters.
        """
        if not self.alphabet:
            raise Unsupported(f"the codes of {self.codebook} have no letters", "use the ids")
        return "".join(np.array([*self.alphabet, "-"])[self.ids])

    def split(self) -> Iterator[Tokens]:
        """Yield the chains one by one, in order of first appearance, each under the same `name`."""
        chains = list(dict.fromkeys(self.chain.tolist()))
        if len(chains) == 1:
            yield self
            return
        for chain in chains:
            rows = np.flatnonzero(self.chain == chain)
            yield replace(
                self,
                ids=self.ids[rows],
                sequence="".join(self.sequence[i] for i in rows),
                chain=self.chain[rows],
                index=self.index[rows],
                icode=self.icode[rows],
            )


def _count(value: np.ndarray) -> str:
    return str(len(value)) if value.ndim == 1 else f"{value.shape} (not one a residue)"


def save(tokens: Tokens | Iterable[Tokens], path: str | Path) -> None:
    """Write tokens to a file, in the format that its suffix says.

    One record a chain: a Tokens of several chains comes back as several Tokens.

    - `.fasta`, `.fa`: header `>1aki_A codebook=protok-512@3f2a91c0 size=512 index=1:129
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
    kind, opener = _format(path)
    if isinstance(tokens, Tokens):
        tokens = [tokens]
    chains = (chain for one in tokens for chain in one.split())
    partial = f"{path}.{os.getpid()}.part"
    try:
        with opener(partial, "wb") as handle:
            _codec(kind)[0](chains, handle)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


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


def scan(path: str | Path) -> Iterator[Tokens]:
    """Read tokens one chain at a time, for files that do not fit into memory.

    Raises as `load` does, when the damage is reached. Only npz is read at once. A folder
    is a Parquet dataset as `encode_all` makes it: its files in the order of their names.
    """
    if Path(path).is_dir():
        for part in sorted(Path(path).glob("*.parquet")):
            yield from scan(part)
        return
    kind, opener = _format(path)
    again = "the file was damaged on its way: write or copy it again"
    with opener(path, "rb") as handle:
        try:
            head = handle.read(1)
            handle.seek(0)
            if not head:
                raise TruncatedFile("the file is empty", again, file=path)
            yield from _codec(kind)[1](handle, str(path))
        except EOFError as error:
            raise TruncatedFile("the compressed data ends early", again, file=path) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise CorruptFile(
                f"the compressed data is damaged ({error})", again, file=path
            ) from error
        except UnicodeDecodeError as error:
            raise CorruptFile("the text is not UTF-8", again, file=path) from error


def _format(path: str | Path):
    """Format and opener by suffix."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes[-2:]]
    packed = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if packed else suffixes)[-1:]
    kind = _SUFFIXES.get(suffix[0] if suffix else "")
    if kind is None or (packed and kind not in ("fasta", "csv")):
        raise FormatError(
            f"{''.join(suffixes) or 'no suffix'!r} is no format of token files",
            "use .fasta, .csv (or either with .gz), .parquet or .npz",
            file=path,
        )
    return kind, gzip.open if packed else open


_SUFFIXES = {
    ".fasta": "fasta", ".fa": "fasta", ".parquet": "parquet", ".csv": "csv", ".npz": "npz"
}  # fmt: skip


def _codec(kind: str):
    """Writer (chains, handle) and reader (handle, path) of a format."""
    from protok import token_formats as other

    return {
        "fasta": (other.write_fasta, other.read_fasta),
        "csv": (other.write_csv, other.read_csv),
        "npz": (other.write_npz, other.read_npz),
        "parquet": (_write_parquet, _read_parquet),
    }[kind]


def record(path: str, name: str, chain: str, **fields) -> Tokens:
    """One chain as read from a file; what does not fit together becomes a CorruptFile."""
    try:
        if fields["size"] > LARGEST:
            raise ValueError(f"a codebook of {fields['size']} codes")
        if len(fields["sequence"]) > LONGEST:
            raise ValueError(f"a chain of {len(fields['sequence'])} residues")
        chains = np.full(len(fields["sequence"]), chain)
        return Tokens(name=name, chain=chains, **fields)
    except (ValueError, OverflowError) as error:
        raise CorruptFile(
            str(error), "write the file again", file=path, chain=f"{name}_{chain}"
        ) from error


class ParquetWriter:
    """Append tokens to a Parquet file, a row group at a time.

    The file can be read once the writer is closed; leaving its `with` block closes it, after
    an error too, and what was appended until then is kept.

    Parameters
    ----------
    path
        A path, or a file open for writing.
    rows
        Chains a row group; as many are held in memory.

    Examples
    --------
    >>> with ParquetWriter("tokens.parquet") as out:
    ...     for structure in structures:
    ...         out.append(tokenizer.encode(structure))
    """

    def __init__(self, path, rows: int = 1024):
        import pyarrow.parquet as pq

        self._rows = rows
        self._held: list[Tokens] = []
        self._schema = _schema()
        target = path if hasattr(path, "write") else str(path)
        self._file = pq.ParquetWriter(
            target, self._schema, compression="zstd", write_page_checksum=True
        )

    def append(self, tokens: Tokens) -> None:
        """Add the chains of `tokens`, one row each."""
        self._held.extend(tokens.split())
        if len(self._held) >= self._rows:
            self.flush()

    def flush(self) -> None:
        """Write what is held as a row group."""
        if self._held:
            self._file.write_batch(_batch(self._held, self._schema))
            self._held = []

    def close(self) -> None:
        """Write the rest and the footer, without which the file cannot be read."""
        self.flush()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _schema():
    import pyarrow as pa

    text, numbers = pa.string(), pa.list_(pa.int32())
    columns = {
        "name": text, "chain": text, "sequence": text, "tokens": numbers, "index": numbers,
        "icode": pa.list_(text), "codebook": text, "size": pa.int32(), "alphabet": text,
    }  # fmt: skip
    return pa.schema(columns, metadata={"protok": "tokens 1"})


def _batch(chains: list[Tokens], schema):
    import pyarrow as pa

    offsets = pa.array(np.cumsum([0, *map(len, chains)]), pa.int32())
    arrays = []
    for column in schema:
        key = "ids" if column.name == "tokens" else column.name
        if pa.types.is_list(column.type):
            flat = np.concatenate([getattr(one, key) for one in chains])
            values = pa.array(flat, column.type.value_type)
            arrays.append(pa.ListArray.from_arrays(offsets, values))
        else:
            values = [one.chain[0] if key == "chain" else getattr(one, key) for one in chains]
            arrays.append(pa.array(values, column.type))
    return pa.record_batch(arrays, schema=schema)


def _write_parquet(chains: Iterable[Tokens], handle) -> None:
    with ParquetWriter(handle) as out:
        for chain in chains:
            out.append(chain)


def _read_parquet(handle, path: str) -> Iterator[Tokens]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_ends(handle, path, "Parquet", b"PAR1", lambda tail: tail.endswith(b"PAR1"))
    schema = _schema()
    try:
        table = pq.ParquetFile(handle, page_checksum_verification=True)
        missing = [key for key in schema.names if key not in table.schema_arrow.names]
        if missing:
            raise CorruptFile(f"has no column {missing[0]!r}", "write it with protok", file=path)
        for batch in table.iter_batches(1024, columns=schema.names):
            columns = {}
            for column in schema:
                values = batch.column(column.name).cast(column.type)
                if values.null_count or (
                    pa.types.is_list(column.type) and values.flatten().null_count
                ):
                    raise CorruptFile(
                        f"column {column.name!r} has empty cells",
                        "-1 is a missing token",
                        file=path,
                    )
                columns[column.name] = _cells(values)
            for row in range(batch.num_rows):
                fields = {key: values[row] for key, values in columns.items()}
                yield record(path, ids=fields.pop("tokens"), **fields)
    except (pa.ArrowException, OSError) as error:
        raise CorruptFile(
            f"Parquet cannot read it ({error})", "write the file again", file=path
        ) from error


def _cells(values) -> list:
    """Rows of an Arrow column, lists as numpy arrays."""
    if not hasattr(values, "offsets"):
        return values.to_pylist()
    flat = values.values.to_numpy(zero_copy_only=False)
    bounds = values.offsets.to_numpy()
    return [flat[start:stop] for start, stop in pairwise(bounds)]


def check_ends(handle, path: str, what: str, head: bytes, complete) -> None:
    """Tell a file of another format from one that was cut."""
    start = handle.read(len(head))
    handle.seek(0, os.SEEK_END)
    handle.seek(max(0, handle.tell() - 65557))
    tail = handle.read()
    handle.seek(0)
    if start != head:
        raise FormatError(f"the content is not {what}", "check the suffix", file=path)
    if not complete(tail):
        raise TruncatedFile(
            f"the {what} directory at the end is missing", "write it again", file=path
        )
