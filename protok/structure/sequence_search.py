"""Which sequences are alike: shared words on a diagonal, then an alignment in a band around it.

Needs nothing beyond biotite. For some ten thousand chains; what is less alike than about 30 % is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

#: Raw BLOSUM62 score of a gapless diagonal from which on a pair is aligned; among 250 by 250
#: random residues one pair in twenty reaches it.
DIAGONAL = 38
#: A diagonal ends where its score falls this far below its best.
DROP = 20
#: Width of the band to each side of the diagonal.
BAND = 64


@dataclass(frozen=True, eq=False)
class Match:
    """An alignment of two sequences.

    Attributes
    ----------
    pairs : (n, 2)
        Positions that stand below one another.
    identity
        Share of them that are the same residue.
    covered
        Share of each sequence between the first and the last.
    """

    pairs: np.ndarray
    identity: float
    covered: tuple[float, float]


class WordIndex:
    """Sequences, by their words.

    Parameters
    ----------
    sequences
        One-letter residues; X matches nothing.
    word
        Residues of a word: the longer, the faster, and the more alike what is found.
    candidates
        Diagonals that are scored for one, those with most words first; bounds the time.
    """

    def __init__(self, sequences: Sequence[str], *, word: int = 3, candidates: int = 300):
        from biotite.sequence import ProteinSequence
        from biotite.sequence.align import KmerTable, SubstitutionMatrix  # pyright: ignore[reportAttributeAccessIssue]: compiled, without a stub

        self._chains = [ProteinSequence(s) for s in sequences]
        self._unknown = [np.array([r == "X" for r in s], bool) for s in sequences]
        self._word, self._candidates = word, candidates
        self._matrix = SubstitutionMatrix.std_protein_matrix()
        self._score = _scorer(self._matrix)
        long = [n for n, s in enumerate(sequences) if len(s) >= word]
        self._table = None
        if long:
            chains, unknown = ([part[n] for n in long] for part in (self._chains, self._unknown))
            self._table = KmerTable.from_sequences(word, chains, ref_ids=long, ignore_masks=unknown)

    def near(self, n: int, skip: Callable[[int], bool] = lambda other: False) -> list[tuple[int, int]]:
        """Sequences before sequence n that may be like it, with the diagonal of each, best first.

        They have two words on one diagonal, which scores along it without gaps (BLOSUM62). Those for which
        `skip(other)` holds are not scored.
        """
        if self._table is None or len(self._chains[n]) < self._word:
            return []
        hits = self._table.match(self._chains[n], ignore_mask=self._unknown[n])
        hits = hits[hits[:, 1] < n].astype(np.int64)
        wide = 1 << 20
        key = hits[:, 1] * wide + hits[:, 2] - hits[:, 0] + wide // 2
        _, first, words = np.unique(key, return_index=True, return_counts=True)
        order = np.argsort(-words, kind="stable")
        order = order[words[order] > 1][: self._candidates]
        best: dict[int, tuple[int, int]] = {}
        for here, other, there in hits[first[order]].tolist():
            if skip(other):
                continue
            points = self._score(self._chains[n], self._chains[other], (here, there))
            if points >= DIAGONAL and points > best.get(other, (0, 0))[0]:
                best[other] = points, there - here
        ranked = sorted(best.items(), key=lambda item: -item[1][0])
        return [(other, diagonal) for other, (_, diagonal) in ranked]

    def align(self, n: int, other: int, diagonal: int) -> Match:
        """The best local alignment around a diagonal, with gaps."""
        from biotite.sequence.align import align_banded  # pyright: ignore[reportAttributeAccessIssue]: compiled, without a stub

        first, second = self._chains[n], self._chains[other]
        alignment = align_banded(
            first,
            second,
            matrix=self._matrix,
            band=(diagonal - BAND, diagonal + BAND),
            gap_penalty=(-11, -1),
            local=True,
            max_number=1,
        )[0]
        pairs = alignment.trace[(alignment.trace >= 0).all(axis=1)]
        span = pairs[-1] - pairs[0] + 1
        same = first.code[pairs[:, 0]] == second.code[pairs[:, 1]]
        return Match(pairs, float(same.mean()), (span[0] / len(first), span[1] / len(second)))


def _scorer(matrix) -> Callable:
    """Score of two sequences from a seed, a pair of positions, along its diagonal."""
    try:
        from biotite.sequence.align import SeedExtension  # pyright: ignore[reportAttributeAccessIssue]: compiled, without a stub
    except ImportError:  # biotite 1
        from biotite.sequence.align import align_local_ungapped  # pyright: ignore[reportAttributeAccessIssue]: compiled, without a stub

        return partial(_ungapped, align_local_ungapped, matrix)
    extension = SeedExtension(matrix, DROP)
    return lambda first, other, seed: extension.align(first, other, seed, score_only=True)


def _ungapped(align, matrix, first, other, seed) -> int:
    return align(first, other, matrix, seed, DROP, score_only=True)
