"""What every source of labelled structures gives: a tidy folder and the official release alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from protok.errors import FormatError
from protok.structure.backbone import Backbone

TRAIN, VALID = "train", "valid"


@dataclass(frozen=True, eq=False)
class Entry:
    """One labelled structure.

    Attributes
    ----------
    id
        Of the structure.
    split
        train, valid, or the name of a test split.
    target : (n,) float32 or int
        A value a residue, NaN where unlabelled; or the class.
    rows : (n,) int or None
        The labelled residues of the structure, counted from 0; None is all of them.
    """

    id: str
    split: str
    target: np.ndarray | int
    rows: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """The labels of one task: `kind` is `site`, `value` or `class`."""

    name: str
    kind: str
    entries: list[Entry]
    classes: tuple[str, ...] = ()
    about: tuple[tuple[str, str], ...] = ()

    @property
    def tests(self) -> tuple[str, ...]:
        """Test splits, in order of first appearance."""
        seen = dict.fromkeys(entry.split for entry in self.entries)
        return tuple(split for split in seen if split not in (TRAIN, VALID))

    def split(self, name: str) -> list[Entry]:
        """The entries of one split."""
        return [entry for entry in self.entries if entry.split == name]


#: `NAME.z` is the table of values NAME, `within` each chain.
WITHIN = ".z"


def within(table: Table) -> Table:
    """The table on z-scores in each structure: what a residue is beside the others of its chain.

    The level of a B-factor is that of the crystal and its resolution; a probe that must guess
    it as well fits little else. Structures without two different values are left out.

    Raises
    ------
    FormatError
        If the labels are not values.
    """
    if table.kind != "value":
        raise FormatError(
            f"{table.name} has no values for z-scores", f"take {table.name} itself", file=table.name
        )
    known = [(entry, np.asarray(entry.target)) for entry in table.entries]
    entries = [replace(entry, target=standardised(values)) for entry, values in known if varies(values)]
    return replace(table, name=table.name + WITHIN, entries=entries)


def varies(values: np.ndarray) -> bool:
    """Whether there are two known values that differ by more than rounding does."""
    known = values[np.isfinite(values)]
    return len(known) > 0 and float(np.ptp(known)) > 1e-3


def standardised(values: np.ndarray) -> np.ndarray:
    """Z-scores; NaN where a value is not known."""
    known = np.where(np.isfinite(values), values, np.nan)
    return (known - np.nanmean(known)) / np.nanstd(known)


@dataclass(frozen=True)
class Domain:
    """A stretch of a structure with its place in a classification, for retrieval."""

    id: str
    rows: tuple[int, int]
    fold: str
    superfamily: str
    family: str
    cluster: str


@runtime_checkable
class LabelledStructures(Protocol):
    """Structures by name, and what is known of them.

    Attributes
    ----------
    path : Path
        Where it lies, for messages.
    errors : sequence of (str, str)
        Files that could not be read, with reasons.
    left_out : mapping of str to sequence of str
        What lists name but the source does not have, by table, `pairs` and `sets`.
    """

    @property
    def path(self) -> Path: ...
    @property
    def errors(self) -> Sequence[tuple[str, str]]: ...
    @property
    def left_out(self) -> Mapping[str, Sequence[str]]: ...

    def structure(self, id: str, /) -> Backbone:
        """A structure that a table, a domain, a pair or a set names."""
        ...

    def tables(self) -> list[str]:
        """Names of the labelled tasks."""
        ...

    def table(self, name: str, /) -> Table:
        """The labels of a task."""
        ...

    def domains(self) -> Sequence[Domain]:
        """Classified domains, for retrieval; may be none."""
        ...

    def has_pairs(self) -> bool:
        """Whether there are pairs, as far as that can be told without reading structures."""
        ...

    def pairs(self) -> dict[str, list[tuple[str, str, float]]]:
        """Pairs of conformations by set: two structures and their TM-score."""
        ...

    def complexes(self) -> Sequence[str]:
        """Names of structures of several chains, in one frame; may be none."""
        ...

    def has_sets(self) -> bool:
        """Whether there are sets, as far as that can be told without reading structures."""
        ...

    def sets(self) -> dict[str, list[str]]:
        """Named sets of structures."""
        ...


def digest(source: LabelledStructures, labels: Iterable[Entry | object], ids: Sequence[str]) -> str:
    """sha256 over labels and the coordinates of the structures they refer to."""
    sha256 = hashlib.sha256()
    for label in labels:
        if isinstance(label, Entry):
            sha256.update(f"{label.id}|{label.split}|".encode())
            sha256.update(np.asarray(label.target, np.float32).tobytes())
            sha256.update(b"" if label.rows is None else label.rows.astype("<i4").tobytes())
        else:
            sha256.update(repr(label).encode())
    for id in dict.fromkeys(ids):
        structure = source.structure(id)
        sha256.update(np.round(structure.coords, 3).astype("<f4").tobytes())
        sha256.update(structure.index.astype("<i4").tobytes())
        sha256.update(structure.sequence.encode())
    return sha256.hexdigest()
