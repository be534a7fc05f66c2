"""Parquet files that anyone wrote: what cannot be read is an error that names the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from protok.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa


def schema_of(file: Path) -> pa.Schema:
    """Columns and metadata of a file.

    Raises
    ------
    FormatError
        If it is no Parquet file, or a damaged one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file).schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, error) from error


def read_table(file: Path, columns: Iterable[str] | None = None) -> pa.Table:
    """A file, or some of its columns.

    Raises
    ------
    FormatError
        If it is no Parquet file, or a damaged one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(file, columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> FormatError:
    message = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return FormatError(f"not read as Parquet ({message})", "write it again", file=str(file))
