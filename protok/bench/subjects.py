"""What is measured: tokenizers under one face, discrete or continuous.

A subject is named by a string: what `protok.load` knows (`protok-512`, `3di`, a folder), the
controls `residue-type`, `random-code` and `neighbour-count`, `proteinmpnn`, or a file of
precomputed tokens (`.npz`). `NAME:continuous` takes the embeddings instead of the codes,
`NAME:kmeans64` codes made from the embeddings by k-means. An object with the verbs of a
protok tokenizer will do as well.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from protok.backbone import Backbone
from protok.errors import FormatError, ProtokError, Unsupported

#: Residues that are given to a tokenizer at once.
RESIDUES = 4096
#: Bytes of codes and embeddings kept between tasks; beyond, they are computed again.
KEEP = 512 << 20


class Subject:
    """A tokenizer as the harness sees it, with its outputs remembered.

    Parameters
    ----------
    tokenizer
        With `name`, `encode` and, for code vectors and continuous use, `code_vectors` or `embed`.
    continuous
        Use embeddings.
    name
        As shown in results.

    Attributes
    ----------
    size : int
        Number of codes; 0 if continuous.
    vectors : (K, d) float32 or None
        Code vectors; None if continuous.
    fingerprint : str
        16 hex digits over the weights, the code vectors and the output for two structures
        that are always the same: another model never has it.
    """

    def __init__(self, tokenizer: Any, *, continuous: bool = False, name: str = ""):
        self.tokenizer = tokenizer
        self.codebook = getattr(tokenizer, "codebook", tokenizer.name)
        # Models without a codebook say so themselves, protok's in their codebook's name.
        native = getattr(tokenizer, "continuous", False) or self.codebook.endswith("@continuous")
        self.continuous = continuous = continuous or native
        self.name = name or tokenizer.name + (":continuous" if continuous and not native else "")
        self.size = 0 if continuous else int(tokenizer.size)
        self.vectors = None if continuous else _vectors(tokenizer)
        self._seconds = self._residues = 0.0
        self._kept: dict[str, np.ndarray] = {}
        self._bytes = 0
        self.fingerprint = self._fingerprint()
        self._seconds = self._residues = 0.0

    def __repr__(self) -> str:
        return f"Subject({self.name}, {self.size or 'continuous'}, {self.fingerprint})"

    @property
    def residues_per_second(self) -> float | None:
        """Speed of what was encoded so far, on one process; None if nothing was."""
        return round(self._residues / self._seconds, 1) if self._seconds else None

    def outputs(self, structures: Sequence[Backbone]) -> list[np.ndarray]:
        """Codes (L,) int32 with -1 where there is none, or embeddings (L, d) with NaN rows."""
        keys = [_key(structure) for structure in structures]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        todo = [i for i, key in enumerate(keys) if key not in found]
        group: list[int] = []
        for i in [*todo, -1]:
            n = sum(len(structures[j]) for j in group)
            if group and (i < 0 or n + len(structures[i]) > RESIDUES):
                for j, out in zip(group, self.run([structures[j] for j in group]), strict=True):
                    found[keys[j]] = out
                    self._keep(keys[j], out)
                group = []
            group.append(i)
        return [found[key] for key in keys]

    def _keep(self, key: str, out: np.ndarray) -> None:
        if self._bytes + out.nbytes <= KEEP:
            self._kept[key] = out
            self._bytes += out.nbytes

    def run(self, structures: list[Backbone]) -> list[np.ndarray]:
        """Codes or embeddings of structures, computed afresh."""
        started = time.perf_counter()
        if self.continuous:
            out = [np.asarray(self.tokenizer.embed(one), np.float32) for one in structures]
        elif hasattr(self.tokenizer, "encode_batch"):
            out = [tokens.ids for tokens in self.tokenizer.encode_batch(structures)]
        else:
            out = [self.tokenizer.encode(one).ids for one in structures]
        self._seconds += time.perf_counter() - started
        self._residues += sum(map(len, structures))
        for one, structure in zip(out, structures, strict=True):
            if len(one) != len(structure):
                raise ProtokError(
                    f"{self.name} gave {len(one)} tokens for {len(structure)} residues",
                    "a tokenizer gives one a residue", file=structure.name,
                )  # fmt: skip
        return out

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.codebook}|{self.continuous}|".encode())
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

        for out in self.run([random_backbone(60, seed) for seed in (0, 1)]):
            digest.update(np.round(np.nan_to_num(out, nan=-9.0), 4).astype("<f4").tobytes())
        return digest.hexdigest()[:16]


def _key(structure: Backbone) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(structure.coords).tobytes())
    # Controls see the sequence, and precomputed tokens go by name.
    digest.update(f"{structure.name}|{structure.sequence}|{','.join(structure.chain)}".encode())
    return digest.hexdigest()


def _vectors(tokenizer: Any) -> np.ndarray:
    if hasattr(tokenizer, "code_vectors"):
        return np.asarray(tokenizer.code_vectors(), np.float32)
    return np.eye(tokenizer.size, dtype=np.float32)


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

    def __init__(self, subject: Subject, k: int, structures: Sequence[Backbone]):
        z = np.concatenate(subject.outputs(structures))
        z = z[np.isfinite(z).all(1)]
        if len(z) < k:
            raise ProtokError(
                f"{len(z)} residues for {k} centres", "give more structures or fewer codes"
            )
        self.subject, self.size = subject, k
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
        digest = hashlib.sha256(subject.fingerprint.encode() + self.centres.tobytes())
        self.fingerprint = digest.hexdigest()[:16]
        self.codebook = f"{self.name}@{self.fingerprint[:8]}"

    def code_vectors(self) -> np.ndarray:
        """The centres, (k, d) float32."""
        return self.centres

    def encode_batch(self, structures: list[Backbone]) -> list:
        """Number of the nearest centre of each residue."""
        from protok.tokens import Tokens

        out = []
        for one, z in zip(structures, self.subject.outputs(structures), strict=True):
            ids = np.full(len(one), -1, np.int32)
            there = np.isfinite(z).all(1)
            ids[there] = _nearest(z[there], self.centres)
            out.append(Tokens.like(one, ids, self.size, self.codebook))
        return out


def _nearest(z: np.ndarray, centres: np.ndarray) -> np.ndarray:
    half = (centres**2).sum(1) / 2
    parts = [z[i : i + 8192] for i in range(0, len(z), 8192)]
    return np.concatenate([(half - part @ centres.T).argmin(1) for part in parts] or [[]]).astype(
        int
    )


class Precomputed:
    """Tokens of any other program, from a file: a tokenizer that only knows those structures.

    The `.npz` holds `names` (n,) and `lengths` (n,), and either `ids` (all residues end to end,
    -1 for none) with `vectors` (K, d), or `embeddings` (all residues, d). Names are those of
    the structures of the data folder. `protok.bench.save_precomputed` writes one.

    Raises
    ------
    FormatError
        If the file is not such a file.
    """

    precomputed = True

    def __init__(self, path: str | Path):
        path = Path(path)
        try:
            data = path.read_bytes()
            with np.load(path, allow_pickle=False) as held:
                held = dict(held)
            lengths = held["lengths"].astype(np.int64)
            start = np.r_[0, np.cumsum(lengths)]
            names = held["names"].astype(str).tolist()
            self.continuous = "embeddings" in held
            self._rows = held["embeddings" if self.continuous else "ids"]
            self._codes = None if self.continuous else held["vectors"].astype(np.float32)
        except (OSError, KeyError, ValueError) as error:
            raise FormatError(
                f"no file of precomputed tokens ({error})",
                "it holds names, lengths, and ids and vectors or embeddings", file=str(path),
            ) from error  # fmt: skip
        if start[-1] != len(self._rows) or len(names) != len(lengths):
            raise FormatError(
                f"{len(self._rows)} residues where lengths say {start[-1]}", "write it again",
                file=str(path),
            )  # fmt: skip
        if self._codes is not None and len(self._rows) and self._rows.max() >= len(self._codes):
            raise FormatError(
                f"code {self._rows.max()} of {len(self._codes)} vectors",
                "vectors has one row a code", file=str(path),
            )  # fmt: skip
        self._where = {name: (start[i], start[i + 1]) for i, name in enumerate(names)}
        self.name = path.stem
        self.fingerprint = hashlib.sha256(data).hexdigest()[:16]
        self.codebook = f"{self.name}@{self.fingerprint[:8]}"
        self.size = 0 if self._codes is None else len(self._codes)

    def code_vectors(self) -> np.ndarray:
        """The codebook, (K, d) float32."""
        return self._codes

    def embed(self, structure: Backbone) -> np.ndarray:
        """The stored rows of a structure, by its name.

        Raises
        ------
        Unsupported
            If the file does not have it, or has it with another length: a rotated, cut or
            noisy copy cannot be looked up.
        """
        begin, end = self._where.get(structure.name, (0, -1))
        if end - begin != len(structure):
            raise Unsupported(
                f"no precomputed tokens of {structure.name!r} with {len(structure)} residues",
                "compute them for all structures of the data folder",
            )
        return self._rows[begin:end]

    def encode(self, structure: Backbone):
        """The stored codes of a structure, as Tokens."""
        from protok.tokens import Tokens

        return Tokens.like(structure, self.embed(structure), self.size, self.codebook)


def save_precomputed(
    path: str | Path, names: Sequence[str], *, ids: Sequence[np.ndarray] | None = None,
    vectors: np.ndarray | None = None, embeddings: Sequence[np.ndarray] | None = None,
) -> None:  # fmt: skip
    """Write codes and a codebook, or embeddings, in the layout of `Precomputed`.

    Parameters
    ----------
    names
        Of the structures in the data folder.
    ids : list of (L,) int, with `vectors` (K, d)
        Codes, -1 for none.
    embeddings : list of (L, d)
        Instead of codes.
    """
    rows = embeddings if embeddings is not None else ids
    if rows is None or (embeddings is None) == (vectors is None):
        raise ValueError("give ids and vectors, or embeddings")
    held = {"names": np.array(list(names)), "lengths": np.array([len(one) for one in rows])}
    if embeddings is not None:
        held["embeddings"] = np.concatenate(list(rows)).astype(np.float32)
    else:
        held |= {"ids": np.concatenate(list(rows)).astype(np.int32), "vectors": vectors}
    np.savez_compressed(path, **held)


def subject(given: Any, structures: Sequence[Backbone] = ()) -> Subject:
    """The subject of a name or an object; `structures` are what k-means centres are made from.

    Raises
    ------
    FormatError
        If the name is not known.
    """
    if isinstance(given, Subject):
        return given
    if not isinstance(given, str | Path):
        return Subject(given)
    name, colon, view = str(given).rpartition(":")
    if not colon or not (view == "continuous" or view.startswith("kmeans")):
        name, view = str(given), ""
    made = Subject(_load(name), continuous=bool(view))
    if view.startswith("kmeans"):
        if not view[6:].isdecimal():
            raise FormatError(f"{given!r} is no tokenizer", "write NAME:kmeans512")
        return Subject(KMeans(made, int(view[6:]), structures))
    return made


def _load(name: str) -> Any:
    from protok.bench import controls

    if name in controls.CONTROLS:
        return controls.CONTROLS[name]()
    if name == "proteinmpnn":
        from protok.bench.mpnn import ProteinMPNN

        return ProteinMPNN.installed()
    if name.endswith(".npz"):
        return Precomputed(name)
    from protok.models import load

    return load(name)
