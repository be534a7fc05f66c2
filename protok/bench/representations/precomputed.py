"""Tokens that another program computed, from a file: for all other tokenizers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from protok.common.arrays import read_arrays, write_arrays
from protok.common.files import atomic
from protok.errors import FormatError, Unsupported
from protok.structure.backbone import Backbone
from protok.tokens.tokens import Tokens


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

    def __init__(self, path: str | Path):
        path = Path(path)
        try:
            data = path.read_bytes()
            held = read_arrays(path, ("lengths", "names", "embeddings", "ids", "vectors"))
            lengths = held["lengths"].astype(np.int64)
            start = np.r_[0, np.cumsum(lengths)]
            names = held["names"].astype(str).tolist()
            self._embeds = "embeddings" in held
            self._rows = held["embeddings" if self._embeds else "ids"]
            self._codes = None if self._embeds else held["vectors"].astype(np.float32)
        except (OSError, KeyError, ValueError) as error:
            remedy = "it holds names, lengths, and ids and vectors or embeddings"
            raise FormatError(f"no file of precomputed tokens ({error})", remedy, file=str(path)) from error
        fault = ""
        if len(names) != len(lengths):
            fault = f"{len(names)} names and {len(lengths)} lengths"
        elif start[-1] != len(self._rows):
            fault = f"{len(self._rows)} residues where lengths say {start[-1]}"
        elif len({*names}) < len(names):
            fault = f"{next(name for name in names if names.count(name) > 1)!r} twice"
        elif self._embeds and self._rows.ndim != 2:
            fault = f"embeddings of shape {self._rows.shape}"
        elif self._codes is not None and self._codes.ndim != 2:
            fault = f"vectors of shape {self._codes.shape}"
        if fault:
            raise FormatError(fault, "write it again, with protok.bench.save_precomputed", file=str(path))
        if self._codes is not None and len(self._rows) and self._rows.max() >= len(self._codes):
            fault = f"code {self._rows.max()} of {len(self._codes)} vectors"
            raise FormatError(fault, "vectors has one row a code", file=str(path))
        self._where = {name: (start[i], start[i + 1]) for i, name in enumerate(names)}
        self.name = path.stem
        self.fingerprint = hashlib.sha256(data).hexdigest()[:16]
        self.codebook = f"{self.name}@{self.fingerprint[:8]}"
        self.size = 0 if self._codes is None else len(self._codes)

    def code_vectors(self) -> np.ndarray:
        """The codebook, (K, d) float32.

        Raises
        ------
        Unsupported
            If the file holds embeddings.
        """
        if self._codes is None:
            raise Unsupported(f"{self.name} holds embeddings, no codes", "measure its embeddings")
        return self._codes

    def embed(self, structure: Backbone) -> np.ndarray:
        """The stored embeddings of a structure, by its name.

        Raises
        ------
        Unsupported
            If the file holds codes, or has the structure with another length: a cut copy cannot be
            looked up.
        FormatError
            If the file does not have the structure.
        """
        if not self._embeds:
            raise Unsupported(f"{self.name} holds codes, no embeddings", "measure its codes")
        return self._found(structure)

    def require(self, structures: Sequence[Backbone]) -> None:
        """Whether all structures are in the file, by name.

        Raises
        ------
        FormatError
            If not; says how many are missing.
        """
        missing = [structure.name for structure in structures if structure.name not in self._where]
        if missing:
            raise FormatError(
                f"no precomputed tokens of {missing[0]!r}: {len(missing)} of {len(structures)} "
                "structures are not in the file",
                "compute them for all structures of the data folder, under its names",
                file=self.name,
            )

    def _found(self, structure: Backbone) -> np.ndarray:
        self.require([structure])
        begin, end = self._where[structure.name]
        if end - begin != len(structure):
            raise Unsupported(
                f"no precomputed tokens of {structure.name!r} with {len(structure)} residues",
                "compute them for all structures of the data folder",
            )
        return self._rows[begin:end]

    def encode(self, structure: Backbone) -> Tokens:
        """The stored codes of a structure."""
        return Tokens.like(structure, self._found(structure), self.size, self.codebook)


def save_precomputed(
    path: str | Path,
    names: Sequence[str],
    *,
    ids: Sequence[np.ndarray] | None = None,
    vectors: np.ndarray | None = None,
    embeddings: Sequence[np.ndarray] | None = None,
) -> None:
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
    if embeddings is not None and vectors is None:
        rows, codes = list(embeddings), None
    elif embeddings is None and ids is not None and vectors is not None:
        rows, codes = list(ids), vectors
    else:
        raise ValueError("give ids and vectors, or embeddings")
    table, lengths = np.array(list(names)), np.array([len(row) for row in rows])
    flat = np.concatenate(rows)
    with atomic(path, "wb") as handle:
        if codes is None:
            write_arrays(handle, names=table, lengths=lengths, embeddings=flat.astype(np.float32))
        else:
            write_arrays(handle, names=table, lengths=lengths, ids=flat.astype(np.int32), vectors=codes)
