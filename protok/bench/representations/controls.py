"""Tokenizers that know little, to tell what a score is worth.

`residue-type` sees the sequence and no structure, `place` neither, `neighbour-count` how buried a residue is,
`random-code` nothing at all: its scores are chance. `simple-features` joins what the first two
see, and is what a regression without any model would use. A structure tokenizer that does not
beat them carries nothing for the task.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod

import numpy as np

from protok.structure.backbone import AMINO_ACIDS, Backbone
from protok.structure.descriptors import neighbours
from protok.tokens.tokens import Tokens

RADIUS = 10.0  # Å, of CA atoms that are counted
MOST = 39  # neighbours; more count as this many


class _Control(ABC):
    name: str
    size: int
    version = "1"

    @property
    def codebook(self) -> str:
        identity = f"{self.name} {self.version} {self.size}"
        return f"{self.name}@{hashlib.sha256(identity.encode()).hexdigest()[:8]}"

    @abstractmethod
    def ids(self, structure: Backbone) -> np.ndarray:
        """(L,) int codes, whether atoms are missing or not."""

    def code_vectors(self) -> np.ndarray:
        return np.eye(self.size, dtype=np.float32)

    def encode(self, structure: Backbone) -> Tokens:
        ids = np.where(structure.mask, self.ids(structure), -1)
        return Tokens.like(structure, ids, self.size, self.codebook)

    def embed(self, structure: Backbone) -> np.ndarray:
        ids = self.encode(structure).ids
        return np.where(ids[:, None] < 0, np.nan, self.code_vectors()[ids]).astype(np.float32)


class ResidueType(_Control):
    """The amino acid: twenty letters and unknown."""

    name, size = "residue-type", 21

    def ids(self, structure: Backbone) -> np.ndarray:
        return np.array([AMINO_ACIDS.find(letter) % self.size for letter in structure.sequence], int)


class RandomCode(_Control):
    """One of 64 codes by lot, drawn from a hash of the coordinates: the same every time."""

    name, size = "random-code", 64

    def ids(self, structure: Backbone) -> np.ndarray:
        atoms = np.round(np.nan_to_num(structure.coords[:, :3], nan=0.0) * 100).astype("<i4")
        seed = hashlib.sha256(np.ascontiguousarray(atoms).tobytes()).digest()[:8]
        random = np.random.default_rng(int.from_bytes(seed, "little"))
        return random.integers(0, self.size, len(structure))

    def code_vectors(self) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(self.size, 32)).astype(np.float32)


class NeighbourCount(_Control):
    """How many CA atoms of the chain lie within 10 Å: 0 to 39."""

    name, size = "neighbour-count", MOST + 1

    def ids(self, structure: Backbone) -> np.ndarray:
        return np.clip(neighbours(structure, RADIUS), 0, MOST)


class Place(_Control):
    """Which of 64 equal parts of its chain a residue lies in."""

    name, size = "place", 64

    def ids(self, structure: Backbone) -> np.ndarray:
        out = np.empty(len(structure), int)
        for chain in structure.chains:
            rows = np.flatnonzero(structure.chain == chain)
            out[rows] = np.arange(len(rows)) * self.size // len(rows)
        return out


class SimpleFeatures:
    """What needs no model: residue type, neighbours within 8, 10 and 14 Å, distance to the termini.

    Continuous. A tokenizer that gives a probe less than this is not reading the structure, or
    the harness is not.
    """

    name, size = "simple-features", 0
    codebook = "simple-features@1"
    fingerprint = "1"
    radii = (8.0, 10.0, 14.0)  # Å

    def embed(self, structure: Backbone) -> np.ndarray:
        """(L, 26): one-hot type, counts, and ends of the chain on two scales; NaN without CA."""
        letters = ResidueType().ids(structure)
        types = np.eye(ResidueType.size, dtype=np.float32)[letters]
        counts = np.stack([neighbours(structure, radius) for radius in self.radii], 1) / 10
        ends = np.zeros((len(structure), 2), np.float32)
        for chain in structure.chains:
            rows = np.flatnonzero(structure.chain == chain)
            along = np.arange(len(rows))
            nearest = np.minimum(along, len(rows) - 1 - along)
            ends[rows] = np.stack([np.exp(-nearest / 5), nearest / 100], 1)
        features = np.concatenate([types, counts, ends], 1).astype(np.float32)
        features[~np.isfinite(structure.coords[:, 1]).all(1)] = np.nan
        return features


CONTROLS = {kind.name: kind for kind in (ResidueType, Place, RandomCode, NeighbourCount, SimpleFeatures)}
