"""Structural alphabets of others as tokenizers: 3Di, Protein Blocks.

Both are computed by biotite from N, CA and C, chain by chain, and neither can be decoded:
they were made to be compared, not to be turned back into coordinates.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from protok.structure.backbone import AMINO_ACIDS, BOND_LIMIT, Backbone, bond_lengths
from protok.structure.io.interop import as_backbone
from protok.tokens.tokens import Tokens


class _Alphabet(ABC):
    """What both alphabets share: one letter a residue, chains alone, no decoder."""

    name: str
    alphabet: str
    batch_residues = 4096  # a batch is no faster: so many are held at once
    version = "1"  # of the algorithm: changes when the same structure would give other letters

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.alphabet)

    @property
    def codebook(self) -> str:
        """`name@fingerprint`, the fingerprint taken over version and letters."""
        digest = hashlib.sha256(f"{self.name} {self.version} {self.alphabet}".encode()).hexdigest()
        return f"{self.name}@{digest[:8]}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.codebook}, {self.size} codes, no decoder)"

    def encode(self, structure: Any) -> Tokens:
        """Give each residue its letter; -1 where there is none.

        Parameters
        ----------
        structure
            A Backbone, or anything `protok.as_backbone` takes. Each chain is encoded by itself.
        """
        backbone = as_backbone(structure)
        return self._tokens(backbone, backbone.coords[:, :3])

    def encode_batch(self, structures: Sequence[Any]) -> list[Tokens]:
        """Encode several structures, each as `encode` does."""
        return [self.encode(structure) for structure in structures]

    def embed(self, structure, *, quantized: bool = False) -> np.ndarray:
        """The letters as one-hot vectors, (L, size) float32; NaN where the token is missing.

        Parameters
        ----------
        structure
            As for `encode`.
        quantized
            Makes no difference here: an alphabet has nothing finer than its letters.
        """
        ids = self.encode(structure).ids
        vectors = np.zeros((len(ids), self.size), np.float32)
        vectors[np.arange(len(ids)), ids] = 1
        vectors[ids < 0] = np.nan
        return vectors

    def _tokens(self, backbone: Backbone, atoms: np.ndarray) -> Tokens:
        """Tokens of a structure with atoms (L, 3 or 4, 3), each chain by itself."""
        ids, mask = np.full(len(backbone), -1, np.int32), backbone.mask
        for chain in backbone.chains:
            rows = np.flatnonzero(backbone.chain == chain)
            if mask[rows].any():
                ids[rows] = self._ids(atoms[rows])
        ids[~mask] = -1
        return Tokens.like(backbone, ids, self.size, self.codebook, self.alphabet)

    @abstractmethod
    def _ids(self, atoms: np.ndarray) -> np.ndarray:
        """Codes (l,) of one chain with atoms (l, 3 or 4, 3) in Å."""


class ThreeDi(_Alphabet):
    """3Di, the alphabet of Foldseek: how a residue lies to its nearest neighbour in space.

    Twenty letters; the implementation is biotite's, a port of Foldseek's by way of mini3di,
    and equals mini3di where both are given the same atoms. Method: van Kempen et al.,
    Nature Biotechnology 2024, https://doi.org/10.1038/s41587-023-01773-0.
    """

    name = "3di"
    alphabet = AMINO_ACIDS

    def encode(self, structure: Any, *, cb: np.ndarray | None = None) -> Tokens:
        """Give each residue its 3Di letter.

        Parameters
        ----------
        structure
            Anything that `protok.as_backbone` takes.
        cb : (L, 3)
            CB atoms in Å, NaN where a residue has none. A Backbone carries no side chains;
            without `cb` every CB is placed from N, CA and C, as Foldseek does for glycine.
            That changes 3 to 6 % of the letters: give `cb` where they must be Foldseek's own.

        Returns
        -------
        Tokens
            -1 where N, CA or C is missing. A letter that rests on such a residue, and those of
            the first and last residue of a chain, is `D`: Foldseek's own convention.
        """
        backbone = as_backbone(structure)
        atoms, n = backbone.coords[:, :3], len(backbone)
        if cb is not None:
            cb = np.asarray(cb, np.float32)
            if cb.shape != (n, 3):
                raise ValueError(f"cb of {n} residues must have shape ({n}, 3), not {cb.shape}")
            atoms = np.concatenate([atoms, cb[:, None]], axis=1)
        return self._tokens(backbone, atoms)

    def _ids(self, atoms: np.ndarray) -> np.ndarray:
        from biotite.structure.alphabet import to_3di

        # biotite finds neighbours by |a|² - 2ab + |b|² in float32, which loses several Å² far
        # from the origin; around the chain's own centre nothing is lost.
        centred = atoms - np.nanmean(atoms[:, 1], axis=0, dtype=np.float64)
        sequences, _ = to_3di(_atom_array(centred))
        return sequences[0].code


class ProteinBlocks(_Alphabet):
    """Protein Blocks: the nearest of sixteen prototypes of five residues, by dihedral angles.

    The implementation is biotite's. Method: de Brevern, Etchebest & Hazout, Proteins 2000,
    https://doi.org/10.1002/1097-0134(20001115)41:3<271::AID-PROT10>3.0.CO;2-Z; the letters
    are those of PBxplore, whose `Z` is a missing token here. A block spans five residues, so the
    token is -1 in the two residues at each end of a chain, on either side of a chain break (C to N
    beyond 2.5 Å), and within two residues of one with a missing N, CA or C.
    """

    name = "protein-blocks"
    alphabet = "abcdefghijklmnop"

    def _ids(self, atoms: np.ndarray) -> np.ndarray:
        from biotite.structure.alphabet import to_protein_blocks

        # An empty residue in each break makes the dihedrals across it NaN, which biotite respects.
        gap = bond_lengths(atoms) > BOND_LIMIT
        before = np.flatnonzero(gap) + 1
        real = np.delete(np.arange(len(atoms) + len(before)), before + np.arange(len(before)))
        with np.errstate(divide="ignore", invalid="ignore"):  # atoms on one point have no dihedral
            sequences, _ = to_protein_blocks(_atom_array(np.insert(atoms, before, np.nan, axis=0)))
        ids = sequences[0].code[real].astype(np.int32)
        ids[ids == self.size] = -1
        return ids


def _atom_array(atoms: np.ndarray):
    """Dress (L, 3 or 4, 3) coordinates of one chain as a biotite AtomArray."""
    from biotite.structure import AtomArray

    n, kinds = atoms.shape[:2]
    array = AtomArray(n * kinds)
    array.coord = atoms.reshape(-1, 3).astype(np.float32)
    array.atom_name = np.tile(np.array(["N", "CA", "C", "CB"][:kinds], "U6"), n)
    # biotite starts a new chain where numbers fall, and takes dihedrals of amino acids only:
    # the numbers and names of the file must not matter here.
    array.res_id = np.repeat(np.arange(n), kinds)
    array.res_name = np.full(n * kinds, "ALA", "U5")
    return array


#: Alphabets by name: rules instead of weights.
ALPHABETS = {"3di": ThreeDi, "protein-blocks": ProteinBlocks}
