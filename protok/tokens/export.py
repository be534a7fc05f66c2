"""Tokens for other programs: a corpus for language models, letters for sequence tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from protok.common.files import atomic
from protok.common.grouping import numbered
from protok.common.tables import word
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
    environments: bool = False,
    chains: bool = False,
    positions: bool = False,
) -> int:
    """Write a folder that a language model trains on; returns the number of its lines.

    `tokenizer.json` and `tokenizer_config.json` of `Vocabulary.save`, which `transformers` loads
    as `AutoTokenizer.from_pretrained(folder)`, and `corpus.jsonl`: a line a structure, as `structures` puts
    chains together, with `name`, `chain` (`A,B`), `text` (`<s12> <s7> ...`) and `sequence`.

    Parameters
    ----------
    tokens
        Of one codebook.
    folder
        Made if needed.
    left_out
        Gets the labels of records without any code, which are left out.
    layout, pairs, environments
        As for `Vocabulary.of`.
    chains
        A line for each chain, also of complexes.
    positions
        Add `residues`, of each word of the text the residue in `sequence` (see `Vocabulary.placed`), and
        `numbers`, the residues' numbers in their file, with insertion codes.

    Raises
    ------
    CodebookMismatch
        If the tokens are of several codebooks, or only some of them have keyframes.
    NoProtein
        If there are none.
    Unsupported
        If the layout needs keyframes, or environments, that the first of them has not.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    left_out = [] if left_out is None else left_out
    vocabulary, count = None, 0
    with atomic(folder / "corpus.jsonl") as handle:
        for structure in structures(tokens, left_out, chains=chains):
            vocabulary = vocabulary or vocabulary_for(
                structure, layout, pairs=pairs, environments=environments
            )
            if structure.keyframes is not None and not (layout or vocabulary.spacing):
                raise CodebookMismatch(
                    "has keyframes, and those before it have none",
                    "encode all alike, or take the layout letters",
                    file=structure.name,
                )
            line: dict[str, Any] = {
                "name": structure.name,
                "chain": ",".join(dict.fromkeys(structure.chain.tolist())),
                "text": vocabulary.text(structure),
                "sequence": structure.sequence,
            }
            if positions:
                numbers = zip(structure.index.tolist(), structure.icode.tolist(), strict=True)
                line["residues"] = vocabulary.placed(structure).residues[1:-1]
                line["numbers"] = [f"{number}{icode}" for number, icode in numbers]
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
        if vocabulary is None:
            raise nothing(left_out)
        vocabulary.save(folder)
    return count


def write_letters(
    tokens: Iterable[Tokens],
    path: str | Path,
    sequences: str | Path | None = None,
    left_out: list[str] | None = None,
    *,
    pairs: bool = False,
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
    pairs
        Write the amino acid before each letter, which is small then, and `#` for what is not known of
        either: `MdKvX#` is `MdKv##`, as SaProt reads 3Di (Su et al. 2024).

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
        headers.append(word(chain.label))
        letters.append(_paired(chain) if pairs else _letters(chain, "X"))
        sequence.append(chain.sequence)
    if book is None:
        raise nothing(left_out)
    headers = numbered(headers, "#")
    for file, lines in ((path, letters), (sequences, sequence)):
        if file is not None:
            with atomic(file) as handle:
                handle.writelines(f">{head}\n{line}\n" for head, line in zip(headers, lines, strict=True))
    return len(headers)


def _letters(chain: Tokens, missing: str) -> str:
    return "".join(missing if i < 0 else AMINO_ACIDS[i] for i in chain.ids.tolist())


def _paired(chain: Tokens) -> str:
    kinds = (kind if kind in AMINO_ACIDS else "#" for kind in chain.sequence)
    return "".join(map("".join, zip(kinds, _letters(chain, "#").lower(), strict=True)))


def vocabulary_for(tokens: Tokens, layout: str, **options: bool) -> Vocabulary:
    """`Vocabulary.of` tokens from a file.

    Raises
    ------
    Unsupported
        If it needs keyframes or environments, and there are none.
    """
    try:
        return Vocabulary.of(tokens, layout, **options)
    except ValueError as error:
        raise Unsupported(str(error), "encode with them, or leave them out") from error


def structures(
    tokens: Iterable[Tokens], left_out: list[str] | None = None, *, chains: bool = False
) -> Iterator[Tokens]:
    """Tokens of whole structures: chains that follow each other under one name, as token files have them.

    Parameters
    ----------
    tokens
        As read from a file. Chains without a name, or of which two have the same id, stay by themselves.
    left_out
        Gets the labels of records without any code, which are left out.
    chains
        Each chain by itself.
    """
    coded = _coded(tokens, [] if left_out is None else left_out)
    for (name, _), group in groupby(coded, lambda t: (t.name, t.keyframes is not None)):
        members = [chain for t in group for chain in t.by_chain()]
        if not chains and name and len({str(chain.chain[0]) for chain in members}) == len(members):
            yield join(members)
        else:
            yield from members


def _coded(tokens: Iterable[Tokens], left_out: list[str]) -> Iterator[Tokens]:
    for record in filter(len, tokens):
        if record.uncoded:
            left_out.append(record.label)
        else:
            yield record


def nothing(left_out: list[str]) -> NoProtein:
    """The error of a file without any code."""
    if left_out:
        return NoProtein("no residue has a code", "encode structures with N, CA and C atoms")
    return NoProtein("holds no tokens", "encode some structures first")
