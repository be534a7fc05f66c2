"""Arrays of .npz files and tables of Parquet files, whose sizes are known before they are unpacked.

A deflated megabyte may become a gigabyte, and a header of a hundred bytes may claim any shape. What
a file unpacks to is bounded by its own size; only the arrays that are asked for are read.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from protok.errors import CorruptFile

#: Bytes that any file may unpack to, and bytes that it may unpack to for each of its own. Codes and
#: coordinates pack 2 to 20 times, deflated zeros 1,000 times.
FLOOR, RATIO = 1 << 24, 100
#: The same for the numbers of Parquet files: the frames of a simulation share most of their codes.
NUMBERS_FLOOR, NUMBERS_RATIO = 1 << 27, 1000
AGAIN = "write or copy the file again"


def allowed(packed: int) -> int:
    """Bytes in memory that a file of so many bytes may become."""
    return max(FLOOR, RATIO * packed)


def array_names(path: str | Path) -> set[str]:
    """Names of the arrays of an .npz file; none are read.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    with _damage_told(), zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


def read_arrays(file: str | Path | IO[bytes], wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """Read those of the wanted arrays that an .npz file has, without pickle.

    Raises
    ------
    ValueError
        If it is damaged, or would take more than `allowed` memory.
    """
    with _damage_told(), zipfile.ZipFile(file) as archive:
        assert archive.fp is not None  # as long as it is open
        most = allowed(archive.fp.seek(0, os.SEEK_END))
        members = {key: f"{key}.npy" for key in wanted if f"{key}.npy" in archive.NameToInfo}
        # All are measured before the first is read.
        size = sum(_measured(archive, name, most) for name in members.values())
        if size > most:
            raise ValueError(f"it unpacks to {size} bytes")
        out = {}
        for key, name in members.items():
            with archive.open(name) as member:
                out[key] = np.lib.format.read_array(member, allow_pickle=False)
        return out


@contextmanager
def _damage_told() -> Iterator[None]:
    """ValueError for whatever damaged bytes make `zipfile` and numpy raise, which is a dozen kinds."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(str(error)) from error


def write_arrays(handle: IO[bytes], **arrays: Any) -> None:
    """Write an .npz file for `read_arrays`: not packed where it would pack better than that allows."""
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    if sum(np.asarray(array).nbytes for array in arrays.values()) > allowed(out.tell()):
        np.savez(handle, **arrays)
    else:
        handle.write(out.getbuffer())


def _measured(archive: zipfile.ZipFile, name: str, most: int) -> int:
    """Bytes of an array by its header."""
    info = archive.getinfo(name)
    # Other methods unpack as much as they like at a step.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.file_size > most:
        raise ValueError(f"{name} unpacks to {info.file_size} bytes by method {info.compress_type}")
    with archive.open(info) as member:
        major, _ = np.lib.format.read_magic(member)
        read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        if major not in read_header:
            raise ValueError(f"{name} is of version {major}")
        shape, _, dtype = read_header[major](member)
    # Nothing, a billion times, is a list as long where rows are taken apart.
    return math.prod(max(n, 1) for n in shape) * max(dtype.itemsize, 1)


def rows_at_once(table, path: str | Path) -> int:
    """How many rows of a Parquet file to read at a time, by its directory.

    Parameters
    ----------
    table : pyarrow.parquet.ParquetFile
    path
        The file.

    Raises
    ------
    CorruptFile
        If its directory is damaged, or it would take more than `allowed` memory.
    """
    size, held, numbers, longest = os.stat(path).st_size, 0, 0, 1
    for number in range(table.metadata.num_row_groups):
        try:  # no row at a time: pyarrow ends the process where a damaged column is asked for directly
            list(table.reader.iter_batches(0, [number]))
        except Exception as error:
            raise CorruptFile(f"its directory is damaged ({error})", AGAIN, file=path) from error
        group = table.metadata.row_group(number)
        columns = [group.column(i) for i in range(group.num_columns)]
        held += sum(column.total_uncompressed_size for column in columns)
        # Numbers that repeat are held once in the file, but each in memory.
        numbers += 8 * sum(column.num_values for column in columns)
        if held > allowed(size) or numbers > max(NUMBERS_FLOOR, NUMBERS_RATIO * size):
            raise CorruptFile(f"{size} bytes unpack to {max(held, numbers)}", AGAIN, file=path)
        longest = max(longest, *(column.total_uncompressed_size for column in columns))
    # So do texts, each of which may be as long as its column.
    return min(1024, max(1, allowed(size) // longest))
