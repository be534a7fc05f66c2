"""The confidence of decoded residues: what the refiner expects of each, among its neighbours."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from protok.structure.metrics import LDDT_RADIUS

#: Neighbours of a residue on average, beyond which what is decoded is no protein and pairs would fill the
#: memory: codes that mean nothing may lay all residues in one place. Real chains have 60, at most 200.
CROWDED = 500
#: Times that a residue counts among its neighbours (`python -m benchmarks.accuracy.confidence`).
OWN = 15


def among_neighbours(
    ca: Float[np.ndarray, "n 3"], own: Float[np.ndarray, "n"], group: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """Mean over the residues around each, itself counted `OWN` times.

    The refiner sees a stretch of chain. The lDDT of a residue is also lost by those near it in space,
    wherever they are along the chain or in another chain.

    Parameters
    ----------
    ca, own
        Places in Å, and what the refiner expects of each residue.
    group
        Residues of one group lie as they should to one another; those of others are no neighbours.

    Returns
    -------
    `own` itself where a place is not finite, or where all lie in a heap.
    """
    from scipy.spatial import KDTree

    if not np.isfinite(ca).all():
        return own
    # Groups are far apart in a dimension of their own.
    tree = KDTree(np.column_stack([ca, 2 * LDDT_RADIUS * group]))
    if tree.count_neighbors(tree, LDDT_RADIUS) > CROWDED * len(ca):
        return own
    pairs = tree.query_pairs(LDDT_RADIUS, output_type="ndarray")
    first, second = pairs.T
    total, count = OWN * own.astype(np.float64), np.full(len(ca), float(OWN))
    for here, there in ((first, second), (second, first)):
        total += np.bincount(here, own[there], len(ca))
        count += np.bincount(here, minlength=len(ca))
    return (total / count).astype(np.float32)
