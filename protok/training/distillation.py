"""A side task of training: to say of each residue what another model's hidden state says of it.

A teacher that was trained for something else, on more, knows things of a residue that rebuilding
coordinates does not ask for. Linear heads, thrown away after the training, must predict its states
from encoder states, code vectors or decoder states: the hints of Romero et al. 2015 (FitNets,
arXiv 1412.6550). `recipes.teacher_states` writes the states of a teacher for the chains of a store.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from protok.common.arrays import read_arrays
from protok.common.files import atomic
from protok.common.settings import RecipeError
from protok.structure.store import Store

#: Chains from which mean and spread of what is around residues are estimated, at most.
SAMPLE = 400


class Teacher:
    """What another model's states say of the residues of a store, standardised.

    Parameters
    ----------
    name
        Of the model, with the fingerprint of its weights.
    states : (n, t) float16
        All residues end to end as in the store, NaN where the teacher says nothing.
    store
        The chains.
    distill_radii
        Radii in Å. For each the mean state of all residues with CA within it is told besides.
    """

    def __init__(self, name: str, states: np.ndarray, store: Store, distill_radii: tuple[float, ...] = ()):
        self.name, self.states, self.store, self.distill_radii = name, states, store, distill_radii
        step = -(-len(store) // SAMPLE)
        seen = np.concatenate([self._raw(i) for i in range(0, len(store), step)])
        seen = seen[np.isfinite(seen).all(1)]
        self.mean, self.spread = seen.mean(0), seen.std(0) + 1e-6
        # Its own states are all at hand; only means around residues must be estimated.
        own, known = states.shape[1], states[np.isfinite(states).all(1)]
        self.mean[:own] = known.mean(0, dtype=np.float64)
        self.spread[:own] = known.std(0, dtype=np.float64).astype(np.float32) + 1e-6

    @property
    def widths(self) -> tuple[int, int]:
        """Numbers a residue of its own state, and of all that is told of it."""
        return self.states.shape[1], len(self.mean)

    def targets(self, chain: int, begin: int, stop: int) -> Float[Tensor, "l w"]:
        """What is said of residues of a chain: first their own states; NaN where nothing is."""
        return torch.from_numpy((self._raw(chain)[begin:stop] - self.mean) / self.spread)

    def _raw(self, chain: int) -> np.ndarray:
        own = self.states[self.store.start[chain] : self.store.start[chain + 1]].astype(np.float32)
        ca = self.store.coords(chain)[:, 1]
        known = np.logical_and(np.isfinite(own).all(1), np.isfinite(ca).all(1))
        parts = [np.where(known[:, None], own, np.float32(np.nan))]
        if self.distill_radii:
            held, ca = np.where(known[:, None], own, 0), np.where(known[:, None], ca, 0)
            apart = np.square(ca[:, None] - ca).sum(-1)
            for radius in self.distill_radii:
                near = ((apart < radius**2) & known).astype(np.float32)
                parts.append(near @ held / np.maximum(near.sum(1, keepdims=True), 1))
        return np.concatenate(parts, axis=1)


def write_teacher(path: str | Path, name: str, states: list[np.ndarray], store: Store) -> None:
    """Write the states (l, t) of all chains of a store, in its order."""
    held = np.concatenate(states).astype(np.float16)
    with atomic(path, "wb") as handle:
        np.savez(handle, name=name, states=held, sha256=store.digest)


def read_teacher(path: str | Path, store: Store, distill_radii: tuple[float, ...] = ()) -> Teacher:
    """Read what `write_teacher` wrote.

    Raises
    ------
    RecipeError
        If it is no such file, or was written for another store.
    """
    try:
        held = read_arrays(path, ("name", "states", "sha256"))
        name, states, digest = str(held["name"]), held["states"], str(held["sha256"])
    except (OSError, KeyError, ValueError) as error:
        raise RecipeError(
            f"no states of a teacher ({error})",
            "write them with `python -m recipes.teacher_states`",
            file=str(path),
        ) from error
    if digest != store.digest or len(states) != len(store.xyz):
        raise RecipeError(
            "states of a teacher for other structures than data.train",
            "write them anew with `python -m recipes.teacher_states`",
            file=str(path),
        )
    return Teacher(name, states, store, distill_radii)
