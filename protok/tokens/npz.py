"""npz: the arrays of all chains together."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from protok.common.arrays import AGAIN, read_arrays, write_arrays
from protok.errors import CorruptFile
from protok.tokens.parts import LISTS, NUMBERS, TEXTS, columns_of, from_columns
from protok.tokens.tokens import Tokens, check_ends, record

# Arrays with an entry a residue, and with one a chain: the kind of each.
RESIDUES = {"ids": "i", "index": "i", "sequence": "S", "icode": "U"}
CHAINS = {"length": "i", "name": "U", "chain": "U", "codebook": "U", "size": "i", "alphabet": "U"}


#: Arrays of parts: lists of numbers and how many each chain has of them, and what there is one of.
PARTS = dict.fromkeys((*LISTS, *(f"{key}_count" for key in LISTS), *NUMBERS), "i")
PARTS |= dict.fromkeys(TEXTS, "U")


def is_token_npz(path: str | Path) -> bool:
    """Whether an npz file has the arrays of tokens, by their names."""
    try:
        with zipfile.ZipFile(path) as file:
            return {f"{key}.npy" for key in (*CHAINS, *RESIDUES)} <= set(file.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def write_npz(chains: Iterable[Tokens], handle) -> None:
    chains = list(chains)
    columns = {
        "length": np.array([len(chain) for chain in chains], np.int64),
        "size": np.array([chain.size for chain in chains], np.int32),
        "sequence": np.array([*"".join(chain.sequence for chain in chains)], "S1"),
        "chain": np.array([chain.chain[0] for chain in chains], str),
    }
    for key, kind in (("ids", np.int32), ("index", np.int32), ("icode", str)):
        columns[key] = np.concatenate([np.array([], kind), *(getattr(chain, key) for chain in chains)])
    for key in ("name", "codebook", "alphabet"):
        columns[key] = np.array([getattr(chain, key) for chain in chains], str)
    if any(chain.keyframes is not None or chain.environment is not None for chain in chains):
        parts = [columns_of(chain) for chain in chains]
        for key in LISTS:
            columns[key] = np.concatenate([row[key] for row in parts])
            columns[f"{key}_count"] = np.array([len(row[key]) for row in parts], np.int64)
        for keys, kind in ((NUMBERS, np.int32), (TEXTS, str)):
            columns |= {key: np.array([row[key] for row in parts], kind) for key in keys}
    write_arrays(handle, **columns)


def read_npz(handle, path: str) -> Iterator[Tokens]:
    check_ends(handle, path, "npz", b"PK", lambda tail: b"PK\x05\x06" in tail)
    kinds = CHAINS | RESIDUES
    try:
        columns = read_arrays(handle, [*kinds, *PARTS])
    except Exception as error:  # numpy raises a dozen kinds on damaged bytes
        raise CorruptFile(f"npz cannot be read ({error})", AGAIN, file=path) from error
    for key, kind in kinds.items():
        if key not in columns:
            raise CorruptFile(f"has no array {key!r}", "write it with protok", file=path)
        array = columns[key]
        if key == "length":
            expected = array.size
            bounds = np.cumsum([0, *array.ravel().tolist()]) if array.dtype.kind == "i" else []
        else:
            expected = bounds[-1] if key in RESIDUES else len(bounds) - 1
        if array.dtype.kind != kind or array.shape != (expected,) or (np.diff(bounds) < 0).any():
            raise CorruptFile(
                f"array {key!r} of {array.dtype} {array.shape} should hold {expected} entries",
                AGAIN,
                file=path,
            )
    parts = _parts(columns, len(bounds) - 1, path)
    for row, (start, stop) in enumerate(pairwise(bounds)):
        texts = {key: str(columns[key][row]) for key in ("name", "chain", "codebook", "alphabet")}
        yield record(
            path,
            parts=parts and partial(from_columns, parts(row)),
            size=int(columns["size"][row]),
            ids=columns["ids"][start:stop],
            index=columns["index"][start:stop],
            icode=columns["icode"][start:stop],
            sequence=columns["sequence"][start:stop].tobytes().decode("latin-1"),
            **texts,
        )


def _parts(columns: dict[str, np.ndarray], chains: int, path: str) -> Callable[[int], dict[str, Any]] | None:
    """What makes the columns of parts of a chain by its number; None where the file has none."""
    if columns.keys().isdisjoint(PARTS):
        return None
    bounds = {}
    for key, kind in PARTS.items():
        if key not in columns:
            raise CorruptFile(f"has no array {key!r}", "write it with protok", file=path)
        array = columns[key]
        if array.dtype.kind != kind or array.ndim != 1 or (key not in LISTS and len(array) != chains):
            cause = f"array {key!r} of {array.dtype} {array.shape} should hold {chains} entries"
            raise CorruptFile(cause, AGAIN, file=path)
    for key in LISTS:
        count = columns[f"{key}_count"]
        if (count < 0).any() or sum(count.tolist()) != len(columns[key]):
            raise CorruptFile(f"array {key!r} should hold {sum(count.tolist())} entries", AGAIN, file=path)
        bounds[key] = np.concatenate([[0], np.cumsum(count)])

    def row(i: int) -> dict[str, Any]:
        lists = {key: columns[key][bounds[key][i] : bounds[key][i + 1]] for key in LISTS}
        numbers = {key: int(columns[key][i]) for key in NUMBERS}
        return lists | numbers | {key: str(columns[key][i]) for key in TEXTS}

    return row
