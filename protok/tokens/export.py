"""Tokens for other programs: a corpus for language models, letters for sequence tools."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from protok.common.files import atomic
from protok.errors import CodebookMismatch, NoProtein, Unsupported
from protok.structure.backbone import AMINO_ACIDS
from protok.tokens.tokens import Tokens
from protok.tokens.vocabulary import Vocabulary


def write_corpus(tokens: Iterable[Tokens], folder: str | Path) -> int:
    """Write a folder that a language model trains on; returns the number of structures.

    `tokenizer.json` and `tokenizer_config.json` of `Vocabulary.save`, which `transformers` loads
    as `AutoTokenizer.from_pretrained(folder)`, and `corpus.jsonl`: a line a record of the token
    file, with `name`, `chain`, `text` (`<s12> <s7> ...`) and `sequence`.

    Raises
    ------
    CodebookMismatch
        If the tokens are of several codebooks.
    NoProtein
        If there are none.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, count = None, 0
    with atomic(folder / "corpus.jsonl") as handle:
        for structure in filter(len, tokens):
            vocabulary = vocabulary or Vocabulary.of(structure)
            line = {
                "name": structure.name,
                "chain": ",".join(dict.fromkeys(structure.chain.tolist())),
                "text": vocabulary.text(structure),
                "sequence": structure.sequence,
            }
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
        if vocabulary is None:
            raise NoProtein("holds no tokens", "encode some structures first")
        vocabulary.save(folder)
    return count


def write_letters(tokens: Iterable[Tokens], path: str | Path, sequences: str | Path | None = None) -> int:
    """Write FASTA of letters as MMseqs2 and Foldseek take it; returns the number of chains.

    Code 0 is A, 1 is C and so on in `AMINO_ACIDS`, so 3Di has Foldseek's own letters; a residue
    without a code is X. Headers are name and chain alone.

    Parameters
    ----------
    tokens
        Of one codebook.
    path
        Of the FASTA file.
    sequences
        Where the amino acids go, under the same headers.

    Raises
    ------
    Unsupported
        If there are more than twenty codes.
    CodebookMismatch
        If the tokens are of several codebooks.
    NoProtein
        If there are none.
    """
    book, lines, letters = None, [], []
    for chain in (chain for structure in tokens for chain in structure.by_chain() if len(chain)):
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
        header = ">" + "_".join(chain.label.split())
        coded = "".join("X" if i < 0 else AMINO_ACIDS[i] for i in chain.ids.tolist())
        letters.append(f"{header}\n{coded}\n")
        lines.append(f"{header}\n{chain.sequence}\n")
    if book is None:
        raise NoProtein("holds no tokens", "encode some structures first")
    with atomic(path) as handle:
        handle.writelines(letters)
    if sequences is not None:
        with atomic(sequences) as handle:
            handle.writelines(lines)
    return len(lines)
