"""CSV: one row a residue."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from protok.errors import CorruptFile
from protok.tokens.tokens import AGAIN, LONGEST, Tokens, record

CSV = ("name", "chain", "index", "icode", "residue", "token", "codebook", "size", "alphabet", "length")


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
        rows = csv.reader(text)
        try:
            yield from _csv_chains(rows, path)
        except csv.Error as error:
            raise CorruptFile(f"line {rows.line_num}: {error}", AGAIN, file=path) from error


def _csv_chains(rows, path: str) -> Iterator[Tokens]:
    header = next(rows, [])
    missing = [column for column in CSV if column not in header]
    if missing:
        raise CorruptFile(f"has no column {missing[0]!r}", "write it with protok", file=path)
    place = [header.index(column) for column in CSV]
    held: list[tuple] = []
    for row in filter(None, rows):
        if len(row) != len(header):
            raise CorruptFile(
                f"line {rows.line_num} has {len(row)} of {len(header)} fields", AGAIN, file=path
            )
        held.append(tuple(row[i] for i in place))
        if len(held) > LONGEST:
            raise CorruptFile(f"a chain of more than {LONGEST} residues", AGAIN, file=path)
        if held[-1][:2] + held[-1][6:] != held[0][:2] + held[0][6:]:
            held.pop()
            break
        if str(len(held)) == held[0][-1]:
            yield _csv_chain(held, path)
            held = []
    if held:
        raise CorruptFile(
            f"has {len(held)} of {held[0][-1]} residues", AGAIN, file=path, chain="_".join(held[0][:2])
        )


def _csv_chain(rows: list[tuple], path: str) -> Tokens:
    name, chain, *_, codebook, size, alphabet, _ = rows[0]
    _, _, index, icode, residues, ids, *_ = zip(*rows, strict=True)
    try:
        numbers = {"ids": list(map(int, ids)), "index": list(map(int, index)), "size": int(size)}
    except ValueError as error:
        raise CorruptFile(str(error), AGAIN, file=path, chain=f"{name}_{chain}") from error
    texts = {"sequence": "".join(residues), "icode": icode, "codebook": codebook, "alphabet": alphabet}
    return record(path, name, chain, **numbers, **texts)
