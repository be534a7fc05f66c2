"""Tokens for other programs: a corpus for language models, letters for sequence tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from protok.common.files import atomic
from protok.common.grouping import numbered
from protok.errors import CodebookMismatch, NoProtein, Unsupported
from protok.structure.backbone import AMINO_ACIDS
from protok.tokens.tokens import Tokens, join
from protok.tokens.vocabulary import Vocabulary


def write_corpus(
    tokens: Iterable[Tokens],
    folder: str | Path,
    left_out: list[str] | None = None,
    *,
    layout: str = "",
    pairs: bool = False,
) -> int:
    """Write a folder that a language model trains on; returns the number of structures.

    `tokenizer.json` and `tokenizer_config.json` of `Vocabulary.save`, which `transformers` loads
    as `AutoTokenizer.from_pretrained(folder)`, and `corpus.jsonl`: a line a record of the token
    file, with `name`, `chain`, `text` (`<s12> <s7> ...`) and `sequence`. Records with keyframes that
    follow each other under one name are the chains of one line. One without any code is left out, and
    `left_out` gets its label. `layout` and `pairs` are those of `Vocabulary.of`.

    Raises
    ------
    CodebookMismatch
        If the tokens are of several codebooks, or only some of them have keyframes.
    NoProtein
        If there are none.
    Unsupported
        If the layout needs keyframes that the first of them has not.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    left_out = [] if left_out is None else left_out
    vocabulary, count = None, 0
    with atomic(folder / "corpus.jsonl") as handle:
        for structure in _whole(_coded(tokens, left_out)):
            vocabulary = vocabulary or _vocabulary(structure, layout, pairs)
            if structure.keyframes is not None and not (layout or vocabulary.spacing):
                raise CodebookMismatch(
                    "has keyframes, and those before it have none",
                    "encode all alike, or take the layout letters",
                    file=structure.name,
                )
            line = {
                "name": structure.name,
                "chain": ",".join(dict.fromkeys(structure.chain.tolist())),
                "text": vocabulary.text(structure),
                "sequence": structure.sequence,
            }
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
        if vocabulary is None:
            raise _nothing(left_out)
        vocabulary.save(folder)
    return count


def write_letters(
    tokens: Iterable[Tokens],
    path: str | Path,
    sequences: str | Path | None = None,
    left_out: list[str] | None = None,
) -> int:
    """Write FASTA of letters as MMseqs2 and Foldseek take it; returns the number of chains.

    Code 0 is A, 1 is C and so on in `AMINO_ACIDS`, so 3Di has Foldseek's own letters; a residue
    without a code is X. Headers are `Tokens.label` alone, as one word (blanks are %20); a chain that
    comes again gets a number.

    Parameters
    ----------
    tokens
        Of one codebook.
    path
        Of the FASTA file.
    sequences
        Where the amino acids go, under the same headers.
    left_out
        Gets the labels of chains without any code, which are left out.

    Raises
    ------
    Unsupported
        If there are more than twenty codes.
    CodebookMismatch
        If the tokens are of several codebooks.
    NoProtein
        If there are none.
    """
    book, headers, letters, sequence = None, [], [], []
    left_out = [] if left_out is None else left_out
    for chain in _coded((chain for structure in tokens for chain in structure.by_chain()), left_out):
        book = book or chain.codebook
        if chain.codebook != book:
            raise CodebookMismatch(
                f"tokens of {book} and of {chain.codebook}", "write those of one codebook", file=chain.name
            )
        if chain.size > len(AMINO_ACIDS):
            raise Unsupported(
                f"{chain.codebook} has {chain.size} codes, and there are {len(AMINO_ACIDS)} letters",
                "use the ids, or an alphabet such as 3di",
            )
        headers.append(re.sub(r"\s", lambda blank: quote(blank[0]), chain.label))
        letters.append("".join("X" if i < 0 else AMINO_ACIDS[i] for i in chain.ids.tolist()))
        sequence.append(chain.sequence)
    if book is None:
        raise _nothing(left_out)
    headers = numbered(headers, "#")
    for file, lines in ((path, letters), (sequences, sequence)):
        if file is not None:
            with atomic(file) as handle:
                handle.writelines(f">{head}\n{line}\n" for head, line in zip(headers, lines, strict=True))
    return len(headers)


def _vocabulary(tokens: Tokens, layout: str, pairs: bool) -> Vocabulary:
    try:
        return Vocabulary.of(tokens, layout, pairs=pairs)
    except ValueError as error:
        raise Unsupported(str(error), "encode with keyframes, or take the layout letters") from error


def _whole(tokens: Iterable[Tokens]) -> Iterator[Tokens]:
    """Chains of a structure with keyframes together: links say where they lie."""
    for (name, keyed), group in groupby(tokens, lambda t: (t.name, t.keyframes is not None)):
        chains = list(group)
        ids = [chain for t in chains for chain in dict.fromkeys(t.chain.tolist())]
        if keyed and name and len(set(ids)) == len(ids):
            yield join(chains)
        else:
            yield from chains


def _coded(tokens: Iterable[Tokens], left_out: list[str]) -> Iterator[Tokens]:
    for record in filter(len, tokens):
        if record.uncoded:
            left_out.append(record.label)
        else:
            yield record


def _nothing(left_out: list[str]) -> NoProtein:
    if left_out:
        return NoProtein("no residue has a code", "encode structures with N, CA and C atoms")
    return NoProtein("holds no tokens", "encode some structures first")
