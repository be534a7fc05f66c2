"""FASTA of tokens: a header with the codebook, then ids or letters."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

import numpy as np

from protok.common.arrays import AGAIN
from protok.errors import CorruptFile, FormatError, TruncatedFile
from protok.tokens.environment import Environment
from protok.tokens.keyframes import Keyframes
from protok.tokens.tokens import LONGEST, Tokens, record

#: Characters of a line or record: room for LONGEST residues.
LINE = 8 * LONGEST
# Printable characters that neither end a FASTA word nor mean something to tools that split ids.
PLAIN = ".:+@/()[]~"


def fasta(tokens: Tokens) -> str:
    """FASTA records of the chains of `tokens`, as `save` writes them."""
    return "".join(_fasta_record(chain) for chain in tokens.by_chain())


def write_fasta(chains: Iterable[Tokens], handle) -> None:
    for chain in chains:
        handle.write(_fasta_record(chain).encode())


def _fasta_record(chain: Tokens) -> str:
    # The last underscore separates the chain id, so there must be none inside it.
    identity = f"{quote(chain.name, PLAIN)}_{quote(str(chain.chain[0]), PLAIN).replace('_', '%5F')}"
    header = f">{identity} codebook={quote(chain.codebook, PLAIN)} size={chain.size}"
    if chain.alphabet:
        header += f" alphabet={quote(chain.alphabet, '')}"
    header += f" index={_pack_numbers(chain)} sequence={quote(chain.sequence, '')}"
    for key, part in (("keyframes", chain.keyframes), ("environment", chain.environment)):
        if part is not None:
            header += f" {key}={quote(part.text, PLAIN + ',;')}"
    if chain.alphabet and chain.size <= 26:
        body = chain.letters
    else:
        body = ",".join(map(str, chain.ids.tolist())).replace("-1", "-")
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
        raise TruncatedFile("the last line has no end", "add a line break if the file is whole", file=path)
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
        elif body.count(",") >= LONGEST:
            raise ValueError(f"more than {LONGEST} tokens")
        else:
            ids = [-1 if word == "-" else _code(word) for word in body.split(",") if body]
        numbers, icodes = _unpack_numbers(fields.get("index", f"1:{len(ids)}"), len(ids))
    except (KeyError, ValueError) as error:
        message = f"letter {error} is not in the alphabet" if isinstance(error, KeyError) else error
        raise CorruptFile(str(message), AGAIN, file=path, chain=identity) from error
    name, _, chain = identity.rpartition("_") if "_" in identity else (identity, "", "")
    kinds = {"keyframes": Keyframes, "environment": Environment}
    texts = {key: fields[key] for key in kinds if fields.get(key)}
    return record(
        path,
        unquote(name),
        unquote(chain),
        lambda: {key: kinds[key].from_text(text) for key, text in texts.items()},
        ids=ids,
        size=size,
        codebook=fields["codebook"],
        alphabet=alphabet,
        sequence=fields.get("sequence", "X" * len(ids)),
        index=numbers,
        icode=icodes,
    )


def _code(word: str) -> int:
    if not word.isdecimal():
        raise ValueError(f"{word[:99]!r} is no token")
    return int(word)


def _pack_numbers(chain: Tokens) -> str:
    """`-2:40,42,52A,52B,53:60`: runs of residue numbers, single ones where a code is inserted."""
    plain = chain.icode == ""
    joined = plain[1:] & plain[:-1] & (np.diff(chain.index.astype(np.int64)) == 1)
    starts = np.flatnonzero(np.r_[True, ~joined])
    stops = np.r_[starts[1:], len(chain)] - 1
    runs = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        run = f"{chain.index[start]}"
        if stop > start:
            run += f":{chain.index[stop]}"
        for byte in str(chain.icode[start]).encode():
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
            raise ValueError(f"{run[:99]!r} is no range of residue numbers")
        first, last = int(match[1]), int(match[2] or match[1])
        # Each run may claim all the tokens, and there may be a million runs.
        if not 0 <= last - first < n - len(numbers):
            raise ValueError(f"range {run[:99]} does not fit {n} tokens")
        numbers.extend(range(first, last + 1))
        icodes.extend([unquote(match[3])] * (last + 1 - first))
    if len(numbers) != n:
        raise ValueError(f"{n} tokens for {len(numbers)} residue numbers")
    return numbers, icodes
