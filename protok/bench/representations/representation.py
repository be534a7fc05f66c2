"""What is measured: tokenizers under one face, discrete or continuous.

A subject is named by a string: what `protok.load` knows (`protok-512`, `3di`, a folder), a
control of `protok.bench.representations.controls`, a model of others (`proteinmpnn`, or `esm3=FILE` with the
weights, see `protok.bench.representations.adapters`), or a file of precomputed tokens (`.npz`). An object
with the verbs of a protok tokenizer will do as well. What follows a colon is the view:

* `NAME`: codes, each with the vector of its codebook, as the protocol of the paper has it;
* `NAME:ids`: codes, each with a vector of its own that says nothing of other codes. A probe
  then learns what a code means by itself, as a language model's embedding would. For codebooks
  of few dimensions, whose vectors a LayerNorm robs of two of them, this is the fairer question;
* `NAME:continuous`: the embeddings before quantization;
* `NAME:states`: the encoder's last hidden states, before they are projected to embeddings: what
  a continuous model without a narrow latent, such as ProteinMPNN, shows of itself;
* `NAME:decoded`: hidden states of the decoder, which reads the codes of the chain and nothing
  else: what a string of codes says to who can read it. No such row is in the paper;
* `NAME:kmeans64`: codes made from the embeddings by k-means.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from protok.errors import ProtokError, Unsupported
from protok.structure.backbone import Backbone

VIEWS = ("codes", "ids", "continuous", "states", "decoded")
#: Residues that are given to a tokenizer at once.
RESIDUES = 4096
#: Bytes of codes and embeddings kept between tasks; beyond, they are computed again, or read
#: from `store`.
KEEP = 1 << 30
#: Codes of larger books get random vectors of this many dimensions in the view `ids`.
ONE_HOT = 1024


class Subject:
    """A tokenizer as the harness sees it, with its outputs remembered.

    Parameters
    ----------
    tokenizer
        With `name`, `encode` and, for code vectors and continuous use, `code_vectors` or `embed`.
    view
        One of `VIEWS`; see the head of the module. Tokenizers without codes have no `codes`,
        and give their embeddings instead.

    Attributes
    ----------
    continuous : bool
        Outputs are vectors, not codes.
    size : int
        Number of codes that outputs are, or, for `decoded`, are made from; else 0.
    vectors : (K, d) float32 or None
        Code vectors; None if continuous.
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

    def __init__(self, tokenizer: Any, view: str = "codes"):
        self.tokenizer = tokenizer
        self.codebook = getattr(tokenizer, "codebook", tokenizer.name)
        # Models without a codebook say so themselves, protok's in their codebook's name.
        native = getattr(tokenizer, "continuous", False) or self.codebook.endswith("@continuous")
        if native and view in ("codes", "ids", "continuous"):
            view, self.name = "continuous", tokenizer.name
        else:
            self.name = tokenizer.name + ("" if view in ("codes", "ids") else f":{view}")
        if view in ("states", "decoded") and not hasattr(tokenizer, "states"):
            raise Unsupported(f"{tokenizer.name} shows no hidden states", "measure its codes")
        if native and view == "decoded":
            raise Unsupported(f"{tokenizer.name} has no codes to decode", "measure its states")
        self.view = view
        self.continuous = view not in ("codes", "ids")
        self.size = 0 if view in ("continuous", "states") else int(tokenizer.size)
        self.vectors = None if self.continuous else _vectors(tokenizer)
        self.store: Path | None = None
        self._inner = tokenizer.subject if isinstance(tokenizer, KMeans) else None
        self._seconds = self._residues = 0.0
        self._kept: dict[str, np.ndarray] = {}
        self._bytes = 0
        self.fingerprint = self._origin = self._fingerprint()
        if view == "ids":
            self.name, self.vectors = f"{self.name}:ids", _own_vectors(self.size)
            self.fingerprint = hashlib.sha256(f"{self._origin}|ids".encode()).hexdigest()[:16]
        self._seconds = self._residues = 0.0

    def __repr__(self) -> str:
        return f"Subject({self.name}, {self.view}, {self.fingerprint})"

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
        if hasattr(self.tokenizer, "require"):
            self.tokenizer.require(structures)
        keys = [_key(structure) for structure in structures]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        for key in {*keys} - found.keys():
            path = self._path(key)
            if path is not None and path.exists():
                try:
                    found[key] = np.load(path, allow_pickle=False)
                except (OSError, ValueError, EOFError):
                    continue  # damaged: it is computed again, and written over
                self._keep(key, found[key])
        todo = [i for i, key in enumerate(keys) if key not in found]
        group: list[int] = []
        for i in [*todo, -1]:
            n = sum(len(structures[j]) for j in group)
            if group and (i < 0 or n + len(structures[i]) > RESIDUES):
                for j, out in zip(group, self.run([structures[j] for j in group]), strict=True):
                    found[keys[j]] = out
                    if keep:
                        self._keep(keys[j], out)
                        self._write(keys[j], out)
                group = []
            group.append(i)
        return [found[key] for key in keys]

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
        if self.store is None or getattr(self.tokenizer, "precomputed", False):
            return None
        return self.store / self._origin / key[:2] / f"{key[2:34]}.npy"

    def _write(self, key: str, out: np.ndarray) -> None:
        path = self._path(key)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:  # a run that is killed leaves no half array behind
            np.save(file, out)
        part.replace(path)

    def run(self, structures: list[Backbone]) -> list[np.ndarray]:
        """Codes or embeddings of structures, computed afresh."""
        started, before = time.process_time(), self._inner.seconds if self._inner else 0.0
        if self.view == "continuous":
            out = [np.asarray(self.tokenizer.embed(one), np.float32) for one in structures]
        elif self.view == "states":
            out = [self.tokenizer.states(one) for one in structures]
        elif self.view == "decoded":
            out = [self.tokenizer.states(self.tokenizer.encode(one)) for one in structures]
        elif hasattr(self.tokenizer, "encode_batch"):
            out = [tokens.ids for tokens in self.tokenizer.encode_batch(structures)]
        else:
            out = [self.tokenizer.encode(one).ids for one in structures]
        inside = self._inner.seconds - before if self._inner else 0.0
        self._seconds += time.process_time() - started - inside
        self._residues += sum(map(len, structures))
        for one, structure in zip(out, structures, strict=True):
            if len(one) != len(structure):
                raise ProtokError(
                    f"{self.name} gave {len(one)} tokens for {len(structure)} residues",
                    "a tokenizer gives one a residue",
                    file=structure.name,
                )
        return out

    def _fingerprint(self) -> str:
        said = self.continuous if self.view not in ("states", "decoded") else self.view
        digest = hashlib.sha256(f"{self.codebook}|{said}|".encode())
        own = getattr(self.tokenizer, "fingerprint", None)
        network = getattr(self.tokenizer, "network", None)
        # Precomputed tokens cannot be computed for the two structures; their file says it all.
        if own is not None:
            digest.update(str(own).encode())
            return digest.hexdigest()[:16]
        if network is not None:
            for key, value in sorted(network.state_dict().items()):
                digest.update(key.encode())
                digest.update(np.ascontiguousarray(value.detach().cpu().float().numpy()).tobytes())
        if self.vectors is not None:
            digest.update(np.ascontiguousarray(self.vectors, "<f4").tobytes())
        from protok.testing import random_backbone

        coarse = self.continuous and network is not None
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


def _key(structure: Backbone) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(structure.coords).tobytes())
    # Controls see the sequence, and precomputed tokens go by name.
    digest.update(f"{structure.name}|{structure.sequence}|{','.join(structure.chain)}".encode())
    # Some models read from the numbers where residues are missing.
    digest.update(f"{structure.index.tolist()}{','.join(structure.icode)}".encode())
    return digest.hexdigest()


def _vectors(tokenizer: Any) -> np.ndarray:
    if hasattr(tokenizer, "code_vectors"):
        return np.asarray(tokenizer.code_vectors(), np.float32)
    return np.eye(tokenizer.size, dtype=np.float32)


def _own_vectors(size: int) -> np.ndarray:
    if size <= ONE_HOT:
        return np.eye(size, dtype=np.float32)
    # Nearly orthogonal: a matrix of one-hot rows would be as large as the data.
    random = np.random.default_rng(0).normal(size=(size, ONE_HOT // 4)) / (ONE_HOT // 4) ** 0.5
    return random.astype(np.float32)


class KMeans:
    """Codes from a continuous subject: the nearest of k centres of its embeddings.

    Parameters
    ----------
    subject
        Continuous.
    k
        Number of codes.
    structures
        From which the centres are made, the same way every time.
    """

    version = 1  # of that way

    def __init__(self, subject: Subject, k: int, structures: Sequence[Backbone]):
        z = np.concatenate(subject.outputs(structures))
        z = z[np.isfinite(z).all(1)]
        if len(z) < k:
            raise ProtokError(f"{len(z)} residues for {k} centres", "give more structures or fewer codes")
        self.subject, self.size = subject, k
        self.precomputed = getattr(subject.tokenizer, "precomputed", False)
        random = np.random.default_rng(0)
        centres = z[random.choice(len(z), k, replace=False)].astype(np.float64)
        for _ in range(20):
            near = _nearest(z, centres)
            count = np.bincount(near, minlength=k)
            total = np.zeros_like(centres)
            np.add.at(total, near, z)
            full = count > 0
            centres[full] = total[full] / count[full, None]
            # A centre that nobody is nearest to starts again at a residue.
            centres[~full] = z[random.choice(len(z), int((~full).sum()), replace=False)]
        self.centres = centres.astype(np.float32)
        self.name = f"{subject.name.removesuffix(':continuous')}:kmeans{k}"
        # What the centres follow from: their last digits are another on another processor.
        digest = hashlib.sha256(f"{subject.fingerprint}|{k}|{self.version}".encode())
        for one in structures:
            digest.update(_key(one).encode())
        self.fingerprint = digest.hexdigest()[:16]
        self.codebook = f"{self.name}@{self.fingerprint[:8]}"

    def code_vectors(self) -> np.ndarray:
        """The centres, (k, d) float32."""
        return self.centres

    def encode_batch(self, structures: list[Backbone]) -> list:
        """Number of the nearest centre of each residue."""
        from protok.tokens.tokens import Tokens

        out = []
        known = self.subject.outputs(structures, keep=False)
        for one, z in zip(structures, known, strict=True):
            ids = np.full(len(one), -1, np.int32)
            there = np.isfinite(z).all(1)
            ids[there] = _nearest(z[there], self.centres)
            out.append(Tokens.like(one, ids, self.size, self.codebook))
        return out


def _nearest(z: np.ndarray, centres: np.ndarray) -> np.ndarray:
    half = (centres**2).sum(1) / 2
    parts = [z[i : i + 8192] for i in range(0, len(z), 8192)]
    return np.concatenate([(half - part @ centres.T).argmin(1) for part in parts] or [[]]).astype(int)
