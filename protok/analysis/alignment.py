"""How alike two strings of codes are, and two structures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protok.analysis.substitution import tm_alignment

if TYPE_CHECKING:
    from protok.structure.backbone import Backbone

GAP = -10  # of the paper's protocol
#: Retrieval aligns locally, which needs scores that are negative on average and a dearer gap.
LOCAL_GAP = -60


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
    import biotite.sequence as seq
    import biotite.sequence.align as align

    n, m = similarity.shape
    if not n or not m:
        return 0 if local else gap * (n + m)
    # Each residue is a letter of its own, so one code path serves codes and embeddings.
    rows, columns = (seq.GeneralSequence(seq.Alphabet(range(length)), range(length)) for length in (n, m))
    matrix = align.SubstitutionMatrix(rows.alphabet, columns.alphabet, np.rint(similarity).astype(np.int32))
    alignments = align.align_optimal(  # pyright: ignore[reportAttributeAccessIssue] (compiled, no stub)
        rows, columns, matrix, gap_penalty=gap, terminal_penalty=True, local=local, max_number=1
    )
    return int(alignments[0].score) if alignments else 0


def tm_align(first: Backbone, second: Backbone) -> float:
    """TM-score of two Backbones of any lengths: the mean of TM-align's two normalisations.

    Raises
    ------
    MissingExtra
        Without `tmtools`.
    """
    return tm_alignment(first, second)[0]
