"""CSV: one row a residue."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from protok.common.arrays import AGAIN
from protok.errors import CorruptFile
from protok.tokens.tokens import LONGEST, WIDEST, Tokens, record

CSV = ("name", "chain", "index", "icode", "residue", "token", "codebook", "size", "alphabet", "length")
#: Characters of a row.
ROW = 1 << 20


def write_csv(chains: Iterable[Tokens], handle) -> None:
    with io.TextIOWrapper(handle, encoding="utf-8", newline="") as text:
        out = csv.writer(text, lineterminator="\n")
        out.writerow(CSV)
        for chain in chains:
            end = [chain.codebook, chain.size, chain.alphabet, len(chain)]
            residues = zip(
                chain.index.tolist(), chain.icode.tolist(), chain.sequence, chain.ids.tolist(), strict=True
            )
            out.writerows([chain.name, chain.chain[0], *residue, *end] for residue in residues)


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
    missing = [column for column in CSV if column not in header]
    if missing:
        raise CorruptFile(f"has no column {missing[0]!r}", "write it with protok", file=path)
    place = [header.index(column) for column in CSV]
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
        shared, own = fields[:2] + fields[6:], fields[2:6]
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
        if str(len(held)) == common[-1]:
            yield _csv_chain(common, held, path)
            held = []
    if held:
        raise CorruptFile(
            f"has {len(held)} of {common[-1]} residues", AGAIN, file=path, chain="_".join(common[:2])
        )


def _csv_chain(common: tuple, rows: list[tuple], path: str) -> Tokens:
    name, chain, codebook, size, alphabet, _ = common
    index, icode, residues, ids = zip(*rows, strict=True)
    try:
        numbers = {"ids": list(map(int, ids)), "index": list(map(int, index)), "size": int(size)}
    except ValueError as error:
        raise CorruptFile(str(error), AGAIN, file=path, chain=f"{name}_{chain}") from error
    texts = {"sequence": "".join(residues), "icode": icode, "codebook": codebook, "alphabet": alphabet}
    return record(path, name, chain, **numbers, **texts)
