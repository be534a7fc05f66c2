"""mmCIF text, read by offsets with numpy: tokens are found, few are ever copied.

A file of whitespace-separated rows (all that the PDB, AlphaFold DB and common
programs write) takes the fast way: token borders of a block of text are where
blank and non-blank bytes meet, and the columns are cut out by offset. Anything
else (text fields, quoted blanks, comments between rows) is read by a full
tokenizer after CIF 1.1, which is some fifty times slower.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from protok.errors import CorruptFile, NoProtein, TruncatedFile
from protok.structure.backbone import WIDEST
from protok.structure.io.formats.atom_site import read_atom_site
from protok.structure.io.formats.numbers import pad_decimals, thousandths
from protok.structure.io.formats.table import Table, check_width

_BLOCK = 2**19  # bytes; small enough to stay in the cache
_BLANKS = np.uint64(0x2020202020202020)
_PREFIX = b"_atom_site."
_RESERVED = (b"data_", b"loop_", b"save_", b"stop_", b"global_")
_AFTER = re.compile(rb"\n[#_;]|\n(?=loop_|data_|save_)")
"""What a line after the rows begins with: a comment, a text field, other data."""
_CLOSED = re.compile(rb"(?:\s|#[^\n]*+)*+(?:_|loop_|data_|save_|\Z)", re.IGNORECASE)
"""What follows if the rows are really over, and not just interrupted."""


class _Irregular(Exception):
    """The rows need the full tokenizer."""


def read_mmcif(data: bytes, model: int, labels: bool, keep_truncated: bool) -> Table:
    """Read one model of an mmCIF file into a table of residues and backbone atoms."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    loop = _find_loop(data)
    try:
        if loop is None:
            raise _Irregular
        table, cut = _read_fast(data, *loop, model, labels)
    except _Irregular:
        table, cut = _read_slow(data, model, labels)
    if cut:
        if not keep_truncated:
            raise TruncatedFile(cut, "fetch it again, or keep what is there (--keep-truncated)")
        table.notes.append(f"truncated: {cut}")
    return table


def _find_loop(data: bytes) -> tuple[list[str], int, int] | None:
    """Return tags of the atom_site loop, where its rows begin, and where they end."""
    at = data.find(_PREFIX)
    while at > 0 and data[at - 1 : at] != b"\n":
        at = data.find(_PREFIX, at + 1)
    if at < 0 or not data[max(at - 64, 0) : at].rstrip().lower().endswith(b"loop_"):
        return None
    tags = []
    while data.startswith(_PREFIX, at):
        end = data.find(b"\n", at)
        words = data[at : end if end >= 0 else len(data)].split()
        if len(words) > 1 or end < 0:
            return None
        tags.append(words[0][len(_PREFIX) :].decode("latin-1").lower())
        at = end + 1
    end = _AFTER.search(data, at - 1)
    stop = end.start() if end else len(data)
    if stop <= at or not _CLOSED.match(data, stop):
        return None
    return tags, at, stop


def _read_fast(
    data: bytes, tags: list[str], first: int, last: int, model: int, labels: bool
) -> tuple[Table, str]:
    loss: list[int] = []
    blocks = _blocks(data + b"\n" + b" " * WIDEST, tags, first, last, loss)
    table = read_atom_site(blocks, model, labels)
    if data.find(b"\n" + _PREFIX, last) >= 0:
        table.notes.append("first data block read, others left out")
    if not loss and last == len(data) and data.count(b"\n#", 0, first) > 2:
        # Allowed, but programs that close their other tables with # close this one too.
        table.notes.append(
            "ends with its atom_site rows, without the # that closes other tables: is it whole?"
        )
    return table, "the last atom_site row is cut" if loss else ""


def _blocks(data: bytes, tags: list[str], first: int, last: int, loss: list[int]) -> Iterator["_Block"]:
    """Yield the rows in stretches of whole lines; tokens left over at the end go to `loss`."""
    buffer = np.frombuffer(data, np.uint8)
    columns = {tag: i for i, tag in enumerate(tags)}
    ends_file = last >= len(data) - WIDEST - 1
    while first < last:
        stop = data.find(b"\n", min(first + _BLOCK, last), last + 1)
        if stop < 0:
            stop = last
        piece = buffer[first - 1 : stop + 1]  # begins and ends with a line break
        solid = piece > 32
        borders = np.flatnonzero(solid[1:] != solid[:-1])
        borders += first
        extra = len(borders) // 2 % len(tags)
        if extra:
            # What is too much may also close the loop, as STAR allows.
            if not ends_file or stop < last or data[first:stop].rstrip()[-5:].lower() == b"stop_":
                raise _Irregular
            loss.append(extra)
            borders = borders[: -2 * extra]
        tokens = borders.reshape(-1, len(tags), 2)
        if len(tokens):
            text = data[first:stop]
            if b"#" in text and (buffer[tokens[:, :, 0]] == 35).any():
                raise _Irregular
            if b"'" in text or b'"' in text:
                _unquote(buffer, tokens)
            yield _Block(data, columns, tokens)
        first = stop + 1


def _unquote(buffer: np.ndarray, tokens: np.ndarray) -> None:
    """Draw the borders of quoted tokens inside their quotes."""
    begin, end = tokens[:, :, 0], tokens[:, :, 1]
    opening = buffer[begin]
    quoted = (opening == 34) | (opening == 39)
    if quoted.any():
        if (buffer[end[quoted] - 1] != opening[quoted]).any() or (end - begin)[quoted].min() < 2:
            raise _Irregular  # there are blanks between the quotes
        begin[quoted] += 1
        end[quoted] -= 1


@dataclass
class _Block:
    """Rows of the loop as token borders (n, columns, 2) into the text."""

    data: bytes
    columns: dict[str, int]
    tokens: np.ndarray

    def __call__(self, tag: str, rows: np.ndarray | None) -> np.ndarray | None:
        column = self.columns.get(tag)
        if column is None:
            return None
        borders = self.tokens[:, column] if rows is None else self.tokens[rows, column]
        begin, end = borders[:, 0], borders[:, 1]
        length = end - begin
        width = int(length.max(initial=0))
        if width > 8:
            check_width(width, tag)
            shape = (len(self.data) - width + 1,)
            windows = np.ndarray(shape, f"V{width}", self.data, strides=(1,))
            text = windows[begin].view(np.uint8).reshape(-1, width)
            text *= np.arange(width) < length[:, None]
            return text.view(f"S{width}")[:, 0]
        words = np.ndarray((len(self.data) - 7,), "<u8", self.data, strides=(1,))
        spare = ((8 - length) * 8).astype(np.uint64)
        if tag.startswith("cartn_"):
            numbers = _numbers(words[end - 8], ~np.uint64(0) << spare)
            if numbers is not None:
                return numbers
        return (words[begin] & ~np.uint64(0) >> spare).view("S8")


def _numbers(words: np.ndarray, kept: np.ndarray) -> np.ndarray | None:
    """Numbers from the eight bytes up to the end of each, None if they are unusual."""
    words = words & kept | _BLANKS & ~kept
    numbers = thousandths(words)
    if numbers is None:
        padded = pad_decimals(words)
        numbers = None if padded is None else thousandths(padded)
    return numbers


_TOKEN = re.compile(
    rb"""
    (?:\A|(?<=\n));(?P<text>.*?)\n;
    | '(?P<single>(?:[^'\n]|'(?=\S)){0,2048}+)'(?=\s|\Z)
    | "(?P<double>(?:[^"\n]|"(?=\S)){0,2048}+)"(?=\s|\Z)
    | (?P<comment>\#[^\n]*)
    | (?P<word>\S+)
    """,
    re.VERBOSE | re.DOTALL,
)


def _read_slow(data: bytes, model: int, labels: bool) -> tuple[Table, str]:
    """Read the first atom_site category by the full grammar."""
    tags, values, ended = _category(data, _PREFIX)
    if not tags:
        raise NoProtein("has no _atom_site category", "give a file with coordinates")
    rows, extra = divmod(len(values), len(tags))
    if extra and not ended:
        raise CorruptFile(
            f"has {len(values)} values in the {len(tags)} columns of _atom_site",
            "fetch it again, or write it anew",
        )
    values = values[: rows * len(tags)]
    places = {tag: i for i, tag in enumerate(tags)}
    columns: dict[str, np.ndarray] = {}

    def column(tag: str, picked: np.ndarray | None) -> np.ndarray | None:
        if tag not in places:
            return None
        if tag not in columns:
            columns[tag] = _array(values[places[tag] :: len(tags)], tag)
        return columns[tag] if picked is None else columns[tag][picked]

    if not rows:
        raise NoProtein("has an empty _atom_site category", "give a file with coordinates")
    table = read_atom_site([column], model, labels)
    return table, "the last atom_site row is cut" if extra else ""


def _array(values: list[bytes], tag: str) -> np.ndarray:
    width = max(map(len, values), default=0)
    check_width(width, tag)
    return np.array(values, f"S{max(8, width)}")


def read_category(data: bytes, name: str) -> dict[str, list[str]]:
    """Columns of the first category of this name, by the full grammar; empty if there is none.

    Raises
    ------
    CorruptFile
        If its values do not fill its columns.
    """
    prefix = name.encode() + b"."
    first = re.search(rb"^[ \t]*" + re.escape(prefix), data, re.MULTILINE | re.IGNORECASE)
    if first is None:
        return {}
    head = data[: first.start()].rstrip()
    at = len(head) - 5 if head[-5:].lower() == b"loop_" else first.start()
    tags, values, _ = _category(data[at:], prefix)
    if len(values) % len(tags):
        raise CorruptFile(f"has {len(values)} values in the {len(tags)} columns of {name}", "fetch it again")
    text = [value.decode("utf-8", "replace") for value in values]
    return {tag: text[i :: len(tags)] for i, tag in enumerate(tags)}


def _category(data: bytes, prefix: bytes) -> tuple[list[str], list[bytes], bool]:
    """Return tags and values of the category, and whether the file ends with them."""
    tags: list[str] = []
    values: list[bytes] = []
    header = loop = ours = False  # in the head of a loop, in a loop, in our category
    for match in _TOKEN.finditer(data):
        kind = match.lastgroup
        assert kind is not None  # every alternative has a name
        if kind == "comment":
            continue
        value = match[kind]
        word = value.lower() if kind == "word" else b""
        if word.startswith(_RESERVED):
            if values:
                return tags, values, False
            header = loop = word == b"loop_"
            ours = False
        elif word.startswith(b"_"):
            ours = word.startswith(prefix)
            if not header:
                if values and (loop or not ours):
                    return tags, values, False
                loop = False  # its rows are over: a tag with its one value
            if ours:
                tags.append(word[len(prefix) :].decode("latin-1"))
        else:
            header = False
            if ours:
                values.append(value)
                ours = loop
    return tags, values, True
