"""Tokens as the vocabulary of a language model: named tokens, special tokens, tokenizer.json.

Special tokens exist only here. `Tokens` and token files hold codes and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import count, islice, product
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING

import numpy as np

from protok.common.files import write_json
from protok.errors import CodebookMismatch, FormatError
from protok.tokens.environment import Environment
from protok.tokens.keyframes import Keyframes, chain_order
from protok.tokens.layouts import (
    BLOCKS,
    BOS,
    EOS,
    FIRST,
    LAYOUTS,
    LETTERS,
    MASK,
    PAD,
    SPECIALS,
    UNK,
    Grammar,
    Ids,
    Placed,
    Row,
)
from protok.tokens.tokens import Tokens

if TYPE_CHECKING:
    from protok.tokenizers.protocol import Tokenizer


@dataclass(frozen=True)
class Vocabulary:
    """Ids and names of the codes of one codebook, after six special tokens.

    `<pad>` 0, `<bos>` 1, `<eos>` 2, `<break>` 3 (between chains), `<mask>` 4 (for training),
    `<unk>` 5 (a residue without a code), then `<s0>` 6, `<s1>` 7 and so on; with `pairs`
    `<A0>`, `<A1>` ... `<A#>` (no code), `<C0>` ... `<X#>`. With keyframes follow `<gap>` (between
    residues that are not bonded), `<letters>` (after keyframes that come first), `<k0>`, `<k1>` ...
    and of links `<l0>`, `<l1>` ...; with environments `<e0>`, `<e1>` ..., of which one follows each letter.

    Attributes
    ----------
    codebook : str
        `name@fingerprint`, as in the tokens.
    size : int
        Number of codes.
    layout : str
        `letters`; `blocks`, the code of a keyframe after the letters of its block; or
        `keyframes-first`.
    spacing, motions : int
        Residues a keyframe, and codes of keyframes; 0 with `letters`.
    pairs : bool
        Whether an id says residue type and letter together.
    environments : int
        Number of environment letters; 0 where they are left out.
    around : str
        Codebook of the environment letters.

    Examples
    --------
    >>> vocabulary = Vocabulary.of(tokens)
    >>> ids = vocabulary.encode(tokens)
    >>> structure = tokenizer.decode(vocabulary.decode(ids))
    """

    codebook: str
    size: int

    layout: str = LETTERS
    spacing: int = 0
    motions: int = 0
    pairs: bool = False
    environments: int = 0
    around: str = ""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout {self.layout!r} is not one of {', '.join(LAYOUTS)}")
        if any(type(n) is not int or n < 0 for n in (self.spacing, self.motions, self.environments)):
            counts = f"{self.motions}, {self.environments} environments"
            raise ValueError(f"keyframes each {self.spacing} of {counts}")
        if (self.layout == LETTERS) != (self.spacing == 0) or (self.spacing == 0) != (self.motions == 0):
            raise ValueError(f"layout {self.layout} with keyframes each {self.spacing} of {self.motions}")

    @classmethod
    def of(
        cls, source: Tokenizer | Tokens, layout: str = "", *, pairs: bool = False, environments: bool = False
    ) -> Vocabulary:
        """Vocabulary of a tokenizer, or of Tokens.

        Parameters
        ----------
        source
            Tokens with keyframes, where the vocabulary is to have them.
        layout
            See the class; by default `blocks` where there are keyframes, else `letters`.
        pairs
            See the class.
        environments
            Whether the environment letter of a residue follows its letter.

        Raises
        ------
        ValueError
            If there is no such layout, or it needs keyframes or environments and there are none.
        """
        frames = source.keyframes if isinstance(source, Tokens) else None
        around = source.environment if isinstance(source, Tokens) else None
        if environments and around is None:
            raise ValueError("no environment letters for a vocabulary with them")
        second = (around.size, around.codebook) if environments and around is not None else (0, "")
        layout = layout or (LETTERS if frames is None else BLOCKS)
        if frames is None and layout in (BLOCKS, FIRST):
            raise ValueError(f"no keyframes for the layout {layout}")
        if frames is None or layout == LETTERS:
            return cls(source.codebook, source.size, layout, 0, 0, pairs, *second)
        return cls(source.codebook, source.size, layout, frames.spacing, frames.size, pairs, *second)

    def __len__(self) -> int:
        return len(self._numbers)

    @cached_property
    def _numbers(self) -> Ids:
        return Ids(self.size, self.motions, self.spacing, self.pairs, self.layout, self.environments)

    @property
    def names(self) -> list[str]:
        """Name of each id."""
        return self._numbers.names()

    @property
    def kinds(self) -> dict[str, range]:
        """Ids of each kind of code that there is: letters, keyframes, links, environments."""
        return self._numbers.kinds()

    def grammar(self) -> Grammar:
        """What may stand next in a row that is being written, so that it can be decoded."""
        return Grammar(self._numbers)

    def encode(self, tokens: Tokens) -> list[int]:
        """Ids of one structure: `<bos>`, its chains with `<break>` between them, `<eos>`.

        Raises
        ------
        CodebookMismatch
            If the tokens are of another codebook, or have not the keyframes of the vocabulary.
        FormatError
            If their keyframes do not lie where those of whole chains do, as in a slice.
        """
        return self.placed(tokens).ids

    def placed(self, tokens: Tokens) -> Placed:
        """Ids of `encode`, and of each the residue that it is of; raises as `encode`.

        That is -1 for `<bos>`, `<eos>`, `<break>`, `<gap>` and `<letters>`, and the residue with the keyframe
        for codes of keyframes and links.
        """
        row = self._inner(tokens)
        return Placed([BOS, *row.ids, EOS], [-1, *row.residues, -1])

    def text(self, tokens: Tokens) -> str:
        """Names of the same ids without `<bos>` and `<eos>`, which `tokenizer.json` adds.

        Raises
        ------
        CodebookMismatch
            If the tokens are of another codebook.
        """
        names = self.names
        return " ".join(names[i] for i in self._inner(tokens).ids)

    def _inner(self, tokens: Tokens) -> Placed:
        if (tokens.codebook, tokens.size) != (self.codebook, self.size):
            raise CodebookMismatch(
                f"tokens of {tokens.codebook} ({tokens.size} codes) for the vocabulary of "
                f"{self.codebook} ({self.size} codes)",
                "encode the structure with the vocabulary's tokenizer",
                file=tokens.name,
            )
        order = chain_order(tokens.chain)
        together = np.array_equal(order, np.arange(len(order)))
        whole = tokens if together else tokens[order]
        frames = self._regular(whole) if self.spacing else None
        row = self._numbers.write(whole.ids, whole.sequence, whole.chain, frames, self._second(whole))
        return row if together else Placed(row.ids, [-1 if i < 0 else int(order[i]) for i in row.residues])

    def _second(self, tokens: Tokens) -> np.ndarray | None:
        """Environment letters, where the vocabulary has them."""
        if not self.environments:
            return None
        around = tokens.environment
        if around is None or (around.size, around.codebook) != (self.environments, self.around):
            there = "no environment letters" if around is None else f"environments of {around.codebook}"
            raise CodebookMismatch(
                f"{there} for a vocabulary with those of {self.around}",
                "encode the structure with the vocabulary's tokenizer",
                file=tokens.name,
            )
        return around.ids

    def _regular(self, tokens: Tokens) -> Keyframes:
        frames = tokens.keyframes
        if frames is None or (frames.spacing, frames.size) != (self.spacing, self.motions):
            there = "no keyframes" if frames is None else f"keyframes each {frames.spacing} of {frames.size}"
            raise CodebookMismatch(
                f"{there} for a vocabulary with keyframes each {self.spacing} of {self.motions}",
                f"encode with keyframes each {self.spacing}",
                file=tokens.name,
            )
        codes = [0] * int((frames.code >= 0).sum())
        own = (tokens.ids, tokens.chain, self.spacing, self.motions, codes)
        try:
            regular = np.array_equal(Keyframes.laid(*own, breaks=frames.start.tolist()).place, frames.place)
        except ValueError:
            regular = False
        if not regular:
            raise FormatError(
                "keyframes do not lie where those of whole chains do",
                "encode the part by itself, or take the layout letters",
                file=tokens.name,
            )
        return frames

    def decode(self, ids: Iterable[int], name: str = "") -> Tokens:
        """Tokens of one sequence of ids, as a language model writes them.

        `<pad>` and a leading `<bos>` are dropped, all from the first `<eos>` on is ignored,
        `<unk>` and `<mask>` become missing tokens, which end a run of residues. Without pairs ids
        know no residue types: the sequence is `X`. Chains are called A, B, C ... and numbered from 1.

        Raises
        ------
        FormatError
            If an id is outside the vocabulary, `<bos>` stands in the middle, or keyframes, links and
            gaps do not stand where the letters have them.
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
        try:
            return self._read(flat, name)
        except ValueError as error:
            raise FormatError(str(error), "write rows by the vocabulary's grammar", file=name) from error

    def _read(self, flat: np.ndarray, name: str) -> Tokens:
        row = self._numbers.read(flat.tolist())
        chains = np.array(list(islice(_letters(), len(row.lengths))), str)
        tokens = Tokens(
            ids=row.letters,
            size=self.size,
            codebook=self.codebook,
            sequence=row.sequence,
            chain=np.repeat(chains, row.lengths),
            index=np.concatenate([np.arange(1, n + 1) for n in (0, *row.lengths)]),
            icode=np.full(len(row.letters), ""),
            name=name,
        )
        if self.environments:
            around = Environment(row.environments, self.environments, self.around)
            tokens = replace(tokens, environment=around)
        if not self.spacing:
            return tokens
        tokens = replace(tokens, keyframes=self._laid(row, tokens))
        own = (tokens.ids, tokens.sequence, tokens.chain, tokens.keyframes)
        again = self._numbers.write(*own, self._second(tokens)).ids
        missing = self._numbers.of_letters(np.array([-1]), "X")[0]
        if not np.array_equal(again, np.where(np.isin(flat, [MASK, UNK]), missing, flat)):
            raise ValueError("keyframes, links or gaps do not stand where the letters have them")
        return tokens

    def _laid(self, row: Row, tokens: Tokens) -> Keyframes:
        own = (tokens.ids, tokens.chain, self.spacing, self.motions, row.codes)
        frames = Keyframes.laid(*own, breaks=row.breaks)
        link = frames.link.copy()
        for run, codes in row.links.items():
            if run >= len(link):
                raise ValueError(f"a link of run {run + 1} of {len(link)}")
            link[run] = codes
        return replace(frames, link=link)

    def write_tokenizer_json(self, path: str | Path, labels: Sequence[str] = ()) -> None:
        """Write a `tokenizer.json` that Hugging Face `tokenizers` loads.

        A word-level model over `text`, split at blanks; it adds `<bos>` and `<eos>`, so that
        `Tokenizer.from_file(path).encode(vocabulary.text(t)).ids == vocabulary.encode(t)`.
        The format has no place for the codebook: `save` writes that beside it. `labels` are names of
        ids of a model's own, which stand behind those of the vocabulary.
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
                "vocab": {name: i for i, name in enumerate([*self.names, *labels])},
                "unk_token": "<unk>",
            },
        }
        write_json(path, content)

    def save(self, folder: str | Path, labels: Sequence[str] = ()) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which `AutoTokenizer` loads.

        The configuration names the roles of the special tokens and the codebook. `labels` are as for
        `write_tokenizer_json`.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.write_tokenizer_json(folder / "tokenizer.json", labels)
        roles = ("pad", "bos", "eos", "mask", "unk")
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{f"{role}_token": f"<{role}>" for role in roles},
            "additional_special_tokens": ["<break>"],
            "clean_up_tokenization_spaces": False,
            "codebook": self.codebook,
            "codebook_size": self.size,
            "rows": {key: value for key, value in asdict(self).items() if key not in ("codebook", "size")},
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
            return cls(str(config["codebook"]), int(config["codebook_size"]), **config["rows"])
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"the configuration names no codebook ({error})", "write it with save", file=str(path)
            ) from error


def _letters() -> Iterator[str]:
    """A..Z, then AA, AB ..."""
    return ("".join(word) for size in count(1) for word in product(ascii_uppercase, repeat=size))
