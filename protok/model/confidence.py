"""The confidence of decoded residues: what the refiner expects of each, among its neighbours."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from protok.structure.metrics import LDDT_RADIUS

#: Neighbours of a residue on average, beyond which what is decoded is no protein and pairs would fill the
#: memory: codes that mean nothing may lay all residues in one place. Real chains have up to 200.
CROWDED = 500
#: Times that a residue counts among its neighbours; tuned on validation chains, where 5 to 15 are alike.
OWN = 15


def among_neighbours(ca: Float[np.ndarray, "n 3"], own: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Mean over the residues around each, itself counted `OWN` times; `own` where all lie in a heap.

    The refiner sees a stretch of chain. The lDDT of a residue is also lost by those near it in space,
    wherever they are along the chain or in another chain.
    """
    from scipy.spatial import KDTree

    tree = KDTree(ca)
    if tree.count_neighbors(tree, LDDT_RADIUS) > CROWDED * len(ca):
        return own
    pairs = tree.query_pairs(LDDT_RADIUS, output_type="ndarray")
    first, second = pairs.T
    total, count = OWN * own.astype(np.float64), np.full(len(ca), float(OWN))
    for here, there in ((first, second), (second, first)):
        total += np.bincount(here, own[there], len(ca))
        count += np.bincount(here, minlength=len(ca))
    return (total / count).astype(np.float32)
