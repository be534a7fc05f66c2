"""PDB files, read by columns with numpy: no line is looked at in Python.

Format: wwPDB Contents Guide 3.3, with what is found in the wild: hybrid-36
numbers (Grosse-Kunstleve et al., cctbx), two-character chain ids in columns
21-22, shifted atom names, blank occupancy, lines of any length.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from protok.errors import ChainNotFound, CorruptFile, NoProtein, TruncatedFile
from protok.structure.io.formats.numbers import floats, has_underscore, thousandths
from protok.structure.io.formats.residues import NUCLEOTIDES, THREE, WATER, letter_of
from protok.structure.io.formats.table import OTHER_MODELS, UNREADABLE, Table

_WIDTH = 66  # columns up to the B-factor
_SEGMENT = slice(72, 76)


def _code(text: bytes) -> int:
    return int(np.frombuffer(text, np.uint32)[0])


_ATOM, _HETATM, _MODEL = _code(b"ATOM"), _code(b"HETA"), _code(b"MODE")
_TER, _END = _code(b"TER\0"), _code(b"END\0")
_THREE_BYTES = _code(b"\xff\xff\xff\0")

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
    text = data + b"\n" + b" " * _SEGMENT.stop  # so that a window may begin at any line
    ends = np.frombuffer(text, np.uint8, len(data) + 1) == 10
    if np.count_nonzero(ends) > 2**20 + len(data) // 16:  # each costs a number of 8 bytes and more
        raise CorruptFile("consists of empty lines", "fetch it again")
    breaks = np.flatnonzero(ends)
    starts = np.concatenate(([0], breaks[:-1] + 1))
    record = _windows(text, 4)[starts].view(np.uint32)
    hetero = record == _HETATM
    atomic = hetero | (record == _ATOM)

    notes = []
    cut = _truncation(data, starts, record, atomic)
    if cut:
        if not keep_truncated:
            raise TruncatedFile(cut, "fetch it again, or keep what is there (--keep-truncated)")
        notes.append(f"truncated: {cut}")
        if not data.endswith(b"\n"):
            atomic[-1] = False
    rows, others = _model(record, atomic, model)
    if others:
        notes.append(OTHER_MODELS.format(model))
    hetero = hetero[rows]
    lines, shift = _lines(text, starts[rows], breaks[rows])
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
    closed, first = np.zeros(len(begins), bool), starts[rows[begins]]
    ters = starts[(record & _THREE_BYTES) == _TER]
    if hetero.any():
        closed = _closed(first, chain, ters)

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
        part=np.searchsorted(ters, first),
        segment=_segments(text, first + shift[begins], breaks[rows[begins]]),
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


def _lines(data: bytes, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 66) bytes of the lines, blank beyond their ends, and by how many columns each was shifted.

    Serial numbers over 99,999 push the other columns to the right where a program does not mind them.
    """
    lines = _windows(data, _WIDTH)[starts].view(np.uint8).reshape(len(starts), _WIDTH)
    shift = np.zeros(len(starts), int)
    moved = np.flatnonzero(lines[:, 34] != 46)  # no decimal point where that of x should be
    for more in (1, 2) if len(moved) else ():
        moved = moved[lines[moved, 34] != 46]
        row = moved[(lines[moved, 34 + more] == 46) & (lines[moved, 6 : 11 + more] - 48 < 10).all(axis=1)]
        if len(row):
            shift[row] = more
            lines[row] = _windows(data, _WIDTH)[starts[row] + more].view(np.uint8).reshape(len(row), _WIDTH)
    length = ends - starts - shift
    short = np.flatnonzero(length < _WIDTH)
    if len(short):
        if length.min() < 54:
            line = data.count(b"\n", 0, starts[length.argmin()]) + 1
            raise CorruptFile(f"line {line} ends before its coordinates", "fetch it again")
        lines[short] = np.where(np.arange(_WIDTH) < length[short, None], lines[short], 32)
    return lines, shift


def _segments(text: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(R,) segment ids of CHARMM and NAMD, columns 73 to 76; blank where the line holds something else."""
    width = _SEGMENT.stop - _SEGMENT.start
    columns = _windows(text, width)[starts + _SEGMENT.start].view(np.uint8).reshape(-1, width).copy()
    columns[ends - starts < _SEGMENT.stop] = 32
    if (columns == 32).all():
        return np.zeros(len(starts), "S4")
    return np.char.strip(_text(columns))


def _names(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residue names and chain ids; column 21 may belong to either.

    What the columns 21 and 22 hold is a chain id where a standard residue stands before it that
    column 21 does not turn into another name, and where nothing speaks for a name of four letters:
    that all residues before it are known by such a name, or that column 22 alone is a chain id.
    """
    name, chain = _text(runs[:, 17:20]), _byte(runs[:, 21])
    wide = np.flatnonzero(runs[:, 20] != 32)
    if not len(wide):
        return name, chain
    letters = {b"", *np.unique(chain[runs[:, 20] == 32]).tolist()}
    name, chain = name.astype("S4"), chain.astype("S2")
    texts = [runs[i, 17:22].tobytes() for i in wide.tolist()]
    before: dict[bytes, set[bytes]] = {}
    for text in texts:
        before.setdefault(text[3:], set()).add(text[:3].strip().upper())
    for i, text in zip(wide.tolist(), texts, strict=True):
        names = before[text[3:]]
        fours = {three: _is_name(three + text[3:4].upper()) for three in names}
        solid = any(_word(three) in _STANDARD and not four for three, four in fours.items())
        if solid or not (all(fours.values()) or text[4:].strip() in letters):
            chain[i] = text[3:].strip()
        else:
            name[i] = text[:4]
    return name, chain


_STANDARD = {*THREE, *NUCLEOTIDES, *WATER}


def _word(text: bytes) -> str:
    return text.decode("latin-1")


def _is_name(text: bytes) -> bool:
    return len(text) == 4 and (_word(text) in WATER or bool(letter_of(_word(text))))


def _numbers(text: np.ndarray, icode: np.ndarray) -> np.ndarray:
    """Residue numbers, decimal, hybrid-36 or hexadecimal; five digits reach into the insertion code."""
    try:
        numbers = text.astype(np.int32)
        if has_underscore(text):
            raise ValueError
    except ValueError:
        words = [word.strip() for word in text.tolist()]
        numbers = np.array([_hybrid36(word) for word in words], np.int32)
        letters = np.array([word[:1].isalpha() for word in words])
        if letters.any() and all(_HEXADECIMAL.fullmatch(words[i]) for i in np.flatnonzero(letters)):
            other = numbers.copy()  # OpenMM: A000 is 10,000, and A010 follows A00F
            other[letters] = [int(words[i], 16) - 0xA000 + 10**4 for i in np.flatnonzero(letters).tolist()]
            steps = [np.count_nonzero(np.diff(way) == 1) for way in (numbers, other)]
            numbers = other if steps[1] > steps[0] else numbers
    digit = np.flatnonzero((icode >= b"0") & (icode <= b"9") & (np.abs(numbers) >= 1000))
    for i in digit.tolist():
        numbers[i] = int(f"{numbers[i]}{icode[i].decode()}")
        icode[i] = b""
    return numbers


_HEXADECIMAL = re.compile(rb"[A-F][0-9A-F]{3}")


def _hybrid36(text: bytes) -> int:
    try:
        if len(text) == 4 and text.isalnum() and text[:1].isalpha():
            if text.isupper():
                return int(text, 36) - 10 * 36**3 + 10**4
            if text.islower():
                return int(text, 36) + 16 * 36**3 + 10**4
        return UNREADABLE if b"_" in text else int(text)
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
