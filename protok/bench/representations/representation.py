"""What is measured: tokenizers under one face, discrete or continuous.

A representation is named by a string: what `protok.load` knows (`protok-1`, `3di`, a folder), a
control of `protok.bench.representations.controls`, a model of others (`proteinmpnn`, or `esm3=FILE` with the
weights, see `protok.bench.representations.adapters`), or a file of precomputed tokens (`.npz`). A `Tokenizer`
of yours, or what only `Embeds` (`protok.tokenizers.protocol`), will do as well. What follows a
colon is the view:

* `NAME`: codes, each with the vector of its codebook, as the protocol of the paper has it; of a tokenizer
  without vectors as `NAME:ids`;
* `NAME:ids`: codes, each with a vector of its own that says nothing of other codes. A probe
  then learns what a code means by itself, as a language model's embedding would. For codebooks
  of few dimensions, whose vectors a LayerNorm robs of two of them, this is the fairer question;
* `NAME:continuous`: the embeddings before quantization;
* `NAME:states`: the encoder's last hidden states, before they are projected to embeddings: what
  a continuous model without a narrow latent, such as ProteinMPNN, shows of itself;
* `NAME:decoder`: hidden states of the decoder (of protok-1 its step network), which reads the codes of
  the chain and nothing else: what a string of codes says to who can read it. No such row is in the paper;
* `NAME:kmeans64`: codes made from the embeddings by k-means; `NAME:kmeans64-8A` from their means within 8 Å.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from protok.common.files import atomic
from protok.errors import ProtokError, Unsupported
from protok.structure.backbone import Backbone
from protok.tokenizers.protocol import (
    Embeds,
    Fingerprinted,
    HasCodeVectors,
    HasNetwork,
    HasStates,
    LooksUp,
    Tokenizer,
    codes_alone,
    ids_of,
)

LAYERS = ("codes", "ids", "continuous", "states", "decoder")
#: Residues that are given to a tokenizer at once.
RESIDUES = 4096
#: Bytes of codes and embeddings kept between tasks; beyond, they are computed again, or read
#: from `store`.
KEEP = 1 << 30
#: Codes of larger books get random vectors of this many dimensions in the layer `ids`.
ONE_HOT = 1024


@runtime_checkable
class Derived(Protocol):
    """A tokenizer that works on the outputs of a representation."""

    @property
    def representation(self) -> Representation:
        """Where they come from."""
        ...


class Representation:
    """A tokenizer as the harness sees it, with its outputs remembered.

    Parameters
    ----------
    tokenizer
        That encodes, or embeds, or both; without codes its `size` is 0.
    layer
        One of `LAYERS`; see the head of the module. Tokenizers without codes have no `codes`,
        and give their embeddings instead.

    Attributes
    ----------
    continuous : bool
        Outputs are vectors, not codes.
    size : int
        Number of codes that outputs are, or, for `decoder`, are made from; else 0.
    vectors : (K, d) float32 or None
        Code vectors; None if continuous.
    precomputed : bool
        Outputs go by the names of structures, not by their coordinates.
    fingerprint : str
        16 hex digits over the weights, the code vectors and the output for two structures
        that are always the same: a model with others never has it. Where weights are known,
        embeddings count in the coarse only, so that a model has one fingerprint on all
        processors; a change of the code around the weights shows if it moves them by a hundredth.
    store : Path or None
        Folder that keeps outputs between runs, a file a structure.
    seconds : float
        CPU time spent in the tokenizer so far, that behind k-means codes included.
    """

    def __init__(self, tokenizer: Tokenizer | Embeds, layer: str = "codes"):
        self.tokenizer = tokenizer
        self.codebook = tokenizer.codebook
        native = not tokenizer.size
        if native and layer in ("codes", "ids", "continuous"):
            layer, self.name = "continuous", tokenizer.name
        else:
            self.name = tokenizer.name + ("" if layer in ("codes", "ids") else f":{layer}")
        if layer in ("states", "decoder") and not isinstance(tokenizer, HasStates):
            raise Unsupported(f"{tokenizer.name} shows no hidden states", "measure its codes")
        if native and layer == "decoder":
            raise Unsupported(f"{tokenizer.name} has no codes to decode", "measure its states")
        if layer == "continuous" and not isinstance(tokenizer, Embeds):
            raise Unsupported(f"{tokenizer.name} gives no embeddings", "measure its codes")
        if layer != "continuous" and layer != "states" and not isinstance(tokenizer, Tokenizer):
            raise Unsupported(f"{tokenizer.name} has no codes", "measure its embeddings")
        self.layer = layer
        self.continuous = layer not in ("codes", "ids")
        self.size = 0 if layer in ("continuous", "states") else int(tokenizer.size)
        self.vectors: np.ndarray | None = None
        if not self.continuous:
            self.vectors = _code_vectors(tokenizer)
        self.store: Path | None = None
        self._inner = tokenizer.representation if isinstance(tokenizer, Derived) else None
        self.precomputed = self._inner.precomputed if self._inner else isinstance(tokenizer, LooksUp)
        self._seconds = self._residues = 0.0
        self._kept: dict[str, np.ndarray] = {}
        self._bytes = 0
        self.fingerprint = self._origin = self._fingerprint()
        if layer == "ids":
            self.name, self.vectors = f"{self.name}:ids", _own_vectors(self.size)
            self.fingerprint = hashlib.sha256(f"{self._origin}|ids".encode()).hexdigest()[:16]
        self._seconds = self._residues = 0.0

    def __repr__(self) -> str:
        return f"Representation({self.name}, {self.layer}, {self.fingerprint})"

    @property
    def seconds(self) -> float:
        return self._seconds + (self._inner.seconds if self._inner else 0.0)

    @property
    def residues_per_second(self) -> float | None:
        """Residues a CPU-second of what was encoded so far; None if nothing was."""
        if not self._seconds:
            return None
        each = self._seconds / self._residues
        if self._inner is not None:
            # Embeddings that were remembered took no time, but would have.
            if not self._inner._seconds:
                return None
            each += self._inner._seconds / self._inner._residues
        return round(1 / each, 1)

    def outputs(self, structures: Sequence[Backbone], keep: bool = True) -> list[np.ndarray]:
        """Codes (L,) int32 with -1 where there is none, or embeddings (L, d) with NaN rows.

        Without `keep`, what must be computed is not remembered.
        """
        if isinstance(self.tokenizer, LooksUp):
            self.tokenizer.require(structures)
        keys = [key_of(structure) for structure in structures]
        known = {key: self._kept[key] for key in keys if key in self._kept}
        for key in {*keys} - known.keys():
            path = self._path(key)
            if path is not None and path.exists():
                try:
                    known[key] = np.load(path, allow_pickle=False)
                except (OSError, ValueError, EOFError):
                    continue  # damaged: it is computed again, and written over
                self._keep(key, known[key])
        todo = [i for i, key in enumerate(keys) if key not in known]
        group: list[int] = []
        for i in [*todo, -1]:
            n = sum(len(structures[j]) for j in group)
            if group and (i < 0 or n + len(structures[i]) > RESIDUES):
                for j, out in zip(group, self.run([structures[j] for j in group]), strict=True):
                    known[keys[j]] = out
                    if keep:
                        self._keep(keys[j], out)
                        if path := self._path(keys[j]):
                            path.parent.mkdir(parents=True, exist_ok=True)
                            with atomic(path, "wb") as handle:
                                np.save(handle, out)
                group = []
            group.append(i)
        return [known[key] for key in keys]

    def forget(self) -> None:
        """Let go of the outputs that are remembered; those in `store` stay."""
        self._kept, self._bytes = {}, 0
        if self._inner is not None:
            self._inner.forget()

    def _keep(self, key: str, out: np.ndarray) -> None:
        if self._bytes + out.nbytes <= KEEP:
            self._kept[key] = out
            self._bytes += out.nbytes

    def _path(self, key: str) -> Path | None:
        if self.store is None or self.precomputed:
            return None
        return self.store / self._origin / key[:2] / f"{key[2:34]}.npy"

    def run(self, structures: list[Backbone]) -> list[np.ndarray]:
        """Codes or embeddings of structures, computed afresh."""
        started, before = time.process_time(), self._inner.seconds if self._inner else 0.0
        out = self._computed(structures)
        inside = self._inner.seconds - before if self._inner else 0.0
        self._seconds += time.process_time() - started - inside
        self._residues += sum(map(len, structures))
        for rows, structure in zip(out, structures, strict=True):
            if len(rows) != len(structure):
                raise ProtokError(
                    f"{self.name} gave {len(rows)} tokens for {len(structure)} residues",
                    "a tokenizer gives one a residue",
                    file=structure.name,
                )
        return out

    def _computed(self, structures: list[Backbone]) -> list[np.ndarray]:
        layer, tokenizer = self.layer, self.tokenizer
        if layer == "continuous" and isinstance(tokenizer, Embeds):
            return [np.asarray(tokenizer.embed(structure), np.float32) for structure in structures]
        if layer == "states" and isinstance(tokenizer, HasStates):
            return [tokenizer.states(structure) for structure in structures]
        if not isinstance(tokenizer, Tokenizer):
            raise Unsupported(f"{self.name} has no {layer}", "measure another view")
        if layer == "decoder" and isinstance(tokenizer, HasStates):
            return [tokenizer.states(chain) for chain in codes_alone(tokenizer, structures)]
        return ids_of(tokenizer, structures)

    def _fingerprint(self) -> str:
        # Fingerprints of the decoder's states have named them so from the first result on.
        named = {"states": "states", "decoder": "decoded"}
        view = named.get(self.layer, self.continuous)
        digest = hashlib.sha256(f"{self.codebook}|{view}|".encode())
        # Precomputed tokens cannot be computed for the two structures; their file says it all.
        tokenizer = self.tokenizer
        if isinstance(tokenizer, Fingerprinted):
            digest.update(tokenizer.fingerprint.encode())
            return digest.hexdigest()[:16]
        known = isinstance(tokenizer, HasNetwork)
        if known:
            for key, value in sorted(tokenizer.network.state_dict().items()):
                digest.update(key.encode())
                digest.update(np.ascontiguousarray(value.detach().cpu().float().numpy()).tobytes())
        if self.vectors is not None:
            digest.update(np.ascontiguousarray(self.vectors, "<f4").tobytes())
        from protok.testing import random_backbone

        coarse = self.continuous and known
        for out in self.run([random_backbone(60, seed) for seed in (0, 1)]):
            shown = _coarse(out) if coarse else np.round(np.nan_to_num(out, nan=-9.0), 4)
            digest.update(shown.astype("<f4").tobytes())
        return digest.hexdigest()[:16]


def _coarse(z: np.ndarray) -> np.ndarray:
    """Few numbers that say how a network embeds and are the same on all processors.

    Embeddings differ in the sixth digit from processor to processor. Of thousands rounded to four
    decimals some always come out otherwise; of eight random mixtures of all of them, rounded to a
    hundredth of their spread, next to never.
    """
    z = np.nan_to_num(z.astype(np.float64), nan=0.0).ravel()
    mixtures = np.random.default_rng(0).normal(size=(8, z.size)) @ z / np.sqrt(z.size)
    spread = float(f"{np.sqrt(np.square(z).mean()):.2g}")
    return np.append(np.round(mixtures / (spread or 1.0), 2) + 0.0, spread)


def key_of(structure: Backbone) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(structure.coords).tobytes())
    # Controls see the sequence, and precomputed tokens go by name.
    digest.update(f"{structure.name}|{structure.sequence}|{','.join(structure.chain)}".encode())
    # Some models read from the numbers where residues are missing.
    digest.update(f"{structure.index.tolist()}{','.join(structure.icode)}".encode())
    return digest.hexdigest()


def _code_vectors(tokenizer: Tokenizer | Embeds) -> np.ndarray:
    """The vectors of the codebook; where there are none, each code has one of its own."""
    if isinstance(tokenizer, HasCodeVectors):
        with suppress(Unsupported):  # of a file of ids alone
            return np.asarray(tokenizer.code_vectors(), np.float32)
    return _own_vectors(tokenizer.size)


def _own_vectors(size: int) -> np.ndarray:
    if size <= ONE_HOT:
        return np.eye(size, dtype=np.float32)
    # Nearly orthogonal: a matrix of one-hot rows would be as large as the data.
    random = np.random.default_rng(0).normal(size=(size, ONE_HOT // 4)) / (ONE_HOT // 4) ** 0.5
    return random.astype(np.float32)
