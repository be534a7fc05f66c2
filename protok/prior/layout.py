"""How codes and their condition lie in the sequence that a transformer reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from protok.errors import CodebookMismatch, FormatError
from protok.tokens.layouts import BOS, BREAK, EOS, KEYED, LETTERS, MASK, SPECIALS, UNK
from protok.tokens.tokens import LONGEST, Tokens
from protok.tokens.vocabulary import Vocabulary

#: Lengths that share a label of the condition ``length``.
STRIDE = 16
#: A class, a length, a length and a class, or the letters of a sequence; None where it is hidden.
Condition = str | int | tuple[int | None, str | None] | None
#: Stands for every letter that was not among the training records'.
OTHER = "X"


@dataclass(frozen=True)
class Row:
    """One sequence: what the model reads, where each id stands, and which it must foretell.

    Attributes
    ----------
    ids : (n,)
        Prefix, codes, and the end of a chain.
    positions : (n,)
        The letters of a condition stand where their codes will.
    scored : (n,) bool
        Ids that count in the loss: codes and the end, not the prefix, not missing codes.
    """

    ids: np.ndarray
    positions: np.ndarray
    scored: np.ndarray


@dataclass(frozen=True)
class Layout:
    """The ids of one codebook, and how a record becomes a row of them.

    After the special tokens of `protok.tokens.vocabulary` come the codes, those of each level apart, then the
    labels of the condition. An image has as many codes as its grid has; a chain ends with
    ``<eos>``.

    Attributes
    ----------
    codebook, size
        ``name@fingerprint``, and codes (of each level); of chains all ids of the vocabulary but the
        special ones.
    grid : (h, w, levels)
        Of images; () for chains.
    pixels : (height, width, factor)
        Of images, as in `protok.image.ImageTokens`; () for chains.
    order, condition, longest
        See `protok.prior.config.PriorDataConfig`.
    labels
        Of the condition: classes, upper ends of lengths, or letters.
    shares
        Of classes among the training chains of each stretch of lengths, one stretch after the other; () where
        these are not both conditions.
    lengths
        Quantiles of the training chains' lengths, from which lengths are drawn.
    arrangement, spacing, motions, environments, around
        Layout, keyframes and environment letters of chains; see `protok.tokens.vocabulary.Vocabulary`.
    """

    codebook: str = ""
    size: int = 0
    grid: tuple[int, ...] = ()
    pixels: tuple[int, ...] = ()
    order: str = "level"
    condition: str = "none"
    longest: int = 512
    labels: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    lengths: tuple[int, ...] = ()
    arrangement: str = LETTERS
    spacing: int = 0
    motions: int = 0
    environments: int = 0
    around: str = ""

    def __len__(self) -> int:
        """Ids in the vocabulary."""
        return self.first_label + len(self.labels)

    @property
    def vocabulary(self) -> Vocabulary:
        """Of chains: how letters, keyframes and links stand in a row; of images: the codes of all levels."""
        others = (KEYED + self.motions if self.spacing else 0) + self.environments
        own = {"layout": self.arrangement, "spacing": self.spacing, "motions": self.motions}
        own |= {"environments": self.environments, "around": self.around}
        return Vocabulary(self.codebook, self.levels * self.size - others, **own)

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels of classes, which stand behind those of lengths."""
        if not self.condition.endswith("class"):
            return ()
        return self.labels[self.stretches :] if self.condition == "length+class" else self.labels

    @property
    def label_names(self) -> list[str]:
        """Names of the ids of the labels: `<class:cat>`, `<length:16>`, `<sequence:G>`."""
        others = len(self.labels) - len(self.classes)
        kinds = [self.condition.split("+")[0]] * others + ["class"] * len(self.classes)
        return [f"<{kind}:{quote(label)}>" for kind, label in zip(kinds, self.labels, strict=True)]

    @property
    def levels(self) -> int:
        """Ids at each place."""
        return self.grid[2] if self.grid else 1

    @property
    def first_label(self) -> int:
        """Id of the first label."""
        return len(SPECIALS) + self.levels * self.size

    @property
    def most(self) -> int:
        """Codes that a record has at most."""
        if self.grid:
            return math.prod(self.grid)
        # Keyframes are at most as many as every second residue; of links and gaps few have more.
        return self.longest * (1 + bool(self.spacing) + bool(self.environments))

    @property
    def context(self) -> int:
        """Positions that a model needs."""
        return self.most + 4

    def check_sizes(self) -> None:
        """Raise a FormatError for a layout from a file whose parts do not fit together."""
        numbers = (self.size, self.longest, *self.grid, *self.pixels, *self.lengths)
        texts, grid = (self.order, self.condition, *self.labels), self.grid
        sound = all(type(n) is int and n > 0 for n in numbers) and all(isinstance(t, str) for t in texts)
        sound = sound and all(0 <= share <= 1 for share in self.shares)
        if sound and grid:
            sound = len(grid) == len(self.pixels) == 3
            sound = sound and grid[:2] == tuple(-(-side // self.pixels[2]) for side in self.pixels[:2])
        known = {
            "none": True,
            "class": bool(self.labels),
            "length": len(self.labels) >= self.stretches,
            "length+class": len(self.labels) > self.stretches
            and len(self.shares) in (0, self.stretches * len(self.classes)),
            "sequence": OTHER in self.labels,
        }
        try:
            sound = sound and self.vocabulary.size > 0
        except (TypeError, ValueError):
            sound = False
        if not (sound and known.get(self.condition) and self.order in ("level", "place")):
            raise FormatError("the parts of the layout do not fit together")
        if self.context > LONGEST:
            raise FormatError(f"rows of {self.context} codes", f"there are at most {LONGEST}")

    @property
    def stretches(self) -> int:
        """Labels of lengths, where there are some: they are the first."""
        return -(-self.longest // STRIDE)

    def row(self, codes: np.ndarray, condition: Condition = None) -> Row:
        """A record as the model reads it.

        Parameters
        ----------
        codes
            (h, w, levels) of an image, or (n,) of a chain, -1 where missing.
        condition
            As for `prefix`.
        """
        flat = self.flatten(codes)
        ids, positions = self.prefix(condition)
        body = np.where(flat < 0, UNK, flat + len(SPECIALS) + self.level_of(len(flat)) * self.size)
        if not self.grid:
            body = np.append(body, EOS)
        start = len(ids)
        ids = np.concatenate([ids, body])
        return Row(
            ids,
            np.concatenate([positions, positions[-1] + 1 + np.arange(len(body))]),
            (np.arange(len(ids)) >= start) & (ids != UNK),
        )

    def prefix(self, condition: Condition) -> tuple[np.ndarray, np.ndarray]:
        """Ids and positions of what stands before the codes.

        Parameters
        ----------
        condition
            See `Condition`.

        Raises
        ------
        FormatError
            If there is no such class, or a length beyond the longest.
        """
        if self.condition == "none" or (self.condition == "sequence" and condition is None):
            return np.array([BOS]), np.array([0])
        if self.condition == "sequence":
            number = {letter: i for i, letter in enumerate(self.labels)}
            letters = [self.first_label + number.get(c, number[OTHER]) for c in str(condition)]
            return np.array([BOS, *letters, BREAK]), np.array([*range(len(letters) + 1), 0])
        if self.condition != "length+class":
            parts = (condition,)
        else:
            parts = condition if isinstance(condition, tuple) else (None, None)
        kinds = zip(self.condition.split("+"), parts, strict=True)
        labels = [MASK if of is None else self.first_label + self._label(kind, of) for kind, of in kinds]
        return np.array([BOS, *labels]), np.arange(1 + len(labels))

    def _label(self, kind: str, condition: Any) -> int:
        if kind == "length":
            if not 1 <= int(condition) <= self.longest:
                raise FormatError(f"a length of {condition} was not learned", f"give 1 to {self.longest}")
            return (int(condition) - 1) // STRIDE
        if condition not in self.classes:
            raise FormatError(f"no class {condition!r} was learned", f"give one of {', '.join(self.classes)}")
        return len(self.labels) - len(self.classes) + self.classes.index(condition)

    def class_at(self, length: int | None, chance: float) -> str | None:
        """A class as training chains of a length have it, by a number in 0..1; None where none is known."""
        if length is None or not self.shares:
            return None
        shares = np.reshape(self.shares, (self.stretches, -1))[self._label("length", length)]
        return self.classes[int(np.searchsorted(shares.cumsum(), chance * shares.sum(), side="right"))]

    def level_of(self, n: int) -> np.ndarray:
        """Level of each of n codes in a row."""
        if not self.grid:
            return np.zeros(n, int)
        h, w, levels = self.grid
        every = np.arange(levels)
        return np.repeat(every, h * w)[:n] if self.order == "level" else np.tile(every, h * w)[:n]

    def flatten(self, codes: np.ndarray) -> np.ndarray:
        """Codes of a record in the order of the row.

        Raises
        ------
        FormatError
            If they do not fit this layout.
        """
        codes = np.asarray(codes)
        fits = codes.shape == self.grid if self.grid else 1 <= len(codes) <= self.most
        if not fits or codes.max() >= self.size:
            raise FormatError(
                f"codes of shape {codes.shape} up to {codes.max(initial=0)} do not fit "
                f"{self.grid or f'1 to {self.most}'} codes of {self.codebook}",
                "give what the prior was trained on",
            )
        if not self.grid:
            return codes
        return codes.transpose(2, 0, 1).ravel() if self.order == "level" else codes.ravel()

    def unflatten(self, ids: Sequence[int]) -> np.ndarray:
        """Codes of a record from the ids of its row, prefix and end left out."""
        flat = np.asarray(ids, dtype=np.int64)
        codes = (flat - len(SPECIALS) - self.level_of(len(flat)) * self.size).astype(np.int32)
        if not self.grid:
            return codes
        h, w, levels = self.grid
        if self.order == "level":
            return codes.reshape(levels, h, w).transpose(1, 2, 0)
        return codes.reshape(h, w, levels)

    def allowed(self, step: int, length: int | None) -> np.ndarray:
        """Which ids may come next, (vocabulary,) bool.

        Parameters
        ----------
        step
            Codes that are there already.
        length
            At which a chain ends; None leaves it to the model, up to the longest.
        """
        allowed = np.zeros(len(self), bool)
        n = math.prod(self.grid) if self.grid else length or self.longest
        if step < n:
            level = int(self.level_of(step + 1)[step]) if self.grid else 0
            begin = len(SPECIALS) + level * self.size
            allowed[begin : begin + self.size] = True
        allowed[EOS] = step >= n or (not self.grid and length is None and step > 0)
        return allowed

    def progress(self, length: int | None) -> Progress:
        """A record that is being drawn, which ends at a length, or where the model ends it."""
        return Progress(self, length)

    def tokens(self, codes: np.ndarray, name: str = "") -> Tokens:
        """Tokens of the codes of a chain.

        Raises
        ------
        FormatError
            If keyframes do not stand where the letters have them.
        """
        ids = np.asarray(codes)
        return self.vocabulary.decode(np.where(ids < 0, UNK, ids + len(SPECIALS)), name)

    def check(self, codebook: str) -> None:
        """Refuse another codebook than that of the codes.

        Raises
        ------
        CodebookMismatch
            If it is one.
        """
        if codebook != self.codebook:
            raise CodebookMismatch(
                f"the prior is over codes of {self.codebook}, the tokenizer is {codebook}",
                "give the tokenizer that made the training codes",
            )


class Progress:
    """One record that is being drawn: which ids may be next.

    Parameters
    ----------
    layout
        Of the record.
    length
        Residues at which a chain ends; None leaves it to the model, up to the longest.
    """

    def __init__(self, layout: Layout, length: int | None):
        self.layout, self.length, self.step = layout, length, 0
        self.grammar = layout.vocabulary.grammar() if layout.spacing or layout.environments else None

    def copied(self) -> Progress:
        """A record that begins alike and goes its own way."""
        other = copy(self)
        other.grammar = copy(self.grammar)
        if other.grammar is not None:
            other.grammar.codes = [*other.grammar.codes]
        return other

    @property
    def residues(self) -> int:
        """Of a chain, that are there."""
        return self.step if self.grammar is None else self.grammar.residues

    def push(self, number: int) -> None:
        """Go on with an id."""
        self.step += 1
        if self.grammar is not None:
            self.grammar.push(number)

    def allowed(self) -> np.ndarray:
        """Which ids may come next, (vocabulary,) bool: one unbroken chain."""
        if self.grammar is None:
            return self.layout.allowed(self.step, self.length)
        ids, spacing = self.grammar.ids, self.layout.spacing
        most = self.length or self.layout.longest
        may = np.zeros(len(self.layout), bool)
        may[: len(ids)] = self.grammar.allowed()
        may[[UNK, BREAK, *([ids.gap] if ids.motions else [])]] = False
        if self.grammar.head:
            reached = (self.grammar.codes[-1] + 1) * spacing
            may[ids.key : ids.link] &= reached < most
            may[ids.then] &= self.length is None or reached >= most
            return may
        may[len(SPECIALS) : ids.gap] &= self.grammar.residues < most
        if self.length is not None:
            ends = self.grammar.residues == most
            may[EOS] &= ends
            # The code of a block that is not full ends the chain.
            may[ids.key : ids.link] &= ends or self.grammar.block == spacing
        return may
