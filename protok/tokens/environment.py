"""Second letters of residues, of an alphabet of their own: for what lies around each in space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

#: Columns of a table in which each chain is a row: letters, and what there is one of.
LETTERS, SIZE, CODEBOOK = COLUMNS = ("environment", "environments", "environment_codebook")


@dataclass(frozen=True, eq=False)
class Environment:
    """Environment letters of residues; see `protok.model.environment`.

    Attributes
    ----------
    ids : (L,) int32
        Letters 0..size-1, or -1 where a residue has none.
    size : int
        Letters of the alphabet.
    codebook : str
        `name@fingerprint` of encoder and codebook.
    """

    ids: np.ndarray
    size: int
    codebook: str

    def __post_init__(self) -> None:
        ids = np.asarray(self.ids)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise ValueError(f"environment letters are integers, one a residue, not {ids.dtype} {ids.shape}")
        if ids.size and not -1 <= ids.min() <= ids.max() < self.size:
            raise ValueError(f"an environment letter is outside 0..{self.size - 1} (-1: none)")
        if not self.codebook:
            raise ValueError("the codebook of environments has no name")
        object.__setattr__(self, "ids", ids.astype(np.int32))

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> Environment | None:
        """Those of a row with the columns of `COLUMNS`; None where it has none."""
        if not columns[SIZE]:
            return None
        return cls(np.asarray(columns[LETTERS]), columns[SIZE], columns[CODEBOOK])

    @classmethod
    def from_text(cls, text: str) -> Environment:
        """The way back from `text`."""
        codebook, size, letters = text.rsplit(";", 2)
        ids = [-1 if letter == "-" else int(letter) for letter in letters.split(",") if letter]
        return cls(np.array(ids, np.int64), int(size), codebook)

    @property
    def text(self) -> str:
        """All in a line: `protok-1@3f2a91c0;128;17,4,-,101`."""
        letters = ",".join("-" if letter < 0 else str(letter) for letter in self.ids.tolist())
        return f"{self.codebook};{self.size};{letters}"

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: np.ndarray) -> Environment:
        """Those of some residues, by a mask or their numbers."""
        return replace(self, ids=self.ids[rows])

    @property
    def bits(self) -> float:
        """Log2 of every letter that there is."""
        return float((self.ids >= 0).sum() * np.log2(self.size))


def columns_of(environment: Environment | None) -> dict[str, Any]:
    """A row with the columns of `COLUMNS`."""
    if environment is None:
        return {LETTERS: np.zeros(0, np.int32), SIZE: 0, CODEBOOK: ""}
    return {LETTERS: environment.ids, SIZE: environment.size, CODEBOOK: environment.codebook}


def joined(parts: list[Environment | None]) -> Environment | None:
    """Those of chains end to end; None if one has none.

    Raises
    ------
    ValueError
        If they are of different codebooks.
    """
    there = [part for part in parts if part is not None]
    if len(there) < len(parts) or not there:
        return None
    if len({(part.codebook, part.size) for part in there}) > 1:
        raise ValueError("environments of different codebooks do not stand in one structure")
    return replace(there[0], ids=np.concatenate([part.ids for part in there]))
