"""What letters of environments are taught to tell, of the residues of a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from protok.structure.backbone import AMINO_ACIDS
from protok.structure.store import Store

#: Profiles are in parts of so many.
PARTS = 10_000
#: What brings square roots of accessibility and depth, and entropies in nats, to a spread of about one.
UNITS = (8.0, 8.0, 0.6)
#: Secondary structure as DSSP writes it.
DSSP = "BCEGHIST"


@dataclass
class Known:
    """Targets of some residues.

    Attributes
    ----------
    kind : (n,)
        Residue type, by `AMINO_ACIDS`; -1 where it is none of these.
    profile : (n, 20)
        Shares of residue types among relatives; 0 where unknown.
    surface : (n, 3)
        Accessibility, depth and entropy of the profile, in units of about one; NaN where unknown.
    fold : (n,)
        Secondary structure, by `DSSP`; -1 where unknown.
    states : (n, s)
        States of a teacher; NaN where unknown.
    """

    kind: Int[Tensor, "n"]
    profile: Float[Tensor, "n 20"]
    surface: Float[Tensor, "n 3"]
    fold: Int[Tensor, "n"]
    states: Float[Tensor, "n s"]


class Targets:
    """Targets of the residues of a store, which are numbered through.

    Parameters
    ----------
    store
        Of `recipes.promod3`.
    extras
        Its ``train.extras.npz``.
    states
        Of `recipes.environments.teacher`; None for no teacher.
    """

    def __init__(self, store: Store, extras: Path, states: Path | None = None):
        kinds = np.full(128, -1, np.int8)
        kinds[[ord(kind) for kind in AMINO_ACIDS]] = np.arange(len(AMINO_ACIDS))
        text = "".join(store.sequence).upper().encode()
        self.kind = kinds[np.frombuffer(text, np.uint8)]
        n, begin = int(store.start[-1]), dict(zip(store.ids, store.start[:-1].tolist(), strict=True))
        with np.load(extras) as file:
            rows = _rows(begin, file["id"].tolist(), file["length"])
            self.profile = np.zeros((n, 20), np.uint16)
            self.profile[rows] = file["profile"]
            self.surface = np.full((n, 3), np.nan, np.float32)
            self.surface[rows, 0] = np.sqrt(file["accessibility"])
            self.surface[rows, 1] = np.sqrt(file["depth"])
            self.fold = np.full(n, -1, np.int8)
            letters = file["dssp"].astype("S1").view(np.uint8)
            self.fold[rows] = np.array([DSSP.find(chr(code)) for code in range(256)])[letters]
        share = self.profile[rows].astype(np.float32) / PARTS
        entropy = -(share * np.log(share + 1e-9)).sum(1)
        self.surface[rows, 2] = np.where(share.any(1), entropy, np.nan)
        self.surface /= UNITS
        self.row = np.full(n, -1, np.int32)
        self.states = np.zeros((0, 0), np.float16)
        if states is not None:
            with np.load(states) as file:
                self.row[_rows(begin, file["id"].tolist(), file["length"])] = np.arange(len(file["states"]))
                self.states = file["states"]

    def of(self, rows: np.ndarray) -> Known:
        """Targets of some residues."""
        states = np.full((len(rows), self.states.shape[1]), np.nan, np.float32)
        taught = self.row[rows] >= 0
        states[taught] = self.states[self.row[rows][taught]]
        profile = self.profile[rows].astype(np.float32)
        profile /= np.maximum(profile.sum(1, keepdims=True), 1)
        whole = (
            self.kind[rows].astype(np.int64),
            profile,
            self.surface[rows],
            self.fold[rows].astype(np.int64),
        )
        return Known(*map(torch.from_numpy, (*whole, states)))


def _rows(begin: dict[str, int], ids: list[str], lengths: np.ndarray) -> np.ndarray:
    """Rows of the residues of some chains, end to end."""
    return np.concatenate(
        [np.arange(begin[id], begin[id] + n) for id, n in zip(ids, lengths.tolist(), strict=True)]
    )
