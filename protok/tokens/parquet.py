"""Parquet: one row a chain, with the codebook in the metadata."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import pairwise

import numpy as np

from protok.common.arrays import AGAIN, rows_at_once
from protok.errors import CorruptFile
from protok.tokens.parts import COLUMNS, LISTS, NUMBERS, TEXTS, columns_of, from_columns
from protok.tokens.tokens import WIDEST_ICODE, Tokens, check_ends, record


class ParquetWriter(AbstractContextManager):
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
        self._schema = token_schema()
        target = str(path) if isinstance(path, str | os.PathLike) else path
        self._file = pq.ParquetWriter(target, self._schema, compression="zstd", write_page_checksum=True)

    def append(self, tokens: Tokens) -> None:
        """Add the chains of `tokens`, one row each. Those of one name stay together in a row group."""
        if len(self._held) >= self._rows and not (tokens.name and tokens.name == self._held[-1].name):
            self.flush()
        self._held.extend(tokens.by_chain())

    def flush(self) -> None:
        """Write what is held as a row group."""
        if self._held:
            self._file.write_batch(_batch(self._held, self._schema))
            self._held = []

    def close(self) -> None:
        """Write the rest and the footer, without which the file cannot be read."""
        try:
            self.flush()
            self._file.close()
        finally:  # or pyarrow closes it again when nothing is there to see the error
            self._file.is_open = False

    def __exit__(self, *_) -> None:
        self.close()


def token_schema():
    """Columns of a token file, as an Arrow schema."""
    import pyarrow as pa

    text, numbers = pa.string(), pa.list_(pa.int32())
    columns = {
        "name": text,
        "chain": text,
        "sequence": text,
        "tokens": numbers,
        "index": numbers,
        "icode": pa.list_(text),
        "codebook": text,
        "size": pa.int32(),
        "alphabet": text,
        **dict.fromkeys(LISTS, numbers),
        **dict.fromkeys(NUMBERS, pa.int32()),
        **dict.fromkeys(TEXTS, text),
    }
    return pa.schema(columns, metadata={"protok": "tokens 3"})


def _batch(chains: list[Tokens], schema):
    import pyarrow as pa

    parts = [columns_of(chain) for chain in chains]
    arrays = []
    for column in schema:
        key = "ids" if column.name == "tokens" else column.name
        if key in COLUMNS:
            values = [row[key] for row in parts]
        else:
            values = [chain.chain[0] if key == "chain" else getattr(chain, key) for chain in chains]
        if pa.types.is_list(column.type):
            offsets = pa.array(np.cumsum([0, *map(len, values)]), pa.int32())
            flat = pa.array(np.concatenate(values), column.type.value_type)
            arrays.append(pa.ListArray.from_arrays(offsets, flat))
        else:
            arrays.append(pa.array(values, column.type))
    return pa.record_batch(arrays, schema=schema)


def write_parquet(chains: Iterable[Tokens], handle) -> None:
    with ParquetWriter(handle) as out:
        for chain in chains:
            out.append(chain)


def row_groups(path: str) -> int:
    """How many row groups a file has.

    Raises
    ------
    CorruptFile, TruncatedFile
        If it is no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open(path, "rb") as handle:
        check_ends(handle, path, "Parquet", b"PAR1", lambda tail: tail.endswith(b"PAR1"))
        try:
            return pq.read_metadata(handle).num_row_groups
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(error, path) from error


def read_parquet(handle, path: str, *, own: bool = False, group: int | None = None) -> Iterator[Tokens]:
    """Read the chains of a file or of a row group; a file of our own making may unpack to any size."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_ends(handle, path, "Parquet", b"PAR1", lambda tail: tail.endswith(b"PAR1"))
    schema = token_schema()
    try:
        table = pq.ParquetFile(handle)
        metadata, rows = table.metadata, 1024 if own else rows_at_once(table, path)
        # An insertion code that repeats is one in the file, and so in memory until it is measured.
        leaves = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
        codes = [leaf for leaf in leaves if leaf.startswith("icode.")]
        table = pq.ParquetFile(
            handle, metadata=metadata, read_dictionary=codes, page_checksum_verification=True
        )
        names = table.schema_arrow.names
        # All columns of parts, or none.
        wanted = [key for key in schema.names if key not in COLUMNS or not {*COLUMNS}.isdisjoint(names)]
        missing = [key for key in wanted if key not in names]
        if missing:
            raise CorruptFile(f"has no column {missing[0]!r}", "write it with protok", file=path)
        batches = (
            batch
            for number in (range(metadata.num_row_groups) if group is None else [group])
            # Each has a dictionary of its own.
            for batch in table.iter_batches(rows, row_groups=[number], columns=wanted)
        )
        for batch in batches:
            columns = {}
            for column in map(schema.field, wanted):
                values = batch.column(column.name)
                if column.name == "icode" and _longest(values) > 4 * WIDEST_ICODE:
                    raise CorruptFile(
                        f"an insertion code of more than {WIDEST_ICODE} characters", AGAIN, file=path
                    )
                values = values.cast(column.type)
                if values.null_count or (pa.types.is_list(column.type) and values.flatten().null_count):
                    raise CorruptFile(
                        f"column {column.name!r} has empty cells", "-1 is a missing token", file=path
                    )
                columns[column.name] = cells(values)
            for row in range(batch.num_rows):
                fields = {key: values[row] for key, values in columns.items()}
                parts = {key: fields.pop(key) for key in COLUMNS if key in fields}
                make = partial(from_columns, parts) if parts else None
                yield record(path, parts=make, ids=fields.pop("tokens"), **fields)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(error, path) from error


def _unreadable(error: Exception, path: str) -> CorruptFile:
    return CorruptFile(f"Parquet cannot read it ({error})", "write the file again", file=path)


def _longest(lists) -> int:
    """Bytes of the longest text in an Arrow column of lists."""
    import pyarrow as pa
    from pyarrow.compute import call_function

    texts = lists.values if isinstance(lists, pa.ListArray | pa.LargeListArray) else lists
    texts = texts.dictionary if isinstance(texts, pa.DictionaryArray) else texts
    if not isinstance(texts, pa.StringArray | pa.LargeStringArray):
        return 0  # refused where it is cast
    return max((size or 0 for size in call_function("binary_length", [texts]).to_pylist()), default=0)


def cells(values) -> list:
    """Rows of an Arrow column, lists as numpy arrays."""
    import pyarrow as pa

    if not isinstance(values, pa.ListArray | pa.LargeListArray):
        return values.to_pylist()
    flat = values.values.to_numpy(zero_copy_only=False)
    bounds = values.offsets.to_numpy()
    return [flat[start:stop] for start, stop in pairwise(bounds)]
