"""What contracts of tokenizers compare: ids, rows and labels of residues."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from protok.structure.backbone import Backbone
from protok.testing.requirement import require
from protok.tokenizers.protocol import Tokenizer
from protok.tokens.tokens import Tokens


def require_rows(z: np.ndarray, missing: np.ndarray, verb: str) -> None:
    """Require a row for each residue, NaN exactly where it is missing."""
    require(z.ndim == 2 and len(z) == len(missing), f"{verb} of {len(missing)} residues has shape {z.shape}")
    wrong = int((np.isnan(z).any(axis=1) != missing).sum())
    require(not wrong, f"{wrong} of {len(z)} rows of {verb} are NaN with a code, or not without")


def differences(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """How many of two (L,) ids differ, and how many are coded in either."""
    a, b = np.asarray(a), np.asarray(b)
    require(a.shape == b.shape, f"{a.shape} ids where {b.shape} were expected")
    return int((a != b).sum()), int(((a >= 0) | (b >= 0)).sum())


def require_same(a: np.ndarray, b: np.ndarray, otherwise: str) -> None:
    """Require equal ids, (L,) each."""
    different, n = differences(a, b)
    require(not different, f"{different} of {n} codes {otherwise}")


def require_few(changed: int, total: int, share: float, what: str) -> None:
    """Require that at most a share of the codes is changed."""
    words = f"{what} {changed} of {total} codes ({changed / total:.2%}, allowed are {share:.2%})"
    require(changed <= share * total, words)


def require_labels(result: Backbone | Tokens, structure: Backbone, otherwise: str) -> None:
    """Require that residues keep their letters, chains and numbers."""
    for key in ("sequence", "chain", "index", "icode"):
        same = np.array_equal(getattr(result, key), getattr(structure, key))
        require(same, f"{otherwise} {key}")


def count_changed(
    tokenizer: Tokenizer, structures: Sequence[Backbone], others: Sequence[Sequence[Backbone]]
) -> tuple[int, int]:
    """Sum of `differences` between the encoding of each structure and of its other forms."""
    changed = total = 0
    for s, forms in zip(structures, others, strict=True):
        ids = tokenizer.encode(s).ids
        for form in forms:
            different, n = differences(ids, tokenizer.encode(form).ids)
            changed, total = changed + different, total + n
    require(total > 0, "none of the structures has any code")
    return changed, total


def largest(difference: np.ndarray) -> float:
    """The largest difference of coordinates, whatever its sign; 0 where there is none."""
    return float(np.nanmax(np.abs(difference), initial=0.0))


@contextlib.contextmanager
def other_random_state() -> Iterator[None]:
    """Other states of the global random generators, restored afterwards."""
    states = random.getstate(), np.random.get_state()
    random.seed(987)
    np.random.seed(987)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(987)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
