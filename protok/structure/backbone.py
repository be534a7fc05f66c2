"""Backbone: the N, CA, C and O atoms of one structure, residue by residue.

The unit of length is Å throughout protok, a missing atom is NaN, and a residue
is never dropped or invented: residues are what the file lists, in its order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

ATOMS = ("N", "CA", "C", "O")
#: The twenty amino acids; saved models and token files count on this order.
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
#: Å from C to the next N (1.33 in a peptide bond) beyond which a chain is broken. It is wide, as
#: poor models and decoded chains stretch bonds that are meant to be there.
BOND_LIMIT = 2.5
#: Most characters of a chain id, a residue name or a number that a file may hold, and of an insertion
#: code: arrays are as wide for every residue as for the longest. Those of the PDB have 5, and 1.
WIDEST, WIDEST_ICODE = 64, 8
#: Å below which two such atoms cannot but be bonded: where a bond is what is to be shown, as of a
#: residue that a file lists outside the polymer, or of the geometry of a sampled chain.
SURE_BOND = 2.0
#: Å from which on float32 does not tell neighbouring atoms apart.
FARTHEST = 1e6


@dataclass(frozen=True, eq=False)
class Backbone:
    """Backbone atoms of one structure of one or more chains.

    Attributes
    ----------
    coords : (L, 4, 3) float32
        N, CA, C, O in Å; NaN where an atom is missing, also where `placeholders` stood.
    sequence : str
        One letter a residue, modified residues as their parent, `X` if unknown.
    chain : (L,) str
        Chain id of each residue, as in the file.
    index : (L,) int32
        Residue number of each residue, as in the file (author numbering).
    icode : (L,) str
        Insertion code, empty where there is none.
    bfactor : (L,) float32
        B-factor (or pLDDT) of the CA atom, NaN where the file has none.
    name : str
        Name of the structure, usually the stem of its file.
    notes : tuple of str
        What a reader left out or mended, in words.
    """

    coords: np.ndarray
    sequence: str
    chain: np.ndarray
    index: np.ndarray
    icode: np.ndarray
    bfactor: np.ndarray
    name: str = ""
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        n = len(self.sequence)
        if self.coords.shape != (n, 4, 3):
            raise ValueError(f"coords of {n} residues must have shape ({n}, 4, 3), not {self.coords.shape}")
        for key in ("chain", "index", "icode", "bfactor"):
            if len(getattr(self, key)) != n:
                raise ValueError(f"{key} has {len(getattr(self, key))} entries for {n} residues")
        if (missing := placeholders(self.coords)).any():
            coords = np.where(missing[..., None], np.float32(np.nan), self.coords)
            object.__setattr__(self, "coords", coords)

    @classmethod
    def from_arrays(
        cls,
        coords: np.ndarray,
        sequence: str | None = None,
        *,
        chain: str | np.ndarray = "A",
        index: np.ndarray | None = None,
        name: str = "",
    ) -> Backbone:
        """Build a Backbone from coordinates, with defaults for the rest.

        Parameters
        ----------
        coords : (L, 4, 3) or (L, 3, 3)
            N, CA, C and (if given) O in Å; missing where NaN or padding (`placeholders`).
        sequence
            `X` throughout if not given.
        chain
            One id for all residues, or one a residue.
        index
            1..L if not given.
        """
        coords = np.asarray(coords, dtype=np.float32)
        n = len(coords)
        if coords.shape[1:] == (3, 3):
            coords = np.concatenate([coords, np.full((n, 1, 3), np.nan, np.float32)], axis=1)
        return cls(
            coords=coords,
            sequence=sequence if sequence is not None else "X" * n,
            chain=np.full(n, chain) if isinstance(chain, str) else np.asarray(chain),
            index=np.arange(1, n + 1, dtype=np.int32) if index is None else np.asarray(index, np.int32),
            icode=np.full(n, "", dtype="<U1"),
            bfactor=np.full(n, np.nan, np.float32),
            name=name,
        )

    def __len__(self) -> int:
        return len(self.sequence)

    def __repr__(self) -> str:
        missing = len(self) - int(self.mask.sum())
        parts = [f"{len(self)} residues", f"chains {','.join(self.chains)}"]
        if missing:
            parts.append(f"{missing} incomplete")
        return f"Backbone({self.name or 'unnamed'}, {', '.join(parts)})"

    def __getitem__(self, key: slice | np.ndarray) -> Backbone:
        """Select residues by slice, boolean mask or integer array."""
        picked = np.arange(len(self))[key]
        if picked.ndim != 1:
            raise TypeError("select residues by slice, mask or list of integers")
        keys = ("coords", "chain", "index", "icode", "bfactor")
        columns = {key: getattr(self, key)[picked] for key in keys}
        return replace(self, sequence="".join(self.sequence[i] for i in picked), **columns)

    @property
    def mask(self) -> np.ndarray:
        """(L,) bool: N, CA and C are all present, so the residue has a frame."""
        return np.all(np.isfinite(self.coords[:, :3]), axis=(1, 2))

    @property
    def chains(self) -> list[str]:
        """Chain ids in order of first appearance."""
        return list(dict.fromkeys(self.chain.tolist()))

    def by_chain(self) -> Iterator[Backbone]:
        """Yield the chains one by one, each under the same `name`."""
        for chain in self.chains:
            yield self[self.chain == chain]


def joined(parts: Iterable[Backbone]) -> Backbone:
    """Several Backbones as one of all their residues, in the given order, under the name of the first."""
    parts = list(parts)
    columns = {
        key: np.concatenate([getattr(part, key) for part in parts])
        for key in ("coords", "chain", "index", "icode", "bfactor")
    }
    sequence = "".join(part.sequence for part in parts)
    return replace(parts[0], sequence=sequence, notes=(), **columns)


def placeholders(coords: np.ndarray) -> np.ndarray:
    """Tell atoms whose coordinates stand for "unknown", in files and in padded arrays.

    Parameters
    ----------
    coords : (L, A, 3)
        Of one structure.

    Returns
    -------
    (L, A) bool
        True where all three are 9999 with whatever decimals, where one is `FARTHEST` or more,
        and where several atoms lie at 0, 0, 0: a centred structure may have one there. False
        for NaN.
    """
    size = np.abs(coords)
    # As nearly always; NaN is skipped, and costs nothing.
    if np.fmax.reduce(size, axis=None, initial=0) < 9999 and coords.all():
        return np.zeros(coords.shape[:-1], bool)
    zero = (coords == 0).all(axis=-1)
    unknown = ((size >= 9999) & (size < 10_000)).all(axis=-1) | (size >= FARTHEST).any(axis=-1)
    return unknown | (zero & (zero.sum() > 1))


def bond_lengths(coords: np.ndarray) -> np.ndarray:
    """Å from C of each residue to N of the next, NaN where one is missing.

    Parameters
    ----------
    coords : (L, 3 or more, 3)
        N, CA, C ... of each residue.

    Returns
    -------
    (L - 1,)
    """
    return np.linalg.norm(coords[1:, 0] - coords[:-1, 2], axis=-1)
