"""Codes from continuous embeddings by k-means: what any encoder gives without training a codebook."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.distance import cdist

from protok.bench.representations.representation import RESIDUES, Representation, key_of
from protok.errors import ProtokError
from protok.quantize.centres import kmeans, nearest
from protok.structure.backbone import Backbone
from protok.tokens.tokens import Tokens

#: Share of the mean variance that is added to that of each direction before whitening.
FLOOR = 1e-3


class KMeans:
    """Codes from a continuous representation: the nearest of k centres of its whitened embeddings.

    Parameters
    ----------
    representation
        Continuous.
    k
        Number of codes.
    structures
        From which mean, covariance and centres are made, the same way every time.
    radius
        If given, embeddings are first averaged over the residues whose CA atoms are within so many Å.

    Raises
    ------
    ProtokError
        If there are fewer residues than codes.
    """

    version = 3  # of that way
    batch_residues = RESIDUES

    def __init__(
        self, representation: Representation, k: int, structures: Sequence[Backbone], radius: float = 0.0
    ):
        self.representation, self.size, self.radius = representation, k, radius
        z = np.concatenate(self._embedded(structures, keep=True)).astype(np.float64)
        z = z[np.isfinite(z).all(1)]
        if len(z) < k:
            raise ProtokError(f"{len(z)} residues for {k} centres", "give more structures or fewer codes")
        self.mean = z.mean(0)
        variance, axes = np.linalg.eigh(np.atleast_2d(np.cov(z.T)))
        scale = np.sqrt(np.maximum(variance, 0) + FLOOR * variance.mean() + np.finfo(np.float32).tiny)
        self.axes = axes / scale
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.centres, _ = kmeans(torch.from_numpy((z - self.mean) @ self.axes), k)
        self._vectors = (self.centres.numpy() * scale) @ axes.T + self.mean
        around = f"-{radius:g}A" if radius else ""
        self.name = f"{representation.name.removesuffix(':continuous')}:kmeans{k}{around}"
        # What the centres follow from: their last digits are another on another processor.
        digest = hashlib.sha256(f"{representation.fingerprint}|{k}{around}|{self.version}".encode())
        for structure in structures:
            digest.update(key_of(structure).encode())
        self.fingerprint = digest.hexdigest()[:16]
        self.codebook = f"{self.name}@{self.fingerprint[:8]}"

    def code_vectors(self) -> Float[np.ndarray, "k d"]:
        """The centres, as embeddings."""
        return self._vectors.astype(np.float32)

    def encode(self, structure: Backbone) -> Tokens:
        """Number of the nearest centre of each residue."""
        return self.encode_batch([structure])[0]

    def encode_batch(self, structures: Sequence[Backbone]) -> list[Tokens]:
        """The same of several structures."""
        out = []
        for structure, z in zip(structures, self._embedded(structures), strict=True):
            ids = np.full(len(structure), -1, np.int32)
            there = np.isfinite(z).all(1)
            ids[there] = nearest(torch.from_numpy((z[there] - self.mean) @ self.axes), self.centres).numpy()
            out.append(Tokens.like(structure, ids, self.size, self.codebook))
        return out

    def _embedded(self, structures: Sequence[Backbone], keep: bool = False) -> list[np.ndarray]:
        known = self.representation.outputs(structures, keep=keep)
        if not self.radius:
            return known
        return [_around(s.coords[:, 1], z, self.radius) for s, z in zip(structures, known, strict=True)]


def _around(
    ca: Float[np.ndarray, "n 3"], z: Float[np.ndarray, "n d"], radius: float
) -> Float[np.ndarray, "n d"]:
    """Mean embedding of the residues within a radius, each counting itself."""
    there = np.isfinite(z).all(1) & np.isfinite(ca).all(1)
    near = (cdist(ca[there], ca[there]) <= radius).astype(np.float32)
    out = z.copy()
    out[there] = near @ z[there] / near.sum(1, keepdims=True)
    return out
