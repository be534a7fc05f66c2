"""Chains of a made-up codebook of 20 codes, and a matrix of it."""

from collections.abc import Sequence

import numpy as np

from protok.analysis.substitution import Matrix, of_codebook
from protok.structure.backbone import AMINO_ACIDS
from protok.tokens.environment import Environment
from protok.tokens.tokens import Tokens

TOY, AROUND = "toy@1", "around@1"


def toy_chain(ids: Sequence[int] | np.ndarray, name: str, around: np.ndarray | None = None) -> Tokens:
    """A chain A with an amino acid a code, X for none, with environments of another codebook if asked."""
    n = len(ids)
    return Tokens(
        ids=np.asarray(ids),
        size=20,
        codebook=TOY,
        sequence="".join((AMINO_ACIDS[:20] + "X")[i] for i in ids),
        chain=np.full(n, "A"),
        index=np.arange(n),
        icode=np.full(n, ""),
        name=name,
        environment=None if around is None else Environment(np.asarray(around), 20, AROUND),
    )


def toy_matrix() -> Matrix:
    """Scores of points of a plane of four dimensions."""
    return of_codebook(np.random.default_rng(0).normal(size=(20, 4)), TOY)
