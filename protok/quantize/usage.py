"""How evenly codes are used. Needs no torch, so that commands that only count start at once."""

from __future__ import annotations

from typing import Any

import numpy as np


def perplexity(weights: Any) -> float:
    """exp(entropy) of weights of any sum: how many of them count; 0 where all are 0.

    Parameters
    ----------
    weights : array or tensor
        Counts or shares, of any shape, not negative.
    """
    p = _array(weights)
    p = p[p > 0]
    if not len(p):
        return 0.0
    p = p / p.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def share_used(counts: Any) -> float:
    """Share of the codes that occur at all."""
    return float((_array(counts) > 0).mean())


def _array(values: Any) -> np.ndarray:
    """Any array or tensor, on whatever device, as float64."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double()
    return np.asarray(values, np.float64)
