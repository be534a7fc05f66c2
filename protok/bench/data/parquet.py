"""Parquet files that anyone wrote: what cannot be read is an error that names the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from protok.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa


def schema_of(file: Path) -> pa.Schema:
    """Columns and metadata of a file; raises as `read_table` does."""
    import pyarrow.parquet as pq

    with _named(file):
        return pq.ParquetFile(file).schema_arrow


def read_table(file: Path, columns: Iterable[str] | None = None) -> pa.Table:
    """A file, or some of its columns.

    Raises
    ------
    FormatError
        If it is no Parquet file, or a damaged one.
    """
    import pyarrow.parquet as pq

    with _named(file):
        return pq.read_table(file, columns=None if columns is None else list(columns))


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Errors of Parquet as one that names the file."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        message = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise FormatError(f"not read as Parquet ({message})", "write it again", file=str(file)) from error
