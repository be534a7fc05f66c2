"""How letters, keyframes and links of a structure stand in the row of ids that a language model reads.

Three layouts: ``letters`` alone; ``blocks``, in which the code of each keyframe follows the letters
of its block; ``keyframes-first``, coarse before fine. Runs of residues, and so the places of
keyframes, follow from missing letters, ``<break>`` between chains and ``<gap>`` inside one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protok.structure.backbone import AMINO_ACIDS
from protok.tokens.keyframes import LINK, LINK_SIZE, Keyframes

SPECIALS = ("<pad>", "<bos>", "<eos>", "<break>", "<mask>", "<unk>")
PAD, BOS, EOS, BREAK, MASK, UNK = range(len(SPECIALS))
LETTERS, BLOCKS, FIRST = LAYOUTS = ("letters", "blocks", "keyframes-first")
#: Ids beside letters and codes of keyframes: marks, and codes of links.
KEYED = 2 + LINK_SIZE
#: Residue types of pairs; the last is any other.
TYPES = AMINO_ACIDS + "X"


@dataclass(frozen=True)
class Row:
    """What a row of ids holds.

    Attributes
    ----------
    letters : (n,)
        Of residues, -1 where missing.
    sequence
        Their types, X where the row does not say them.
    lengths
        Residues of each chain.
    breaks
        Residues after a gap.
    codes
        Of keyframes, in their order, without the first of each run.
    links
        By the number of their run.
    environments : (n,)
        Second letters of residues, -1 where missing.
    """

    letters: np.ndarray
    sequence: str
    lengths: list[int]
    breaks: list[int]
    codes: list[int]
    links: dict[int, list[int]]
    environments: np.ndarray


@dataclass(frozen=True)
class Placed:
    """Ids of a row, and where they belong.

    Attributes
    ----------
    ids
        In the order of the row.
    residues
        Of each id its residue, counted from 0: of a letter, or with a keyframe or link; -1 at a mark.
    """

    ids: list[int]
    residues: list[int]


@dataclass(frozen=True)
class Ids:
    """The numbers of all kinds of ids; a later kind stands behind those that are there.

    Attributes
    ----------
    size, motions
        Letters, and codes of keyframes; 0 motions: no keyframes.
    spacing
        Residues a keyframe.
    pairs
        Whether a letter and a residue type are one id (as in SaProt, Su et al. 2024).
    layout
        One of `LAYOUTS`.
    environments
        Second letters, of which one follows each letter; 0 for none.
    """

    size: int
    motions: int
    spacing: int
    pairs: bool
    layout: str
    environments: int = 0

    @property
    def gap(self) -> int:
        """Between two runs of a chain that no missing letter parts."""
        return len(SPECIALS) + (len(TYPES) * (self.size + 1) if self.pairs else self.size)

    @property
    def then(self) -> int:
        """Between keyframes and letters, where they come first."""
        return self.gap + 1

    @property
    def key(self) -> int:
        """The first keyframe code."""
        return self.gap + 2

    @property
    def link(self) -> int:
        """The first code of a link."""
        return self.key + self.motions

    @property
    def around(self) -> int:
        """The first environment letter: a further alphabet stands behind all others."""
        return self.link + LINK_SIZE if self.motions else self.gap

    def __len__(self) -> int:
        return self.around + self.environments

    def kinds(self) -> dict[str, range]:
        """Ids of each kind of code that there is: letters, keyframes, links, environments."""
        kinds = {"letters": range(len(SPECIALS), self.gap)}
        if self.motions:
            kinds |= {"keyframes": range(self.key, self.link)}
            kinds |= {"links": range(self.link, self.link + LINK_SIZE)}
        if self.environments:
            kinds["environments"] = range(self.around, len(self))
        return kinds

    def names(self) -> list[str]:
        """Of all ids."""
        letters = [*map(str, range(self.size))]
        if self.pairs:
            names = [f"<{kind}{letter}>" for kind in TYPES for letter in (*letters, "#")]
        else:
            names = [f"<s{letter}>" for letter in letters]
        if self.motions:
            names += ["<gap>", "<letters>", *(f"<k{i}>" for i in range(self.motions))]
            names += [f"<l{i}>" for i in range(LINK_SIZE)]
        return [*SPECIALS, *names, *(f"<e{i}>" for i in range(self.environments))]

    def of_letters(self, letters: np.ndarray, sequence: str) -> list[int]:
        """Of residues."""
        if not self.pairs:
            return np.where(letters < 0, UNK, letters + len(SPECIALS)).tolist()
        kinds = np.array([TYPES.find(kind) for kind in sequence], int) % len(TYPES)
        return (len(SPECIALS) + kinds * (self.size + 1) + np.where(letters < 0, self.size, letters)).tolist()

    def letter(self, number: int) -> tuple[int, str] | None:
        """Letter (-1: missing) and residue type of an id; None if it is another kind."""
        if number in (UNK, MASK):
            return -1, TYPES[-1]
        if not len(SPECIALS) <= number < self.gap:
            return None
        if not self.pairs:
            return number - len(SPECIALS), TYPES[-1]
        kind, letter = divmod(number - len(SPECIALS), self.size + 1)
        return (-1 if letter == self.size else letter), TYPES[kind]

    def write(
        self,
        letters: np.ndarray,
        sequence: str,
        chain: np.ndarray,
        frames: Keyframes | None,
        around: np.ndarray | None = None,
    ) -> Placed:
        """The row of residues of which those of a chain stand together.

        Parameters
        ----------
        frames
            At the places of `Keyframes.laid`; None where there are none.
        around
            Second letters; None where there are none.
        """
        ids = self.of_letters(letters, sequence)
        beside = np.full(len(ids), -1) if around is None else np.where(letters < 0, -1, around)
        before = {i: [(BREAK, -1)] for i in range(1, len(ids)) if chain[i] != chain[i - 1]}
        after: dict[int, list[tuple[int, int]]] = {}
        head: list[tuple[int, int]] = []
        runs = [] if frames is None else self._codes(frames, letters)
        for number, (start, stop, codes) in enumerate(runs):
            if start and letters[start - 1] >= 0 and start not in before:
                before[start] = [(self.gap, -1)]
            if self.layout == FIRST:
                head += [(self.gap, -1)] * (number > 0) + sum(codes, [])
                continue
            for block, code in enumerate(codes):
                after[min(start + (block + 1) * self.spacing, stop) - 1] = code
        if frames is not None and self.layout == FIRST:
            head.append((self.then, -1))
        second = [[(self.around + letter, i)] * (letter >= 0) for i, letter in enumerate(beside.tolist())]
        body = (
            part
            for i, own in enumerate(ids)
            for part in (*before.get(i, ()), (own, i), *second[i], *after.get(i, ()))
        )
        return Placed(*map(list, zip(*head, *body, strict=True))) if ids or head else Placed([], [])

    def _codes(
        self, frames: Keyframes, letters: np.ndarray
    ) -> list[tuple[int, int, list[list[tuple[int, int]]]]]:
        """First residue of each run, the one after its last, and of each of its keyframes the ids, with
        its residue."""
        ends = np.append(np.flatnonzero(letters < 0), len(letters))
        stops = np.minimum(
            np.append(frames.start, len(letters))[1:], ends[np.searchsorted(ends, frames.start)]
        )
        runs = []
        for number, (start, stop) in enumerate(zip(frames.start.tolist(), stops.tolist(), strict=True)):
            mine = slice(*np.searchsorted(frames.place, [start, stop]))
            places = frames.place[mine].tolist()
            stored = zip(frames.code[mine].tolist(), places, strict=True)
            codes = [[(self.key + code, place)] for code, place in stored]
            # The first run hangs on none of this row.
            link = frames.link[number].tolist() if number else ()
            codes[0] = [(self.link + code, places[0]) for code in link if code >= 0]
            runs.append((start, stop, codes))
        return runs

    def read(self, ids: Sequence[int]) -> Row:
        """What a row says, whatever its order; whether that is right `write` tells.

        Raises
        ------
        ValueError
            If a link is cut, or stands where no run begins, or a second letter follows no letter.
        """
        letters: list[int] = []
        second: list[int] = []
        kinds: list[str] = []
        lengths, breaks, codes = [0], [], []
        links: dict[int, list[int]] = {}
        first = self.then in ids
        run, fresh = (0, False) if first else (-1, True)
        for number in ids:
            residue = self.letter(number)
            if residue is not None:
                letters.append(residue[0])
                second.append(-1)
                kinds.append(residue[1])
                lengths[-1] += 1
                run += fresh and residue[0] >= 0
                fresh = residue[0] < 0
            elif number == BREAK:
                lengths.append(0)
                fresh = True
            elif number >= self.around:
                if not letters or letters[-1] < 0 or second[-1] >= 0:
                    raise ValueError("an environment letter does not follow a letter")
                second[-1] = number - self.around
            elif number == self.gap and first:
                run += 1
            elif number == self.gap:
                breaks.append(len(letters))
                fresh = True
            elif number == self.then:
                run, fresh, first = -1, True, False
            elif number >= self.link:
                links.setdefault(run, []).append(number - self.link)
            else:
                codes.append(number - self.key)
        if any(at < 1 or len(link) != LINK for at, link in links.items()):
            raise ValueError("a link is cut, or the first run has one")
        around = np.array(second, int)
        lengths = [n for n in lengths if n]
        return Row(np.array(letters, int), "".join(kinds), lengths, breaks, codes, links, around)


class Grammar:
    """What may stand next in a row of ids that is being written.

    A row of nothing else but what `allowed` says, up to ``<eos>``, can be read and decoded.

    Parameters
    ----------
    ids
        Of the vocabulary.
    """

    def __init__(self, ids: Ids):
        self.ids = ids
        self.head = bool(ids.motions) and ids.layout == FIRST
        #: Keyframe codes of each run, where they stand first.
        self.codes = [0]
        self.run, self.inside = -1, False
        self.residues = self.in_chain = self.in_run = 0
        self.block = self.blocks = self.link = 0
        self.closed = False
        #: Whether the letter that was last waits for its second.
        self.waits = False
        self.last = BOS

    def push(self, number: int) -> None:
        """Go on with an id that is allowed."""
        ids, residue = self.ids, self.ids.letter(number)
        self.waits = bool(ids.environments) and residue is not None and residue[0] >= 0
        if ids.environments and number >= ids.around:
            return
        self.last = number
        if residue is not None:
            self.residues += 1
            self.in_chain += 1
        if self.head:
            if number == ids.then:
                self.head = False
            elif number == ids.gap:
                self.codes.append(0)
                self.link = 0
            elif number >= ids.link:
                self.link += 1
            else:
                self.codes[-1] += 1
        elif residue is not None and residue[0] >= 0:
            if not self.inside:
                self.run, self.inside = self.run + 1, True
                self.block = self.blocks = self.link = self.in_run = 0
                self.closed = False
            elif self.block == ids.spacing:
                self.block, self.blocks, self.closed, self.link = 0, self.blocks + 1, False, 0
            self.block += 1
            self.in_run += 1
        elif number in (BREAK, ids.gap) or residue is not None:
            self.inside = False
            self.link = 0
            self.in_chain = 0 if number == BREAK else self.in_chain
        elif number >= ids.link:
            self.link += 1
        else:
            self.closed = True

    def allowed(self) -> np.ndarray:
        """Which ids may be next, (all,) bool."""
        ids, may = self.ids, np.zeros(len(self.ids), bool)
        if self.waits:
            may[ids.around :] = True
            return may
        linking = 0 < self.link < LINK
        if self.head:
            may[ids.link : ids.around] = linking or self.last == ids.gap
            may[ids.key : ids.link] = not linking
            may[[ids.gap, ids.then]] = not linking
            return may
        left = len(self.codes) - 1 - self.run
        first = bool(ids.motions) and ids.layout == FIRST
        goes_on = ends = True
        if self.inside and first:
            goes_on = self.in_run < (self.codes[self.run] + 1) * ids.spacing
            ends = self.in_run > self.codes[self.run] * ids.spacing
        elif self.inside and ids.motions:
            due = self.blocks > 0 and not self.closed
            full = self.block == ids.spacing
            goes_on = not linking and (not due if full else not self.closed and not self.link)
            ends = not linking and not due
            may[ids.key : ids.link] = due
            may[ids.link : ids.around] = self.run > 0 and self.blocks == 0 and self.link < LINK
        elif first:
            goes_on = left > 0
        letters, missing = self._letters()
        may[letters] = goes_on
        may[missing] = ends and self.last != ids.gap
        over = ends and self.in_chain > 0 and self.last != ids.gap
        may[BREAK] = over
        # A head without codes may be that of one run or of none.
        may[EOS] = over and (not first or left == 0 or (self.run < 0 and self.codes == [0]))
        if ids.motions:
            may[ids.gap] = self.inside and over and (not first or left > 0)
        return may

    def _letters(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids of letters, and of residues without one."""
        every = np.arange(len(SPECIALS), self.ids.gap)
        if not self.ids.pairs:
            return every, np.array([UNK])
        missing = (every - len(SPECIALS)) % (self.ids.size + 1) == self.ids.size
        return every[~missing], every[missing]
