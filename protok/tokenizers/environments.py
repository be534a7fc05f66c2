"""The second alphabet: letters for what lies around a residue in space."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from protok.common.grouping import packed
from protok.errors import Unsupported
from protok.model.batch import Batch
from protok.model.config import EnvironmentConfig
from protok.model.environment import CLASSES, EnvironmentNetwork
from protok.structure.backbone import AMINO_ACIDS, Backbone
from protok.structure.io.interop import as_backbone
from protok.tokenizers.built import by_chain
from protok.tokenizers.coded import CodedTokenizer, hollow
from protok.tokenizers.protocol import codes_alone
from protok.tokens.environment import Environment
from protok.tokens.tokens import Tokens

if TYPE_CHECKING:
    from protok.tokenizers.shapes import ShapeTokenizer

#: Residues that are read at once: their surroundings stay in a processor's caches.
RESIDUES = 2048


class EnvironmentTokenizer(CodedTokenizer):
    """Backbones to environment letters, which cannot be decoded.

    Parameters
    ----------
    network
        In eval mode, except inside its own training.
    label
        Its name as part of a model; by default its own.
    provenance
        What is known of the weights' origin; kept in the saved configuration.
    """

    network: EnvironmentNetwork
    kinds, half = (EnvironmentConfig, EnvironmentNetwork), ""

    def __init__(
        self, network: EnvironmentNetwork, *, label: str = "", provenance: Mapping[str, Any] | None = None
    ):
        self.network = network
        self.provenance = dict(provenance or {})
        self.name = label or network.config.name or "environment"
        self.size = 0 if network.quantizer is None else network.config.quantizer.size
        self.codebook = f"{self.name}@{self._fingerprint()}"

    def __repr__(self) -> str:
        return f"EnvironmentTokenizer({self.codebook}, {self.size} letters)"

    def _fingerprint(self) -> str:
        if self.network.quantizer is None:
            return "continuous"
        return hashlib.sha256(self.code_vectors().astype("<f4").tobytes()).hexdigest()[:8]

    @property
    def scores(self) -> np.ndarray | None:
        """What aligned letters score, in quarters of a bit, (size, size) int16; None if nobody counted."""
        scores = self.network.scores.cpu().numpy()
        return scores if scores.any() else None

    @property
    def reduced(self) -> ReducedTokenizer | None:
        """The alphabet of classes of its letters; None if nobody made classes."""
        return ReducedTokenizer(self) if self.network.class_scores.any() else None

    @property
    def batch_residues(self) -> int:
        """Residues that `encode_batch` is best given at once."""
        return RESIDUES

    def encode(self, structure: Any) -> Tokens:
        """Environment letters of a structure, one a residue.

        Parameters
        ----------
        structure
            As for `protok.tokenizers.shapes.ShapeTokenizer.encode`.
        """
        return self.encode_batch([structure])[0]

    def encode_batch(self, structures: Sequence[Any]) -> list[Tokens]:
        """Letters of several structures; the same as one by one, and faster for short chains."""
        backbones = [as_backbone(s) for s in structures]
        letters = self.environments(backbones)
        return [
            Tokens.like(b, e.ids, self.size, self.codebook) for b, e in zip(backbones, letters, strict=True)
        ]

    def environments(self, structures: Sequence[Backbone]) -> list[Environment]:
        """The same letters, as they stand beside others."""
        codes = self._of_all(structures, lambda batch: self._quantizer.assign(self.network.latents(batch)))
        letters = (np.where(s.mask, c, -1) for s, c in zip(structures, codes, strict=True))
        return [Environment(ids, self.size, self.codebook) for ids in letters]

    def states(self, structure: Any) -> Float[np.ndarray, "n h"]:
        """Hidden states of residues, float32: features for a model on top. NaN where a residue is incomplete.

        Raises
        ------
        Unsupported
            Of tokens: no network reads these letters.
        """
        if isinstance(structure, Tokens):
            what = f"{self.name} has no states of tokens"
            raise Unsupported(what, "give the structure, or use code_vectors")
        backbone = as_backbone(structure)
        return hollow(self._of_all([backbone], self.network.states)[0], backbone.mask)

    def _latents(self, backbone: Backbone) -> Float[Tensor, "n d"]:
        return torch.from_numpy(self._of_all([backbone], self.network.latents)[0]).to(self.device)

    @torch.no_grad()
    def _of_all(self, structures: Sequence[Backbone], read) -> list[np.ndarray]:
        """What `read` gives for the residues of each structure."""
        self.check_precision()
        out: list[np.ndarray] = []
        with torch.autocast(self.device.type, enabled=False):
            for group in packed(structures, len, RESIDUES):
                orders = [by_chain(s) for s in group]
                ordered = [s if order is None else s[order] for s, order in zip(group, orders, strict=True)]
                values = read(Batch.of(ordered).to(self.device)).cpu().numpy()
                parts = np.split(values, np.cumsum([len(s) for s in group])[:-1])
                out += [
                    p if order is None else p[np.argsort(order)]
                    for p, order in zip(parts, orders, strict=True)
                ]
        return out


class ReducedTokenizer:
    """Classes of environment letters, with the letters of amino acids: for tools that know no others.

    Parameters
    ----------
    whole
        The tokenizer of all letters.
    """

    alphabet, size = AMINO_ACIDS, CLASSES
    batch_residues = RESIDUES

    def __init__(self, whole: EnvironmentTokenizer):
        self.whole, self.name = whole, f"{whole.name}{CLASSES}"
        self.classes = whole.network.classes.cpu().numpy().astype(np.int32)
        digest = hashlib.sha256(f"{whole.codebook} {self.classes.tolist()}".encode()).hexdigest()
        self.codebook = f"{self.name}@{digest[:8]}"
        self.encoder_fingerprint = whole.encoder_fingerprint

    def __repr__(self) -> str:
        return f"ReducedTokenizer({self.codebook}, {self.size} letters)"

    @property
    def scores(self) -> np.ndarray:
        """What aligned letters score, in quarters of a bit, (size, size) int16."""
        return self.whole.network.class_scores.cpu().numpy()

    def encode(self, structure: Any) -> Tokens:
        """Letters of a structure, one a residue."""
        return self.encode_batch([structure])[0]

    def encode_batch(self, structures: Sequence[Any]) -> list[Tokens]:
        """Letters of several structures."""
        return [self.of(tokens) for tokens in self.whole.encode_batch(structures)]

    def of(self, tokens: Tokens) -> Tokens:
        """The classes of tokens of all letters, or of tokens with environments."""
        ids = tokens.ids_of(self.whole.codebook)
        classes = np.where(ids < 0, -1, self.classes[ids])
        own = {"size": self.size, "codebook": self.codebook, "alphabet": self.alphabet}
        return replace(tokens, ids=classes, keyframes=None, environment=None, **own)


class JointTokenizer:
    """Shape and environment of a residue as one letter: what both alphabets tell together.

    Parameters
    ----------
    shapes, environments
        The tokenizers of the two alphabets. A letter is ``shape * environments.size + environment``, its
        vector those of both end to end.
    """

    batch_residues = RESIDUES

    def __init__(self, shapes: ShapeTokenizer, environments: EnvironmentTokenizer):
        self.shapes, self.environments = shapes, environments
        self.name, self.size = f"{shapes.name}:both", shapes.size * environments.size
        digest = hashlib.sha256(f"{shapes.codebook} {environments.codebook}".encode())
        self.codebook = f"{self.name}@{digest.hexdigest()[:8]}"
        self.encoder_fingerprint = shapes.encoder_fingerprint

    def __repr__(self) -> str:
        return f"JointTokenizer({self.codebook}, {self.size} letters)"

    def code_vectors(self) -> Float[np.ndarray, "k d"]:
        """Vectors of all pairs of letters."""
        first, second = self.shapes.code_vectors(), self.environments.code_vectors()
        return np.concatenate([first.repeat(len(second), 0), np.tile(second, (len(first), 1))], 1)

    def encode(self, structure: Any) -> Tokens:
        """Letters of a structure, one a residue."""
        return self.encode_batch([structure])[0]

    def encode_batch(self, structures: Sequence[Any]) -> list[Tokens]:
        """Letters of several structures."""
        backbones = [as_backbone(s) for s in structures]
        own = {"size": self.size, "codebook": self.codebook}
        around = self.environments.environments(backbones)
        shapes = codes_alone(self.shapes, backbones)
        return [
            replace(s, ids=np.where(s.ids < 0, -1, s.ids * e.size + e.ids), **own)
            for s, e in zip(shapes, around, strict=True)
        ]
