"""The atom_site category, text or binary, into a table of residues and backbone atoms."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable

import numpy as np

from protok.errors import ChainNotFound, CorruptFile, NoProtein
from protok.structure.backbone import WIDEST_ICODE
from protok.structure.io.formats.numbers import floats, has_underscore
from protok.structure.io.formats.residues import WATER
from protok.structure.io.formats.table import OTHER_MODELS, UNREADABLE, Table, check_width

Column = Callable[[str, np.ndarray | None], np.ndarray | None]
"""Gives the values of one item (lower-case tag) in the rows asked for, None if
the file lacks it: text as bytes arrays with `.` and `?` as they are, or numbers
with `UNREADABLE` or NaN where there is no value."""

# Names and numbers of a residue; which of them a file has differs.
_RESIDUE = (
    "auth_seq_id label_seq_id label_comp_id auth_comp_id auth_asym_id label_asym_id pdbx_pdb_ins_code"
).split()
_ATOM = ("label_alt_id", "occupancy", "b_iso_or_equiv")
_WATER = {name.encode() for name in WATER}
_SLOTS = (b"N", b"CA", b"C", b"O")


def read_atom_site(blocks: Iterable[Column], model: int, labels: bool) -> Table:
    """Build the table of one model from the blocks of rows of an atom_site category.

    Parameters
    ----------
    blocks
        Accessors to stretches of the category, in order.
    labels
        Whether the chain id is `label_asym_id` rather than `auth_asym_id`.
    """
    models: list = []
    parts: list[dict[str, np.ndarray]] = []
    count = 0
    informed = None  # whether label_seq_id says what is polymer
    others = False
    for column in blocks:
        _check_rows(column)
        rows = _model_rows(column, model, models)
        if rows is not None and not len(rows):
            if len(models) > model:
                others = True
                break  # models follow each other: the rest is of no interest
            continue
        part, informed = _rows(column, rows, informed)
        part["residue"] += count
        count += len(part["hetero"])
        parts.append(part)
    count = max(len(models), 1)
    if not 1 <= model <= count:
        some = f"{count} model{'s' if count > 1 else ''}"
        raise ChainNotFound(f"has {some}, no model {model}", "choose one that it has")
    if not parts:
        raise NoProtein("holds no atoms", "give a file with coordinates")
    whole = {tag: np.concatenate([part[tag] for part in parts]) for tag in parts[0]}
    table = _table(whole, labels)
    if others or len(models) > 1:
        table.notes.append(OTHER_MODELS.format(model))
    return table


def _check_rows(column: Column) -> None:
    """Refuse rows that begin with anything but the name of a record: a value is missing, or one too many."""
    group = column("group_pdb", None)
    if group is not None:
        strange = ~(_is(group, b"ATOM") | _is(group, b"HETATM") | _null(group))
        if strange.any():
            word = group[strange.argmax()].decode("latin-1")
            raise CorruptFile(
                f"rows of _atom_site do not fit its columns: {word!r} stands where ATOM should",
                "write it anew, with a value or ? in each column",
            )


def _model_rows(column: Column, model: int, models: list) -> np.ndarray | None:
    """Rows of the block that are of the model, None for all; `models` collects the ids."""
    number = column("pdbx_pdb_model_num", None)
    if number is None:
        return None
    turns = np.flatnonzero(number[1:] != number[:-1]) + 1
    for value in number[np.concatenate(([0], turns)).astype(int)].tolist():
        if value not in models:
            models.append(value)
    if len(models) < model:
        return np.empty(0, int)
    if not len(turns) and models[model - 1] == number[0]:
        return None
    return np.flatnonzero(number == models[model - 1])


def _rows(
    column: Column, rows: np.ndarray | None, informed: bool | None
) -> tuple[dict[str, np.ndarray], bool | None]:
    """Columns of the residue rows of a block, and of its backbone atoms, where the file has them."""
    group = column("group_pdb", rows)
    atom = column("label_atom_id", rows)
    if atom is None:
        atom = column("auth_atom_id", rows)
    if atom is None:
        raise CorruptFile("has no atom names in _atom_site", "write it with label_atom_id")
    hetero = np.zeros(len(atom), bool) if group is None else _is(group, b"HETATM")
    seq = column("label_seq_id", rows)
    if seq is not None:
        empty = _null(seq)
        if informed is None:
            informed = not empty.all()
        if informed:
            # Ligands and water, often half of the file, end here.
            use = np.flatnonzero(~(hetero & empty))
            if len(use) < len(atom):
                rows = use if rows is None else rows[use]
                atom, hetero = atom[use], hetero[use]
    slot = np.full(len(atom), -1, np.int8)
    for place, name in enumerate(_SLOTS):
        slot[_is(atom, name)] = place
    backbone = np.flatnonzero(slot >= 0)
    atoms = backbone if rows is None else rows[backbone]
    part = {"hetero": hetero, "residue": backbone, "slot": slot[backbone]}
    for tags, places in ((_RESIDUE, rows), (_ATOM, atoms)):
        part |= {tag: values for tag in tags if (values := column(tag, places)) is not None}
    for axis in "xyz":
        values = column(f"cartn_{axis}", atoms)
        if values is None:
            raise NoProtein(
                "has no Cartesian coordinates in _atom_site", "a small-molecule CIF is no protein"
            )
        part[axis] = floats(values, np.nan, "coordinate")
    return part, informed


def _comparable(values: np.ndarray) -> np.ndarray:
    """Short text as integers, which compare ten times faster."""
    short = values.dtype.kind == "S" and values.dtype.itemsize == 8
    return values.view(np.uint64) if short else values


def _is(values: np.ndarray, word: bytes) -> np.ndarray:
    return _comparable(values) == _comparable(np.array([word], values.dtype))[0]


def _null(values: np.ndarray) -> np.ndarray:
    """(n,) bool: there is no value."""
    if values.dtype.kind == "S":
        return _is(values, b".") | _is(values, b"?") | _is(values, b"")
    return values == UNREADABLE


def _text(run: dict[str, np.ndarray], *tags: str) -> np.ndarray | None:
    """The first of the columns that there is, its gaps filled from the next; "" for none."""
    columns = [run[tag] for tag in tags if tag in run]
    if not columns:
        return None
    values, *others = (
        column if column.dtype.kind == "S" else np.where(_null(column), b"", column.astype("S"))
        for column in columns
    )
    for more in others:
        values = np.where(_null(values), more, values)
    return np.where(_null(values), b"", values)


def _integers(values: np.ndarray | None, count: int) -> np.ndarray:
    """Numbers of a column, `UNREADABLE` where there are none."""
    if values is None:
        return np.full(count, UNREADABLE, np.int64)
    if values.dtype.kind == "i":
        return values.astype(np.int64)
    numbers = np.full(count, UNREADABLE, np.int64)
    filled = np.flatnonzero(~_null(values))
    if not has_underscore(values):
        with contextlib.suppress(ValueError, OverflowError):
            numbers[filled] = values[filled].astype(np.int32)
            return numbers
    numbers[filled] = [_integer(item) for item in values[filled].tolist()]
    return numbers


def _integer(text: bytes) -> int:
    try:
        value = int(text.replace(b"_", b"?"))
    except (ValueError, TypeError):
        return UNREADABLE
    return value if abs(value) < 2**31 else UNREADABLE


def _numbers(
    text: np.ndarray, number: np.ndarray, seq: np.ndarray, icode: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Author numbers, those of the sequence where there are none, and insertion codes written behind them."""
    number = np.where(_null(text), seq, number)
    if text.dtype.kind == "S":
        icode = icode.copy()
        for i in np.flatnonzero((number == UNREADABLE) & ~_null(text)).tolist():
            if (parts := _WITH_CODE.fullmatch(text[i])) and not icode[i]:
                number[i], icode[i] = _integer(parts[1]), parts[2]
    return number, icode


_WITH_CODE = re.compile(rb"(-?\d+)([A-Za-z])")


def _table(part: dict[str, np.ndarray], labels: bool) -> Table:
    fresh = np.zeros(len(part["hetero"]), bool)
    fresh[:1] = True
    tags = [tag for tag in _RESIDUE if tag in part]
    for tag in tags:
        values = _comparable(part[tag])
        fresh[1:] |= values[1:] != values[:-1]
    begins = np.flatnonzero(fresh)
    count = len(begins)
    run = {tag: part[tag][begins] for tag in tags}
    hetero = part["hetero"][begins]
    name = _text(run, "label_comp_id", "auth_comp_id")
    author = _text(run, "auth_asym_id", "label_asym_id")
    label = _text(run, "label_asym_id", "auth_asym_id")
    icode = _text(run, "pdbx_pdb_ins_code")
    seq = _integers(run.get("label_seq_id"), count)
    number = _integers(run.get("auth_seq_id"), count)
    if icode is None:
        icode = np.zeros(count, "S8")
    check_width(icode.dtype.itemsize, "insertion code", WIDEST_ICODE)
    if "auth_seq_id" in run:
        number, icode = _numbers(run["auth_seq_id"], number, seq, icode)
    else:
        number = seq
    if name is None or author is None or label is None:
        raise CorruptFile("lacks residue names or chains in _atom_site", "write it with both")

    placed = seq != UNREADABLE
    if not _WATER.isdisjoint(np.where(placed, name, b"").tolist()):
        # PyMOL and others number everything: then it says nothing of polymers.
        placed[:] = False
    polymer = np.where(placed, 1, np.where(hetero & placed.any(), 0, -1)).astype(np.int8)
    key = np.zeros(count, np.uint64)
    for values in (author, label, icode, seq, number):
        key = _mix(key, values)
    atoms = len(part["residue"])
    alt = _text(part, "label_alt_id")
    return Table(
        name=name,
        chain=label if labels else author,
        icode=icode,
        number=number.astype(np.int32),
        key=key,
        hetero=hetero,
        polymer=polymer,
        closed=np.zeros(count, bool),
        part=np.zeros(count, int),
        segment=label,
        residue=np.cumsum(fresh)[part["residue"]] - 1,
        slot=part["slot"],
        alt=np.zeros(atoms, "S8") if alt is None else alt,
        occupancy=part.get("occupancy", np.ones(atoms)),
        bfactor=part.get("b_iso_or_equiv", np.full(atoms, np.nan)),
        xyz=np.stack([part[axis] for axis in "xyz"], axis=1),
    )


def _mix(key: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A hash of both; a collision would need billions of residues."""
    values = _comparable(values)
    if values.dtype.kind == "S":
        values = np.unique(values, return_inverse=True)[1]
    return (key ^ values.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
