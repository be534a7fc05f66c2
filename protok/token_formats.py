"""FASTA, CSV and npz of tokens: writers of chains to a binary handle, readers from one.

`protok.tokens` opens the files and says what each format holds.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from itertools import pairwise
from urllib.parse import quote, unquote

import numpy as np

from protok.errors import CorruptFile, FormatError, TruncatedFile
from protok.tokens import LONGEST, Tokens, check_ends, record

#: Characters of a line or record: room for LONGEST residues.
LINE = 8 * LONGEST
#: Bytes that an npz file may unpack to; the other formats are read chain by chain.
UNPACKED = 4 << 30
AGAIN = "write or copy the file again"
# Printable characters that neither end a FASTA word nor mean something to tools that split ids.
PLAIN = ".:+@/()[]~"


def fasta(tokens: Tokens) -> str:
    """FASTA records of the chains of `tokens`, as `save` writes them."""
    return "".join(_fasta_record(chain) for chain in tokens.split())


def write_fasta(chains: Iterable[Tokens], handle) -> None:
    for chain in chains:
        handle.write(_fasta_record(chain).encode())


def _fasta_record(one: Tokens) -> str:
    # The last underscore separates the chain id, so there must be none inside it.
    identity = f"{quote(one.name, PLAIN)}_{quote(str(one.chain[0]), PLAIN).replace('_', '%5F')}"
    header = f">{identity} codebook={quote(one.codebook, PLAIN)} size={one.size}"
    if one.alphabet:
        header += f" alphabet={quote(one.alphabet, '')}"
    header += f" index={_pack_numbers(one)} sequence={quote(one.sequence, '')}"
    if one.alphabet and one.size <= 26:
        body = one.letters
    else:
        body = ",".join(map(str, one.ids.tolist())).replace("-1", "-")
    return f"{header}\n{body}\n"


def read_fasta(handle, path: str) -> Iterator[Tokens]:
    header, body, last, held = "", [], "\n", 0
    with io.TextIOWrapper(handle, encoding="utf-8-sig") as text:
        # Compressed, a few megabytes may be a line of gigabytes.
        while line := text.readline(LINE):
            if len(line) == LINE and not line.endswith("\n"):
                raise CorruptFile(f"a line of more than {LINE} characters", AGAIN, file=path)
            last = line
            words = line.strip()
            if words.startswith(">"):
                if header:
                    yield _parse_fasta(header, "".join(body), path)
                header, body, held = words, [], 0
            elif header:
                body.append(words)
                held += len(words)
                if held > LINE:
                    raise CorruptFile(f"a record of more than {LINE} characters", AGAIN, file=path)
            elif words:
                raise FormatError("the content is not FASTA", "check the suffix", file=path)
    if not last.endswith("\n"):
        # 40 may be what is left of 407: length alone does not tell.
        raise TruncatedFile(
            "the last line has no end", "add a line break if the file is whole", file=path
        )
    if header:
        yield _parse_fasta(header, "".join(body), path)


def _parse_fasta(header: str, body: str, path: str) -> Tokens:
    identity, *words = header[1:].split() or [""]
    fields = {key: unquote(value) for key, _, value in (word.partition("=") for word in words)}
    for key in ("codebook", "size"):
        if not fields.get(key):
            raise FormatError(
                f"the header has no {key}=",
                "a token FASTA says codebook=name@fingerprint size=codes",
                file=path,
                chain=identity,
            )
    alphabet = fields.get("alphabet", "")
    try:
        size = int(fields["size"])
        if alphabet and size <= 26:
            codes = {letter: code for code, letter in enumerate(alphabet)} | {"-": -1}
            ids = [codes[letter] for letter in body]
        else:
            ids = [-1 if word == "-" else _code(word) for word in body.split(",") if body]
        numbers, icodes = _unpack_numbers(fields.get("index", f"1:{len(ids)}"), len(ids))
    except (KeyError, ValueError) as error:
        said = f"letter {error} is not in the alphabet" if isinstance(error, KeyError) else error
        raise CorruptFile(str(said), AGAIN, file=path, chain=identity) from error
    name, _, chain = identity.rpartition("_") if "_" in identity else (identity, "", "")
    return record(
        path, unquote(name), unquote(chain),
        ids=ids, size=size, codebook=fields["codebook"], alphabet=alphabet,
        sequence=fields.get("sequence", "X" * len(ids)), index=numbers, icode=icodes,
    )  # fmt: skip


def _code(word: str) -> int:
    if not word.isdecimal():
        raise ValueError(f"{word!r} is no token")
    return int(word)


def _pack_numbers(one: Tokens) -> str:
    """`-2:40,42,52A,52B,53:60`: runs of residue numbers, single ones where a code is inserted."""
    plain = one.icode == ""
    joined = plain[1:] & plain[:-1] & (np.diff(one.index.astype(np.int64)) == 1)
    starts = np.flatnonzero(np.r_[True, ~joined])
    stops = np.r_[starts[1:], len(one)] - 1
    runs = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        run = f"{one.index[start]}"
        if stop > start:
            run += f":{one.index[stop]}"
        for byte in str(one.icode[start]).encode():
            run += chr(byte) if chr(byte).isalpha() and byte < 128 else f"%{byte:02X}"
        runs.append(run)
    # unquote() is applied to whole fields, so the escapes inside one are escaped once more.
    return ",".join(runs).replace("%", "%25")


def _unpack_numbers(text: str, n: int) -> tuple[list[int], list[str]]:
    numbers: list[int] = []
    icodes: list[str] = []
    for run in text.split(",") if n else []:
        match = re.fullmatch(r"(-?\d+)(?::(-?\d+))?([^:]*)", run)
        if match is None:
            raise ValueError(f"{run!r} is no range of residue numbers")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 <= last - first < n:
            raise ValueError(f"range {run} does not fit {n} tokens")
        numbers.extend(range(first, last + 1))
        icodes.extend([unquote(match[3])] * (last + 1 - first))
    if len(numbers) != n:
        raise ValueError(f"{n} tokens for {len(numbers)} residue numbers")
    return numbers, icodes


CSV = (
    "name", "chain", "index", "icode", "residue", "token", "codebook", "size", "alphabet", "length"
)  # fmt: skip


def write_csv(chains: Iterable[Tokens], handle) -> None:
    with io.TextIOWrapper(handle, encoding="utf-8", newline="") as text:
        out = csv.writer(text, lineterminator="\n")
        out.writerow(CSV)
        for one in chains:
            end = [one.codebook, one.size, one.alphabet, len(one)]
            residues = zip(
                one.index.tolist(), one.icode.tolist(), one.sequence, one.ids.tolist(), strict=True
            )
            out.writerows([one.name, one.chain[0], *residue, *end] for residue in residues)


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
            f"has {len(held)} of {held[0][-1]} residues",
            AGAIN,
            file=path,
            chain="_".join(held[0][:2]),
        )


def _csv_chain(rows: list[tuple], path: str) -> Tokens:
    name, chain, *_, codebook, size, alphabet, _ = rows[0]
    _, _, index, icode, residues, ids, *_ = zip(*rows, strict=True)
    try:
        numbers = {
            "ids": [int(word) for word in ids],
            "index": [int(word) for word in index],
            "size": int(size),
        }
    except ValueError as error:
        raise CorruptFile(str(error), AGAIN, file=path, chain=f"{name}_{chain}") from error
    return record(
        path, name, chain, icode=icode, sequence="".join(residues), codebook=codebook,
        alphabet=alphabet, **numbers,
    )  # fmt: skip


# Arrays with an entry a residue, and with one a chain: the kind of each.
RESIDUES = {"ids": "i", "index": "i", "sequence": "S", "icode": "U"}
CHAINS = {"length": "i", "name": "U", "chain": "U", "codebook": "U", "size": "i", "alphabet": "U"}


def write_npz(chains: Iterable[Tokens], handle) -> None:
    chains = list(chains)
    columns = {
        "length": np.array([len(one) for one in chains], np.int64),
        "size": np.array([one.size for one in chains], np.int32),
        "sequence": np.array([*"".join(one.sequence for one in chains)], "S1"),
        "chain": np.array([one.chain[0] for one in chains], str),
    }
    for key, kind in (("ids", np.int32), ("index", np.int32), ("icode", str)):
        columns[key] = np.concatenate([np.array([], kind), *(getattr(one, key) for one in chains)])
    for key in ("name", "codebook", "alphabet"):
        columns[key] = np.array([getattr(one, key) for one in chains], str)
    np.savez_compressed(handle, **columns)


def read_npz(handle, path: str) -> Iterator[Tokens]:
    check_ends(handle, path, "npz", b"PK", lambda tail: b"PK\x05\x06" in tail)
    kinds = CHAINS | RESIDUES
    try:
        with zipfile.ZipFile(handle) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > UNPACKED:
            raise ValueError(f"it unpacks to {size} bytes")
        handle.seek(0)
        with np.load(handle, allow_pickle=False) as stored:
            columns = {key: np.asarray(stored[key]) for key in kinds if key in stored}
    except Exception as error:  # zipfile and numpy raise a dozen kinds on damaged bytes
        raise CorruptFile(f"npz cannot be read ({error})", AGAIN, file=path) from error
    for key, kind in kinds.items():
        if key not in columns:
            raise CorruptFile(f"has no array {key!r}", "write it with protok", file=path)
        found = columns[key]
        if key == "length":
            expected = found.size
            bounds = np.cumsum([0, *found.ravel().tolist()]) if found.dtype.kind == "i" else []
        else:
            expected = bounds[-1] if key in RESIDUES else len(bounds) - 1
        if found.dtype.kind != kind or found.shape != (expected,) or (np.diff(bounds) < 0).any():
            raise CorruptFile(
                f"array {key!r} of {found.dtype} {found.shape} should hold {expected} entries",
                AGAIN,
                file=path,
            )
    for row, (start, stop) in enumerate(pairwise(bounds)):
        fields = {key: columns[key][start:stop] for key in ("ids", "index", "icode")}
        fields |= {key: str(columns[key][row]) for key in ("name", "chain", "codebook", "alphabet")}
        fields["sequence"] = columns["sequence"][start:stop].tobytes().decode("latin-1")
        yield record(path, size=int(columns["size"][row]), **fields)
