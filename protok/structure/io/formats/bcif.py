"""BinaryCIF: MessagePack around encoded columns, of which only the needed ones are decoded.

Format: Sehnal et al., PLoS Comput Biol 2020, 16(10): e1008247, and the
specification at https://github.com/molstar/BinaryCIF.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from protok.errors import CorruptFile, NoProtein, ProtokError, TruncatedFile
from protok.structure.io.formats.atom_site import read_atom_site
from protok.structure.io.formats.table import UNREADABLE, Table, check_width

_TYPES = {1: "<i1", 2: "<i2", 3: "<i4", 4: "<u1", 5: "<u2", 6: "<u4", 32: "<f4", 33: "<f8"}
_REMEDY = "fetch it again"
# Damaged content can break any step of the decoding in any of these ways.
_BROKEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError)


def read_bcif(data: bytes, model: int, labels: bool) -> Table:
    """Read one model of a BinaryCIF file into a table of residues and backbone atoms."""
    import msgpack

    try:
        category = _category(data, "_atom_site")
        if category is None:
            raise NoProtein("has no _atom_site category", "give a file with coordinates")
        rows = int(category["rowCount"])
        if rows > len(data) // 3:  # a row has three coordinates of a byte at least
            raise CorruptFile(f"claims {rows} atoms in {len(data)} bytes", _REMEDY)
        columns = {column["name"].lower(): column for column in category["columns"]}
        decoded: dict[str, np.ndarray] = {}
        allowed = 2**24 + 40 * len(data)

        def column(tag: str, picked: np.ndarray | None) -> np.ndarray | None:
            if tag not in columns:
                return None
            if tag not in decoded:
                decoded[tag] = _column(columns[tag], rows)
                # A run of one value takes two numbers in the file, but in memory one for each row.
                if sum(values.nbytes for values in decoded.values()) > allowed:
                    raise CorruptFile(f"{len(data)} bytes unpack to more than {allowed}", _REMEDY)
            return decoded[tag] if picked is None else decoded[tag][picked]

        if not rows:
            raise NoProtein("has an empty _atom_site category", "give a file with coordinates")
        table = read_atom_site([column], model, labels)
        if data.count(b"\xaa_atom_site") > 1:  # as MessagePack writes a text of ten bytes
            table.notes.append("first data block read, others left out")
        return table
    except ProtokError:
        raise
    except msgpack.OutOfData as error:
        raise TruncatedFile("the data end early", _REMEDY) from error
    except (*_BROKEN, msgpack.UnpackException) as error:
        message = f"damaged BinaryCIF ({type(error).__name__}: {error})"
        raise CorruptFile(message, _REMEDY) from error


def read_category(data: bytes, name: str) -> dict[str, list[str]]:
    """Columns of the first category of this name, values as text; empty if there is none.

    Raises
    ------
    CorruptFile
        If it is damaged.
    """
    import msgpack

    try:
        category = _category(data, name)
        if category is None:
            return {}
        rows = int(category["rowCount"])
        if rows > len(data):
            raise CorruptFile(f"claims {rows} rows of {name} in {len(data)} bytes", _REMEDY)
        values = {column["name"].lower(): _column(column, rows).tolist() for column in category["columns"]}
        return {
            item: [value.decode() if isinstance(value, bytes) else str(value) for value in column]
            for item, column in values.items()
        }
    except ProtokError:
        raise
    except (*_BROKEN, msgpack.UnpackException) as error:
        message = f"damaged BinaryCIF ({type(error).__name__}: {error})"
        raise CorruptFile(message, _REMEDY) from error


def _category(data: bytes, name: str) -> dict | None:
    """Unpack the first category of this name, pass over the rest without making objects of it."""
    import msgpack

    stream = msgpack.Unpacker(
        strict_map_key=False, unicode_errors="replace", max_buffer_size=max(len(data), 1)
    )
    stream.feed(data)

    def keys() -> Iterator[object]:
        return (stream.unpack() for _ in range(stream.read_map_header()))

    for key in keys():
        if key != "dataBlocks":
            stream.skip()
            continue
        for _ in range(stream.read_array_header()):
            for key in keys():
                if key != "categories":
                    stream.skip()
                    continue
                for _ in range(stream.read_array_header()):
                    category: dict = {}
                    for key in keys():
                        if category.get("name", name).lower() == name:
                            category[key] = stream.unpack()
                        else:
                            stream.skip()
                    if category["name"].lower() == name:
                        return category
    return None


def _column(column: dict, rows: int) -> np.ndarray:
    """Values of a column; text as bytes with "" for none, numbers with UNREADABLE or NaN."""
    values = _decode(column["data"], rows)
    if len(values) != rows:
        raise ValueError(f"{len(values)} values in {rows} rows")
    mask = column.get("mask")
    if mask and mask.get("data"):  # an empty one says that every value is there
        void = _decode(mask, rows) != 0
        if len(void) != rows:
            raise ValueError(f"mask of {len(void)} for {rows} rows")
        if void.any():
            values = values.astype(np.int64) if values.dtype.kind in "iu" else values.copy()
            values[void] = {"S": b"", "f": np.nan}.get(values.dtype.kind, UNREADABLE)
    return values.astype(np.int64) if values.dtype.kind in "iu" else values


def _decode(data: dict, rows: int) -> np.ndarray:
    values = data["data"]
    for step in reversed(data["encoding"]):
        values = _STEPS[step["kind"]](values, step, rows)
    return values


def _run_length(values: np.ndarray, step: dict, rows: int) -> np.ndarray:
    counts = values[1::2].astype(np.int64)
    # A forged count must not become an array of that size.
    if counts.min(initial=0) < 0 or counts.sum() > rows + 1:
        raise ValueError("run lengths do not fit the number of rows")
    return np.repeat(values[::2], counts)


def _integer_packing(values: np.ndarray, step: dict, rows: int) -> np.ndarray:
    """Numbers beyond the range of a small type are sums of its extremes and a rest."""
    limits = np.iinfo(values.dtype)
    whole = values != limits.max
    if limits.min < 0:
        whole &= values != limits.min
    if whole.all():
        return values.astype(np.int64)
    total = np.cumsum(values, dtype=np.int64)[whole]
    return np.diff(total, prepend=0)


def _string_array(values: bytes, step: dict, rows: int) -> np.ndarray:
    which = _decode({"data": values, "encoding": step["dataEncoding"]}, rows)
    offsets = _decode({"data": step["offsets"], "encoding": step["offsetEncoding"]}, rows).tolist()
    # Neighbours may claim the same text: they are measured before they are cut out.
    check_width(int(np.diff(offsets).max(initial=0)), "text")
    text = step["stringData"]
    words = [text[a:b].encode() for a, b in pairwise(offsets)]
    width = max(map(len, words), default=0)
    return np.array([*words, b""], f"S{max(width, 8)}")[which]  # -1 is the empty text


_STEPS = {
    "ByteArray": lambda values, step, rows: np.frombuffer(values, _TYPES[step["type"]]),
    "FixedPoint": lambda values, step, rows: values / float(step["factor"]),
    "IntervalQuantization": lambda values, step, rows: (
        step["min"] + values * float((step["max"] - step["min"]) / (step["numSteps"] - 1))
    ),
    "RunLength": _run_length,
    "Delta": lambda values, step, rows: np.cumsum(values, dtype=np.int64) + int(step["origin"]),
    "IntegerPacking": _integer_packing,
    "StringArray": _string_array,
}
