"""Fewer letters for many: classes of codes that keep most of what homologs tell of one another."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def mutual_information(joint: Float[np.ndarray, "k k"]) -> float:
    """Bits that one of two labels tells of the other, from counts of pairs."""
    joint = joint / joint.sum()
    expected = np.outer(joint.sum(1), joint.sum(0))
    seen = joint > 0
    return float((joint[seen] * np.log2(joint[seen] / expected[seen])).sum())


def classes_of(joint: Float[np.ndarray, "k k"], count: int) -> Int[np.ndarray, "k"]:
    """Class of each code, 0 to count - 1, the most frequent class first.

    The two classes whose union loses least information are joined until so many are left (Slonim & Tishby
    1999, agglomerative information bottleneck).

    Parameters
    ----------
    joint
        How often two codes are aligned in homologs; symmetric, every code occurs.
    count
        Classes, at least one and at most as many as codes.
    """
    if not 1 <= count <= len(joint):
        raise ValueError(f"{count} classes of {len(joint)} codes")
    joint = joint / joint.sum()
    groups = [[code] for code in range(len(joint))]
    while len(groups) > count:
        i, j = _cheapest(joint)
        joint[i] += joint[j]
        joint[:, i] += joint[:, j]
        joint = np.delete(np.delete(joint, j, 0), j, 1)
        groups[i] += groups.pop(j)
    out = np.empty(sum(map(len, groups)), int)
    for number, group in enumerate(np.argsort(-joint.sum(0), kind="stable").tolist()):
        out[groups[group]] = number
    return out


def merged(joint: Float[np.ndarray, "k k"], classes: Int[np.ndarray, "k"]) -> Float[np.ndarray, "c c"]:
    """How often two classes are aligned."""
    member = np.eye(classes.max() + 1)[classes]
    return member.T @ joint @ member


def _cheapest(joint: np.ndarray) -> tuple[int, int]:
    """The two rows whose union loses least: the weighted divergence of what each is aligned with."""
    weight = joint.sum(1)
    rows = joint / weight[:, None]
    cost = np.full(joint.shape, np.inf)
    for i in range(len(joint) - 1):
        pair = weight[i] + weight[i + 1 :]
        shares = np.stack([weight[i] / pair, weight[i + 1 :] / pair])
        mean = shares[0][:, None] * rows[i] + shares[1][:, None] * rows[i + 1 :]
        own = _divergence(np.broadcast_to(rows[i], mean.shape), mean)
        cost[i, i + 1 :] = pair * (shares[0] * own + shares[1] * _divergence(rows[i + 1 :], mean))
    i, j = np.unravel_index(int(cost.argmin()), cost.shape)
    return int(i), int(j)


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.where(p > 0, p * np.log2(np.where(p > 0, p, 1) / np.where(q > 0, q, 1)), 0).sum(1)
