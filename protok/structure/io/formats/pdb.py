"""PDB files, read by columns with numpy: no line is looked at in Python.

Format: wwPDB Contents Guide 3.3, with what is found in the wild: hybrid-36
numbers (Grosse-Kunstleve et al., cctbx), two-character chain ids in columns
21-22, shifted atom names, blank occupancy, lines of any length.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from protok.errors import ChainNotFound, CorruptFile, NoProtein, TruncatedFile
from protok.structure.io.formats.numbers import floats, thousandths
from protok.structure.io.formats.residues import FORCE_FIELD, WATER
from protok.structure.io.formats.table import UNREADABLE, Table

_WIDTH = 66  # columns up to the B-factor


def _code(text: bytes) -> int:
    return int(np.frombuffer(text, np.uint32)[0])


_ATOM, _HETATM, _MODEL = _code(b"ATOM"), _code(b"HETA"), _code(b"MODE")
_TER, _END = _code(b"TER\0"), _code(b"END\0")
_THREE_BYTES = _code(b"\xff\xff\xff\0")
_FOUR_LETTER = {name.encode() for name in {*FORCE_FIELD, *WATER} if len(name) == 4}

# Every place a backbone atom's name may take in its four columns.
_NAMES = {
    _code(b" " * left + name + b" " * (4 - left - len(name))): slot
    for slot, names in enumerate(((b"N", b"n"), (b"CA", b"ca"), (b"C", b"c"), (b"O", b"o", b"OT1")))
    for name in names
    for left in range(5 - len(name))
}
_NAME_CODES = np.array(sorted(_NAMES), np.uint32)
_NAME_SLOTS = np.array([_NAMES[code] for code in sorted(_NAMES)], np.int8)


def read_pdb(data: bytes, model: int, keep_truncated: bool) -> Table:
    """Read one model of a PDB file into a table of residues and backbone atoms."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if data.count(b"\n") > 2**20 + len(data) // 16:  # each costs a number of 8 bytes and more
        raise CorruptFile("consists of empty lines", "fetch it again")
    text = data + b"\n" + b" " * _WIDTH  # so that a window may begin at any line
    breaks = np.flatnonzero(np.frombuffer(text, np.uint8, len(data) + 1) == 10)
    starts = np.concatenate(([0], breaks[:-1] + 1))
    record = _windows(text, 4)[starts].view(np.uint32)
    hetero = record == _HETATM
    atomic = hetero | (record == _ATOM)

    notes = []
    cut = _truncation(data, starts, record, atomic)
    if cut:
        if not keep_truncated:
            raise TruncatedFile(cut, "fetch it again, or read it with truncated='keep'")
        notes.append(f"truncated: {cut}")
        if not data.endswith(b"\n"):
            atomic[-1] = False
    rows, others = _model(record, atomic, model)
    if others:
        notes.append(f"model {model} read, others left out")
    hetero = hetero[rows]
    lines = _lines(text, starts[rows], breaks[rows])
    if b"\t" in data and (lines == 9).any():
        raise CorruptFile("has tabs in its ATOM lines", "put back the blanks that they stand for")
    code = np.ascontiguousarray(lines[:, 12:16]).view(np.uint32)[:, 0]
    hits = np.searchsorted(_NAME_CODES, code)
    hits[hits == len(_NAME_CODES)] = 0
    atoms = np.flatnonzero(_NAME_CODES[hits] == code)

    position = np.ascontiguousarray(lines[:, 19:27]).view(np.uint64)[:, 0]
    head = np.ascontiguousarray(lines[:, 17:19]).view(np.uint16)[:, 0]
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (position[1:] != position[:-1]) | (head[1:] != head[:-1])
    begins = np.flatnonzero(fresh)
    runs = lines[begins]
    hetero = hetero[begins]
    name, chain = _names(runs)
    icode = _byte(runs[:, 26])
    closed = np.zeros(len(begins), bool)
    if hetero.any():
        ters = starts[(record & _THREE_BYTES) == _TER]
        closed = _closed(starts[rows[begins]], chain, ters)

    numbers = lines[atoms, 27:]
    return Table(
        name=name,
        chain=chain,
        icode=icode,
        number=_numbers(_text(runs[:, 22:26]), icode),
        key=_text(runs[:, 20:27]),
        hetero=hetero,
        polymer=np.full(len(begins), -1, np.int8),
        closed=closed,
        residue=np.cumsum(fresh)[atoms] - 1,
        slot=_NAME_SLOTS[hits[atoms]],
        alt=_byte(lines[atoms, 16]),
        occupancy=_text(numbers[:, 27:33]),
        bfactor=_text(numbers[:, 33:39]),
        xyz=_coordinates(numbers[:, :27], lambda i: text.count(b"\n", 0, starts[rows[atoms[i]]])),
        notes=notes,
    )


def _windows(data: bytes, width: int) -> np.ndarray:
    """View of all substrings of `width` bytes, by their first position."""
    return np.ndarray((len(data) - width + 1,), f"V{width}", data, strides=(1,))


def _text(columns: np.ndarray) -> np.ndarray:
    """(n, w) bytes as (n,) strings."""
    return np.ascontiguousarray(columns).view(f"S{columns.shape[1]}")[:, 0]


def _byte(column: np.ndarray) -> np.ndarray:
    """(n,) bytes as (n,) one-letter strings, empty for blank."""
    return np.where(column == 32, np.uint8(0), column).view("S1")


def _lines(data: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(n, 66) bytes of the lines, blank beyond their ends."""
    lines = _windows(data, _WIDTH)[starts].view(np.uint8).reshape(len(starts), _WIDTH)
    length = ends - starts
    short = np.flatnonzero(length < _WIDTH)
    if len(short):
        if length.min() < 54:
            line = data.count(b"\n", 0, starts[length.argmin()]) + 1
            raise CorruptFile(f"line {line} ends before its coordinates", "fetch it again")
        lines[short] = np.where(np.arange(_WIDTH) < length[short, None], lines[short], 32)
    return lines


def _names(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residue names and chain ids; column 21 may belong to either."""
    name, chain = _text(runs[:, 17:20]), _byte(runs[:, 21])
    wide = np.flatnonzero(runs[:, 20] != 32)
    if len(wide):
        name, chain = name.astype("S4"), chain.astype("S2")
        for i in wide.tolist():
            text = runs[i, 17:22].tobytes()
            if text[:4].upper() in _FOUR_LETTER:
                name[i] = text[:4]
            else:
                chain[i] = text[3:].strip()
    return name, chain


def _numbers(text: np.ndarray, icode: np.ndarray) -> np.ndarray:
    """Residue numbers, decimal or hybrid-36; five digits reach into the insertion code."""
    try:
        numbers = text.astype(np.int32)
    except ValueError:
        numbers = np.array([_hybrid36(item.strip()) for item in text.tolist()], np.int32)
    digit = np.flatnonzero((icode >= b"0") & (icode <= b"9") & (np.abs(numbers) >= 1000))
    for i in digit.tolist():
        numbers[i] = int(f"{numbers[i]}{icode[i].decode()}")
        icode[i] = b""
    return numbers


def _hybrid36(text: bytes) -> int:
    try:
        if len(text) == 4 and text.isalnum() and text[:1].isalpha():
            if text.isupper():
                return int(text, 36) - 10 * 36**3 + 10**4
            if text.islower():
                return int(text, 36) + 16 * 36**3 + 10**4
        return int(text)
    except ValueError:
        return UNREADABLE


def _closed(begins: np.ndarray, chain: np.ndarray, ters: np.ndarray) -> np.ndarray:
    """(R,) bool: the next TER ends the chain that the residue belongs to."""
    closed = np.zeros(len(begins), bool)
    following = np.searchsorted(ters, begins)
    before = following < len(ters)
    last = np.searchsorted(begins, ters) - 1
    closed[before] = chain[before] == chain[last[following[before]]]
    return closed


def _coordinates(columns: np.ndarray, breaks_before: Callable[[int], int]) -> np.ndarray:
    """Columns 28 to 54, (n, 27) bytes, to (n, 3) numbers.

    Numbers end with their field, and nothing stands before the first: what
    differs has slipped by some columns, and its other columns mean nothing.
    """
    fields = np.ascontiguousarray(columns[:, 3:])
    slipped = (columns[:, :3] != 32).any(axis=1)
    xyz = thousandths(fields.view("<u8").ravel())
    if xyz is None:
        fields = fields.reshape(-1, 3, 8)
        slipped |= ((fields[:, :, 7] == 32) & (fields != 32).any(axis=2)).any(axis=1)
    if slipped.any():
        raise CorruptFile(
            f"the columns of line {breaks_before(slipped.argmax()) + 1} have slipped",
            "write it with fixed columns, or as mmCIF",
        )
    if xyz is None:
        return floats(fields.view("S8")[:, :, 0], np.nan, "coordinate")
    return xyz.reshape(-1, 3)


def _model(record: np.ndarray, atomic: np.ndarray, model: int) -> tuple[np.ndarray, bool]:
    """Return the atom lines of the model, and whether there are other models.

    Models are what lies between MODEL, ENDMDL and END records, if it has atoms.
    """
    rows = np.flatnonzero(atomic)
    if not len(rows):
        raise NoProtein("holds no ATOM record", "give a file with coordinates")
    three = record & _THREE_BYTES
    cuts = np.flatnonzero((record == _MODEL) | (three == _END))
    bounds = np.unique(np.concatenate(([0], np.searchsorted(rows, cuts), [len(rows)])))
    count = len(bounds) - 1
    if not 1 <= model <= count:
        some = f"{count} model{'s' if count > 1 else ''}"
        raise ChainNotFound(f"has {some}, no model {model}", "choose one that it has")
    return rows[bounds[model - 1] : bounds[model]], count > 1


def _truncation(data: bytes, starts: np.ndarray, record: np.ndarray, atomic: np.ndarray) -> str:
    """Say how the file shows that it was cut, empty if it does not."""
    if not data.endswith(b"\n"):
        last = data[starts[-1] :].rstrip()
        before = data[starts[-2] : starts[-1]].rstrip() if len(starts) > 1 else b""
        if atomic[-1]:
            # Up to the element: a charge may make the line before longer.
            if len(last) < (min(len(before), 78) if atomic[-2:-1].any() else 54):
                return "the last line is cut"
        elif last and (b"ATOM  ".startswith(last) or b"HETATM".startswith(last)):
            return "the last line is cut"
    three = record & _THREE_BYTES
    if not (three == _END).any() and data.find(b"COMPLIES WITH FORMAT V", 0, 2**16) >= 0:
        chains = np.flatnonzero((record == _ATOM) | (three == _TER))
        if len(chains) and record[chains[-1]] == _ATOM:
            return "a file of the PDB without END, and its last chain without TER"
    return ""
