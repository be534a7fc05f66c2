"""CSV: one row a residue."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from protok.common.arrays import AGAIN
from protok.errors import CorruptFile, FormatError
from protok.tokens.environment import CODEBOOK, LETTERS, SIZE
from protok.tokens.keyframes import LINK
from protok.tokens.parts import from_columns
from protok.tokens.tokens import LONGEST, WIDEST, Tokens, record

CSV = ("name", "chain", "index", "icode", "residue", "token", "codebook", "size", "alphabet", "length")
#: Of tokens with keyframes or environments: the code of a keyframe where there is one (-1 at the first of a
#: run), where a run begins its link (- for none), the letter of the environment, and what all residues of a
#: chain share.
PARTS = ("keyframe", "run", "environment", "spacing", "motions", "hangs_on", SIZE, CODEBOOK)
#: Characters of a row.
ROW = 1 << 20


def write_csv(chains: Iterable[Tokens], handle) -> None:
    chains = iter(chains)
    first = next(chains, None)
    more = first is not None and _has_parts(first)
    with io.TextIOWrapper(handle, encoding="utf-8", newline="") as text:
        out = csv.writer(text, lineterminator="\n")
        out.writerow(CSV + PARTS * more)
        for chain in chains if first is None else itertools.chain([first], chains):
            if _has_parts(chain) and not more:
                cause = "keyframes or environments after a chain that has none"
                raise FormatError(cause, "write .parquet or .npz")
            end = [chain.codebook, chain.size, chain.alphabet, len(chain)]
            columns = [chain.index.tolist(), chain.icode.tolist(), chain.sequence, chain.ids.tolist()]
            rows = ([chain.name, chain.chain[0], *residue, *end] for residue in zip(*columns, strict=True))
            if more:
                rows = ([*row, *cells] for row, cells in zip(rows, _cells(chain), strict=True))
            out.writerows(rows)


def _has_parts(chain: Tokens) -> bool:
    return chain.keyframes is not None or chain.environment is not None


def _cells(chain: Tokens) -> Iterator[list]:
    """The cells of `PARTS` of each residue."""
    frames, around = chain.keyframes, chain.environment
    codes, links, ends = {}, {}, [0, 0, ""]
    if frames is not None:
        codes = dict(zip(frames.place.tolist(), frames.code.tolist(), strict=True))
        links = {
            start: ".".join(map(str, link)) if link[0] >= 0 else "-"
            for start, link in zip(frames.start.tolist(), frames.link.tolist(), strict=True)
        }
        ends = [frames.spacing, frames.size, frames.hangs_on]
    ends += [0, ""] if around is None else [around.size, around.codebook]
    letters = [""] * len(chain) if around is None else around.ids.tolist()
    for i, letter in enumerate(letters):
        yield [codes.get(i, ""), links.get(i, ""), letter, *ends]


def read_csv(handle, path: str) -> Iterator[Tokens]:
    with io.TextIOWrapper(handle, encoding="utf-8-sig", newline="") as text:
        lines = _Lines(text, path)
        rows = csv.reader(lines)
        try:
            yield from _csv_chains(rows, lines, path)
        except csv.Error as error:
            raise CorruptFile(f"line {rows.line_num}: {error}", AGAIN, file=path) from error


class _Lines:
    """Lines of a text; those of a row are bounded together, as quotes may hold line breaks."""

    def __init__(self, text: io.TextIOWrapper, path: str):
        self._text, self._path = text, path
        self.held = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(ROW):
            self.held += len(line)
            if self.held >= ROW:
                raise CorruptFile(f"a row of more than {ROW} characters", AGAIN, file=self._path)
            yield line


def _csv_chains(rows, lines: _Lines, path: str) -> Iterator[Tokens]:
    header = next(rows, [])
    known = CSV if {*PARTS}.isdisjoint(header) else CSV + PARTS
    missing = [column for column in known if column not in header]
    if missing:
        raise CorruptFile(f"has no column {missing[0]!r}", "write it with protok", file=path)
    place = [header.index(column) for column in known]
    common: tuple = ()
    held: list[tuple] = []
    for row in rows:
        lines.held = 0
        if not row:
            continue
        if len(row) != len(header):
            raise CorruptFile(
                f"line {rows.line_num} has {len(row)} of {len(header)} fields", AGAIN, file=path
            )
        fields = tuple(row[i] for i in place)
        # What all residues of a chain share is kept once.
        shared, own = fields[:2] + fields[6:10] + fields[13:], fields[2:6] + fields[10:13]
        if len(held) == LONGEST or max(map(len, own)) > WIDEST:
            raise CorruptFile(
                f"line {rows.line_num}: a field of more than {WIDEST} characters, "
                f"or a chain of more than {LONGEST} residues",
                AGAIN,
                file=path,
            )
        common = common if held else shared
        if shared != common:
            break
        held.append(own)
        if str(len(held)) == common[5]:
            yield _csv_chain(common, held, path)
            held = []
    if held:
        raise CorruptFile(
            f"has {len(held)} of {common[5]} residues", AGAIN, file=path, chain="_".join(common[:2])
        )


def _csv_chain(common: tuple, rows: list[tuple], path: str) -> Tokens:
    name, chain, codebook, size, alphabet, _, *ends = common
    index, icode, residues, ids, *cells = zip(*rows, strict=True)
    try:
        numbers = {"ids": list(map(int, ids)), "index": list(map(int, index)), "size": int(size)}
    except ValueError as error:
        raise CorruptFile(str(error), AGAIN, file=path, chain=f"{name}_{chain}") from error
    texts = {"sequence": "".join(residues), "icode": icode, "codebook": codebook, "alphabet": alphabet}
    parts = partial(_parts, *cells, *ends) if ends else None
    return record(path, name, chain, parts, **numbers, **texts)


def _parts(
    codes: tuple,
    links: tuple,
    letters: tuple,
    spacing: str,
    motions: str,
    hangs_on: str,
    size: str,
    book: str,
) -> dict[str, Any]:
    """Keyframes and environments of a chain from its cells."""
    place = [i for i, code in enumerate(codes) if code]
    start = [i for i, link in enumerate(links) if link]
    link = [[-1] * LINK if links[i] == "-" else [int(c) for c in links[i].split(".")] for i in start]
    columns = {
        "keyframe_place": np.array(place, np.int64),
        "keyframe": np.array([int(codes[i]) for i in place], np.int64),
        "run_start": np.array(start, np.int64),
        "link": np.array([code for row in link for code in row], np.int64),
        LETTERS: np.array([int(letter) for letter in letters if letter], np.int64),
    }
    ends = {"spacing": int(spacing), "motions": int(motions), "hangs_on": hangs_on}
    return from_columns(columns | ends | {SIZE: int(size), CODEBOOK: book})
