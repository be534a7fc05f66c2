"""Tokens as the vocabulary of a language model: named tokens, special tokens, tokenizer.json.

Special tokens exist only here. `Tokens` and token files hold codes and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice, product
from pathlib import Path
from string import ascii_uppercase

import numpy as np

from protok.common.files import write_json
from protok.errors import CodebookMismatch, FormatError
from protok.tokens.tokens import Tokens

SPECIALS = ("<pad>", "<bos>", "<eos>", "<break>", "<mask>", "<unk>")
PAD, BOS, EOS, BREAK, MASK, UNK = range(len(SPECIALS))


@dataclass(frozen=True)
class Vocabulary:
    """Ids and names of the codes of one codebook, after six special tokens.

    `<pad>` 0, `<bos>` 1, `<eos>` 2, `<break>` 3 (between chains), `<mask>` 4 (for training),
    `<unk>` 5 (a residue without a code), then `<s0>` 6, `<s1>` 7 and so on.

    Attributes
    ----------
    codebook : str
        `name@fingerprint`, as in the tokens.
    size : int
        Number of codes.

    Examples
    --------
    >>> vocabulary = Vocabulary.of(tokenizer)
    >>> ids = vocabulary.encode(tokens)
    >>> structure = tokenizer.decode(vocabulary.decode(ids))
    """

    codebook: str
    size: int

    @classmethod
    def of(cls, source) -> Vocabulary:
        """Vocabulary of a tokenizer, or of Tokens."""
        return cls(source.codebook, source.size)

    def __len__(self) -> int:
        return len(SPECIALS) + self.size

    @property
    def names(self) -> list[str]:
        """Name of each id."""
        return [*SPECIALS, *(f"<s{code}>" for code in range(self.size))]

    def encode(self, tokens: Tokens) -> list[int]:
        """Ids of one structure: `<bos>`, its chains with `<break>` between them, `<eos>`.

        Raises
        ------
        CodebookMismatch
            If the tokens are of another codebook.
        """
        return [BOS, *self._inner(tokens), EOS]

    def text(self, tokens: Tokens) -> str:
        """Names of the same ids without `<bos>` and `<eos>`, which `tokenizer.json` adds.

        Raises
        ------
        CodebookMismatch
            If the tokens are of another codebook.
        """
        names = self.names
        return " ".join(names[i] for i in self._inner(tokens))

    def _inner(self, tokens: Tokens) -> list[int]:
        if (tokens.codebook, tokens.size) != (self.codebook, self.size):
            raise CodebookMismatch(
                f"tokens of {tokens.codebook} ({tokens.size} codes) for the vocabulary of "
                f"{self.codebook} ({self.size} codes)",
                "encode the structure with the vocabulary's tokenizer",
                file=tokens.name,
            )
        ids: list[int] = []
        for chain in tokens.by_chain():
            if ids:
                ids.append(BREAK)
            ids.extend(np.where(chain.ids < 0, UNK, chain.ids + len(SPECIALS)).tolist())
        return ids

    def decode(self, ids: Iterable[int], name: str = "") -> Tokens:
        """Tokens of one sequence of ids, as a language model writes them.

        `<pad>` and a leading `<bos>` are dropped, all from the first `<eos>` on is ignored,
        `<unk>` and `<mask>` become missing tokens. Ids know neither residue types nor numbers:
        the sequence is `X`, chains are called A, B, C ... and numbered from 1.

        Raises
        ------
        FormatError
            If an id is outside the vocabulary, or `<bos>` stands in the middle.
        """
        flat = np.asarray(list(ids), dtype=np.int64)
        wrong = np.flatnonzero((flat < 0) | (flat >= len(self)))
        if len(wrong):
            raise FormatError(
                f"id {flat[wrong[0]]} at position {wrong[0]} is outside 0..{len(self) - 1}",
                f"use ids of the vocabulary of {self.codebook}",
                file=name,
            )
        flat = flat[flat != PAD]
        flat = flat[1:] if len(flat) and flat[0] == BOS else flat
        if EOS in flat:
            flat = flat[: int(np.argmax(flat == EOS))]
        if BOS in flat:
            raise FormatError(
                "<bos> stands in the middle of the ids", "decode one structure at a time", file=name
            )
        pieces = np.split(flat, np.flatnonzero(flat == BREAK))
        lengths = [length for piece in pieces if (length := int((piece != BREAK).sum()))]
        flat = flat[flat != BREAK]
        none = (flat == UNK) | (flat == MASK)
        return Tokens(
            ids=np.where(none, -1, flat - len(SPECIALS)),
            size=self.size,
            codebook=self.codebook,
            sequence="X" * len(flat),
            chain=np.repeat(np.array(list(islice(_letters(), len(lengths))), str), lengths),
            index=np.concatenate([np.arange(1, n + 1) for n in (0, *lengths)]),
            icode=np.full(len(flat), ""),
            name=name,
        )

    def write_tokenizer_json(self, path: str | Path) -> None:
        """Write a `tokenizer.json` that Hugging Face `tokenizers` loads.

        A word-level model over `text`, split at blanks; it adds `<bos>` and `<eos>`, so that
        `Tokenizer.from_file(path).encode(vocabulary.text(t)).ids == vocabulary.encode(t)`.
        The format has no place for the codebook: `save` writes that beside it.
        """
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        specials = [{"id": i, "content": name, **flags, "special": True} for i, name in enumerate(SPECIALS)]
        frame = [
            {"SpecialToken": {"id": "<bos>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<eos>", "type_id": 0}},
        ]
        second = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "<eos>", "type_id": 1}}]
        content = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": specials,
            "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": frame,
                "pair": [*frame, *second],
                "special_tokens": {
                    SPECIALS[i]: {"id": SPECIALS[i], "ids": [i], "tokens": [SPECIALS[i]]} for i in (BOS, EOS)
                },
            },
            "decoder": None,
            "model": {
                "type": "WordLevel",
                "vocab": {name: i for i, name in enumerate(self.names)},
                "unk_token": "<unk>",
            },
        }
        write_json(path, content)

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which `AutoTokenizer` loads.

        The configuration names the roles of the special tokens and the codebook.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.write_tokenizer_json(folder / "tokenizer.json")
        roles = ("pad", "bos", "eos", "mask", "unk")
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{f"{role}_token": f"<{role}>" for role in roles},
            "additional_special_tokens": ["<break>"],
            "clean_up_tokenization_spaces": False,
            "codebook": self.codebook,
            "codebook_size": self.size,
        }
        write_json(folder / "tokenizer_config.json", config)

    @classmethod
    def load(cls, folder: str | Path) -> Vocabulary:
        """Vocabulary of a folder that `save` wrote.

        Raises
        ------
        FormatError
            If its configuration names no codebook.
        """
        path = Path(folder) / "tokenizer_config.json"
        try:
            config = json.loads(path.read_text("utf-8"))
            return cls(str(config["codebook"]), int(config["codebook_size"]))
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"the configuration names no codebook ({error})", "write it with save", file=str(path)
            ) from error


def _letters() -> Iterator[str]:
    """A..Z, then AA, AB ..."""
    return ("".join(word) for size in count(1) for word in product(ascii_uppercase, repeat=size))
