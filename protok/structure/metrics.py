"""How alike are two Backbones: RMSD, TM-score and lDDT with known correspondence.

Residue i of the model stands for residue i of the reference, so nothing is aligned
by sequence. Used are the residues whose CA is present in both (for the backbone
RMSD: N, CA and C); where there is none, the result is NaN.

Either may be a Backbone, or whatever `protok.as_backbone` takes.

Chains are superposed all together, so that a complex must be right as a whole, or with
`each_chain` one by one, which is all that can be asked of codes that do not say where chains lie.
Superpositions are proper rotations: a mirror image does not fit its original.
lDDT compares distances only and therefore cannot tell a mirror image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from protok.structure.backbone import Backbone

LDDT_RADIUS = 15.0
LDDT_THRESHOLDS = (0.5, 1.0, 2.0, 4.0)

# The search of the TM-score program: fragments of the full length, four times halved,
# then of 4 residues; at most 20 rounds of refinement each.
_HALVINGS = 5
_SHORTEST = 4
_ROUNDS = 20
# The program starts a fragment at every residue. Beyond this many starts a length they
# are spread evenly: in long chains neighbouring fragments end in the same superposition.
_STARTS = 200
# Distances held at a time (float64): bounds memory for any length.
_BLOCK = 1_000_000


@dataclass(frozen=True)
class Comparison:
    """The scores of one model against its reference.

    Attributes
    ----------
    n : int
        Residues with CA in both.
    rmsd : float
        CA RMSD in Å.
    tm_score : float
        In (0, 1], normalised by the residues with CA in the reference.
    lddt : float
        CA lDDT in [0, 1].
    chains : int
        Of the reference.
    each_chain : bool
        Whether chains were compared one by one.
    """

    n: int
    rmsd: float
    tm_score: float
    lddt: float
    chains: int = 1
    each_chain: bool = False

    def __str__(self) -> str:
        how = ""
        if self.chains > 1:
            how = f" of {self.chains} chains superposed {'one by one' if self.each_chain else 'together'}"
        scores = f"RMSD {self.rmsd:.2f} Å, TM-score {self.tm_score:.3f}, lDDT {self.lddt:.3f}"
        return f"{self.n} residues{how}, {scores}"


def rmsd(model: Any, reference: Any, atoms: str = "CA", *, each_chain: bool = False) -> float:
    """Root mean square deviation after the best superposition.

    Parameters
    ----------
    model, reference
        Backbones of equal length.
    atoms : {"CA", "backbone"}
        Compare CA atoms, or N, CA and C together.
    each_chain
        Superpose chains one by one, not all together.

    Returns
    -------
    float
        RMSD in Å; NaN if no residue has the atoms in both.

    Raises
    ------
    ValueError
        If the lengths differ or `atoms` is neither of the two.

    Notes
    -----
    The rotation is the eigenvector of the largest eigenvalue of Horn's quaternion matrix
    (J. Opt. Soc. Am. A 4, 629, 1987), which is never a reflection.
    """
    if atoms not in ("CA", "backbone"):
        raise ValueError(f"atoms must be 'CA' or 'backbone', not {atoms!r}")
    model, reference = _backbones(model, reference)
    picked = slice(1, 2) if atoms == "CA" else slice(0, 3)
    x, y, common = _common(model, reference, picked)
    if not len(x):
        return float("nan")
    squares = 0.0
    for rows in _parts(reference, common, each_chain):
        # The sums of products lose digits far from the origin.
        a, b = (p - p.mean(axis=0) for p in (x[rows].reshape(-1, 3), y[rows].reshape(-1, 3)))
        rotation, shift = _superpose(_moments(a, b).sum(axis=0)[None])
        squares += ((a @ rotation[0].T + shift[0] - b) ** 2).sum()
    return float(np.sqrt(squares / (x.shape[0] * x.shape[1])))


def tm_score(model: Any, reference: Any, *, each_chain: bool = False) -> float:
    """TM-score with known correspondence.

    Parameters
    ----------
    model, reference
        Backbones of equal length.
    each_chain
        The mean over chains, each superposed by itself and counting by its length.

    Returns
    -------
    float
        Σ 1 / (1 + (d_i / d0)²) / L over the residues with CA in both, for the best
        superposition found; L is the number of residues with CA in the reference and
        d0 = 1.24 (L - 15)^(1/3) - 1.8 Å, at least 0.5 Å. In (0, 1], NaN if no residue
        has CA in both.

    Raises
    ------
    ValueError
        If the lengths differ.

    Notes
    -----
    Zhang & Skolnick, Proteins 57, 702 (2004). The maximum is searched as in their
    TM-score program: superpose fragments of the full length L, L/2, L/4, L/8, L/16 and
    4 residues; take the residues that come to lie close, superpose those, and again
    until the set no longer changes. Like there the result is a lower bound of the true
    maximum. Up to 200 residues a fragment starts at every residue; beyond, 200 starts a
    fragment length are spread evenly over the chain.
    """
    model, reference = _backbones(model, reference)
    x, y, common = _common(model, reference, slice(1, 2))
    there = np.isfinite(reference.coords[:, 1]).all(axis=1)
    if not each_chain:
        return _tm_score(x[:, 0], y[:, 0], int(there.sum()))
    total = 0.0
    for rows in _parts(reference, common, True):
        own = there & (reference.chain == reference.chain[np.flatnonzero(common)[rows[0]]])
        total += _tm_score(x[rows, 0], y[rows, 0], int(own.sum())) * own.sum()
    return float(total / there.sum()) if len(x) else float("nan")


def lddt(
    model: Any, reference: Any, per_residue: bool = False, *, each_chain: bool = False
) -> float | np.ndarray:
    """Local distance difference test over CA atoms.

    Parameters
    ----------
    model, reference
        Backbones of equal length.
    per_residue
        Return one score a residue instead of the mean over all pairs.
    each_chain
        Only pairs of one chain count.

    Returns
    -------
    float or (L,) float32
        The share of CA-CA distances below 15 Å in the reference that the model keeps to
        within 0.5, 1, 2 and 4 Å, averaged over the four; in [0, 1]. NaN where a residue
        is missing in either or has no neighbour within 15 Å.

    Raises
    ------
    ValueError
        If the lengths differ.

    Notes
    -----
    Mariani et al., Bioinformatics 29, 2722 (2013), on CA atoms, without the
    stereochemical checks, and without separation in sequence. Pairs of different chains
    count. Residues that the model lacks are left out, not counted as wrong: `Comparison.n`
    says how many were compared.
    """
    model, reference = _backbones(model, reference)
    x, y, common = _common(model, reference, slice(1, 2))
    kept, pairs = np.zeros(len(x)), np.zeros(len(x))
    for rows in _parts(reference, common, each_chain):
        kept[rows], pairs[rows] = _lddt(x[rows, 0], y[rows, 0])
    if not per_residue:
        return float(kept.sum() / pairs.sum()) if pairs.sum() else float("nan")
    score = np.full(len(model), np.nan, np.float32)
    score[common] = np.where(pairs > 0, kept / np.maximum(pairs, 1), np.nan)
    return score


def compare(model: Any, reference: Any, *, each_chain: bool = False) -> Comparison:
    """CA RMSD, TM-score and lDDT of a model against its reference; what it prints says how.

    Parameters
    ----------
    model, reference
        Backbones of equal length.
    each_chain
        Compare chains one by one, not all together.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    model, reference = _backbones(model, reference)
    x, _, _ = _common(model, reference, slice(1, 2))
    return Comparison(
        n=len(x),
        rmsd=rmsd(model, reference, each_chain=each_chain),
        tm_score=tm_score(model, reference, each_chain=each_chain),
        lddt=float(lddt(model, reference, each_chain=each_chain)),
        chains=len(reference.chains),
        each_chain=each_chain,
    )


def superpose(model: Backbone, reference: Backbone, *, each_chain: bool = False) -> Backbone:
    """Move a model onto its reference, so that CA atoms come as near as they can (least squares).

    Parameters
    ----------
    model, reference
        Backbones of equal length.
    each_chain
        Move each chain by itself; one without a CA in both stays where it is.

    Returns
    -------
    Backbone
        The model with other coordinates.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    *_, common = _common(model, reference, slice(1, 2))
    coords = model.coords.copy()
    for chain in reference.chains if each_chain else [None]:
        rows = np.flatnonzero(reference.chain == chain) if each_chain else np.arange(len(reference))
        kept = rows[common[rows]]
        if len(kept):
            x, y = (structure.coords[kept, 1].astype(np.float64) for structure in (model, reference))
            middle = x.mean(axis=0), y.mean(axis=0)  # sums of products lose digits far away
            moments = _moments(x - middle[0], y - middle[1])
            rotation, shift = _superpose(moments.sum(axis=0)[None])
            coords[rows] = (coords[rows] - middle[0]) @ rotation[0].T + shift[0] + middle[1]
    return replace(model, coords=coords)


def _parts(reference: Backbone, common: np.ndarray, each_chain: bool) -> list[np.ndarray]:
    """Which of the residues in `common` are superposed together, by their number among these."""
    chain = reference.chain[common]
    if not each_chain or not len(chain):
        return [np.arange(len(chain))]
    return [np.flatnonzero(chain == name) for name in dict.fromkeys(chain.tolist())]


def _backbones(model: Any, reference: Any) -> tuple[Backbone, Backbone]:
    if isinstance(model, Backbone) and isinstance(reference, Backbone):
        return model, reference
    from protok.structure.io.interop import as_backbone

    return as_backbone(model), as_backbone(reference)


def _common(model: Backbone, reference: Backbone, atoms: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates (n, atoms, 3) of the residues complete in both, and their mask (L,)."""
    if len(model) != len(reference):
        raise ValueError(
            f"the model has {len(model)} residues and the reference {len(reference)}: "
            "scores compare residue by residue, so both must have the same"
        )
    x = model.coords[:, atoms].astype(np.float64)
    y = reference.coords[:, atoms].astype(np.float64)
    common = np.all(np.isfinite(x) & np.isfinite(y), axis=(1, 2))
    return x[common], y[common], common


def _moments(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, 16): 1, x, y and the products x_a y_b of each pair of points.

    Their sum over a set of pairs is all that superposing the set needs, so that many sets
    are superposed by one matrix product.
    """
    products = (x[:, :, None] * y[:, None, :]).reshape(-1, 9)
    return np.concatenate([np.ones((len(x), 1)), x, y, products], axis=1)


def _superpose(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best proper rotations (s, 3, 3) and shifts (s, 3) of x onto y for s sums of moments."""
    n = sums[:, :1]
    x_mean, y_mean = sums[:, 1:4] / n, sums[:, 4:7] / n
    c = sums[:, 7:].reshape(-1, 3, 3) - n[:, :, None] * x_mean[:, :, None] * y_mean[:, None, :]
    xx, xy, xz, yx, yy, yz, zx, zy, zz = c.reshape(-1, 9).T
    matrix = np.array(
        [
            [xx + yy + zz, yz - zy, zx - xz, xy - yx],
            [yz - zy, xx - yy - zz, xy + yx, zx + xz],
            [zx - xz, xy + yx, yy - xx - zz, yz + zy],
            [xy - yx, zx + xz, yz + zy, zz - xx - yy],
        ]
    ).transpose(2, 0, 1)
    w, i, j, k = np.linalg.eigh(matrix)[1][:, :, -1].T
    rotation = np.array(
        [
            [w * w + i * i - j * j - k * k, 2 * (i * j - w * k), 2 * (i * k + w * j)],
            [2 * (i * j + w * k), w * w - i * i + j * j - k * k, 2 * (j * k - w * i)],
            [2 * (i * k - w * j), 2 * (j * k + w * i), w * w - i * i - j * j + k * k],
        ]
    ).transpose(2, 0, 1)
    return rotation, y_mean - np.einsum("sab,sb->sa", rotation, x_mean)


def _tm_score(x: np.ndarray, y: np.ndarray, length: int) -> float:
    """TM-score of points x (n, 3) on y (n, 3), normalised by `length`."""
    n = len(x)
    if not n:
        return float("nan")
    d0 = max(0.5, 1.24 * np.cbrt(length - 15) - 1.8) if length > 15 else 0.5
    near = min(max(d0, 4.5), 8.0)
    x = x - x.mean(axis=0)
    y = y - y.mean(axis=0)
    moments = _moments(x, y)
    squares = (x**2).sum(axis=1) + (y**2).sum(axis=1)

    best = 0.0
    seen: set[bytes] = set()
    rows = max(1, _BLOCK // n)
    fragments = _fragments(n)
    for begin in range(0, len(fragments), rows):
        start, stop = fragments[begin : begin + rows].T
        position = np.arange(n)
        sets = (position >= start[:, None]) & (position < stop[:, None])
        for round_ in range(_ROUNDS + 1):
            rotation, shift = _superpose(sets @ moments)
            distance2 = _distances(rotation, shift, moments, squares)
            best = max(best, (1 / (1 + distance2 / d0**2)).sum(axis=1).max())
            sets = _close(distance2, near - 1 if round_ == 0 else near + 1)
            # A set that any fragment has led to before leads on to nothing new.
            keys = [row.tobytes() for row in np.packbits(sets, axis=1)]
            fresh = {key: row for row, key in enumerate(keys) if key not in seen}
            if not fresh:
                break
            seen.update(fresh)
            sets = sets[list(fresh.values())]
    return float(min(best / length, 1.0))


def _fragments(n: int) -> np.ndarray:
    """(s, 2): start and stop of the fragments that the search begins with."""
    shortest = min(_SHORTEST, n)
    lengths = [size for i in range(_HALVINGS) if (size := n >> i) > shortest] + [shortest]
    fragments = []
    for size in lengths:
        starts = np.linspace(0, n - size, min(n - size + 1, _STARTS)).round().astype(int)
        fragments.append(np.stack([starts, starts + size], axis=1))
    return np.concatenate(fragments)


def _distances(
    rotation: np.ndarray, shift: np.ndarray, moments: np.ndarray, squares: np.ndarray
) -> np.ndarray:
    """(s, n) squared distances |R x + t - y|², multiplied out into one matrix product."""
    weights = np.concatenate(
        [
            (shift**2).sum(axis=1, keepdims=True),
            2 * np.einsum("sba,sb->sa", rotation, shift),
            -2 * shift,
            -2 * rotation.transpose(0, 2, 1).reshape(-1, 9),
        ],
        axis=1,
    )
    return np.maximum(weights @ moments.T + squares, 0.0)


def _close(distance2: np.ndarray, cutoff: float) -> np.ndarray:
    """(s, n) bool: within the cutoff, widened by steps of 0.5 Å until three are."""
    sets = distance2 < cutoff**2
    n = distance2.shape[1]
    few = np.flatnonzero(sets.sum(axis=1) < min(3, n))
    if len(few):
        third = np.sqrt(np.partition(distance2[few], min(3, n) - 1, axis=1)[:, min(3, n) - 1])
        steps = np.floor(np.maximum(third - cutoff, 0.0) / 0.5) + 1
        sets[few] = distance2[few] < ((cutoff + 0.5 * steps) ** 2)[:, None]
    return sets


def _lddt(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kept share summed over the pairs of each point, and the number of its pairs."""
    n = len(x)
    kept, pairs = np.zeros(n), np.zeros(n)
    rows = max(1, _BLOCK // max(n, 1))
    for begin in range(0, n, rows):
        block = np.arange(begin, min(begin + rows, n))
        expected = np.sqrt(sum((y[block, None, axis] - y[:, axis]) ** 2 for axis in range(3)))
        inside = expected < LDDT_RADIUS
        inside[block - begin, block] = False
        row, column = np.nonzero(inside)
        distance = np.sqrt(((x[block[row]] - x[column]) ** 2).sum(axis=1))
        error = np.abs(distance - expected[row, column])
        share = sum((error <= threshold) for threshold in LDDT_THRESHOLDS) / len(LDDT_THRESHOLDS)
        kept[block] = np.bincount(row, weights=share, minlength=len(block))
        pairs[block] = np.bincount(row, minlength=len(block))
    return kept, pairs
