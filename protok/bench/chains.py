"""What adapters of structure encoders share: states chain by chain, and a name for the weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import numpy as np

from protok.structure.backbone import Backbone


def embed_chains(
    backbone: Backbone, there: np.ndarray, width: int, states: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """(L, width) float32 states of residues, each chain by itself.

    Parameters
    ----------
    backbone
        The structure.
    there : (L,) bool
        Residues that the encoder sees; all others are NaN.
    width
        Numbers a residue.
    states
        From the row numbers of one chain, (n,), to its states, (n, width).
    """
    out = np.full((len(backbone), width), np.nan, np.float32)
    for chain in backbone.chains:
        rows = np.flatnonzero(there & (backbone.chain == chain))
        if len(rows):
            out[rows] = states(rows)
    return out


def fingerprint(name: str, parts: Iterable[bytes]) -> str:
    """``name@digest`` of a name and of the bytes of weights."""
    digest = hashlib.sha256(name.encode())
    for part in parts:
        digest.update(part)
    return f"{name}@{digest.hexdigest()[:8]}"
