"""How alike two strings of codes are, and two structures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from protok.analysis.database import Profile
from protok.analysis.substitution import Matrix, tm_alignment
from protok.tokens.tokens import Tokens

if TYPE_CHECKING:
    from protok.structure.backbone import Backbone

GAP = -10  # of the paper's protocol
#: Retrieval aligns locally, which needs scores that are negative on average and a dearer gap.
LOCAL_GAP = -60


class Aligner:
    """Local alignment of one chain with others (Smith & Waterman 1981, biotite's implementation).

    Parameters
    ----------
    query
        Tokens of one chain.
    matrices
        Of its codes, of its environments, or of both, `substitution.summands`: their scores add up, with the
        gaps of the first.

    Attributes
    ----------
    profiles : list of Profile
        Of the query, one a matrix.
    own : int
        What the query scores with itself, at least 1.
    """

    def __init__(self, query: Tokens, matrices: Sequence[Matrix]):
        self.profiles = [Profile(query.ids_of(matrix.codebook), matrix) for matrix in matrices]
        self.own = max(sum(profile.own for profile in self.profiles), 1)
        self._gap = matrices[0].gap

    def align(self, chain: Tokens) -> tuple[int, Int[np.ndarray, "n 2"]]:
        """Score and rows of both, -1 at gaps; 0 and no rows where nothing scores above 0."""
        first, *others = (profile.against(chain.ids_of(profile.codebook)) for profile in self.profiles)
        best = _optimal(sum(others, first), gap_penalty=self._gap, local=True)
        if not best or best[0].score <= 0 or not len(best[0].trace):
            return 0, np.empty((0, 2), int)
        return int(best[0].score), best[0].trace

    def normalised(self, score: int, chain: Tokens) -> float:
        """A score over the geometric mean of what both chains score with themselves: 1 for equal codes."""
        theirs = sum(profile.of_itself(chain.ids_of(profile.codebook)) for profile in self.profiles)
        return score / math.sqrt(self.own * max(theirs, 1))


def alignment_score(similarity: np.ndarray, *, gap: int = GAP, local: bool = False) -> int:
    """Best score of an alignment, with a linear gap penalty; terminal gaps are penalised too.

    Parameters
    ----------
    similarity : (n, m)
        Score of aligning residue i of one with residue j of the other; rounded to integers.
    gap
        Of a residue that is not aligned; negative.
    local
        Align the best matching stretches only.
    """
    n, m = similarity.shape
    if not n or not m:
        return 0 if local else gap * (n + m)
    best = _optimal(np.rint(similarity).astype(np.int32), gap_penalty=gap, local=local)
    return int(best[0].score) if best else 0


def _optimal(similarity: Int[np.ndarray, "n m"], **options: Any) -> list:
    """The best alignment by the scores of all pairs of residues: none or one of biotite's `Alignment`."""
    from biotite.sequence import align

    # Each residue is a letter of its own, so that scores of several alphabets can be added, and embeddings
    # be compared.
    rows, columns = map(_residues, similarity.shape)
    matrix = align.SubstitutionMatrix(rows.alphabet, columns.alphabet, similarity)
    return align.align_optimal(  # pyright: ignore[reportAttributeAccessIssue] (compiled, no stub)
        rows, columns, matrix, terminal_penalty=True, max_number=1, **options
    )


@lru_cache(maxsize=1024)
def _residues(n: int) -> Any:
    import biotite.sequence as seq

    sequence = seq.GeneralSequence(seq.Alphabet(range(n)))
    sequence.code = np.arange(n)
    return sequence


def tm_align(first: Backbone, second: Backbone) -> float:
    """TM-score of two Backbones of any lengths: the mean of TM-align's two normalisations.

    Raises
    ------
    MissingExtra
        Without `tmtools`.
    """
    return tm_alignment(first, second)[0]
