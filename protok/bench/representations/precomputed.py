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
from protok.tokens.export import structures
from protok.tokens.files import scan
from protok.tokens.npz import is_token_npz
from protok.tokens.tokens import Tokens

#: Codes of a file, at most: each has a vector.
MOST = 1 << 18
ARRAYS = ("lengths", "names", "embeddings", "ids", "vectors", "size")


def _of_tokens(path: Path) -> dict[str, np.ndarray]:
    """The same arrays of a token file; none if it is of another kind."""
    if path.suffix == ".npz" and not is_token_npz(path):
        return {}
    tokens = list(structures(scan(path)))
    if len({each.codebook for each in tokens}) > 1:
        raise FormatError("holds tokens of several codebooks", "encode with one model", file=str(path))
    ids = np.concatenate([np.zeros(0, np.int32), *(each.ids for each in tokens)])
    columns = {"names": [each.name for each in tokens], "lengths": [len(each) for each in tokens]}
    return {key: np.array(value) for key, value in columns.items()} | {
        "ids": ids,
        "size": np.array(max((each.size for each in tokens), default=0)),
    }


class Precomputed:
    """Tokens of any other program, from a file: a tokenizer that only knows those structures.

    The `.npz` holds `names` (n,) and `lengths` (n,), and either `ids` (all residues end to end,
    -1 for none), or `embeddings` (all residues, d). Beside ids it may hold `vectors` (K, d), or else `size`,
    the number K of codes, which is otherwise that of the largest id and one. Names are those of the
    structures of the data folder (`protok.bench.names`). `protok.bench.save_precomputed` writes one. A token
    file of `protok encode` will do too, of structures under their names.

    Raises
    ------
    FormatError
        If the file is not such a file.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        try:
            data = path.read_bytes()
            held = _of_tokens(path) or read_arrays(path, ARRAYS)
            lengths = held["lengths"].astype(np.int64)
            start = np.r_[0, np.cumsum(lengths)]
            names = held["names"].astype(str).tolist()
            self._embeds = "embeddings" in held
            self._rows = held["embeddings" if self._embeds else "ids"]
            self._codes = held["vectors"].astype(np.float32) if "vectors" in held else None
            size = int(held["size"]) if "size" in held else None
        except (OSError, KeyError, ValueError) as error:
            remedy = "it holds names, lengths, and ids (with vectors or not) or embeddings"
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
        elif not self._embeds and (self._rows.ndim != 1 or self._rows.dtype.kind not in "iu"):
            fault = f"ids of type {self._rows.dtype} and shape {self._rows.shape}"
        elif self._codes is not None and self._codes.ndim != 2:
            fault = f"vectors of shape {self._codes.shape}"
        if fault:
            raise FormatError(fault, "write it again, with protok.bench.save_precomputed", file=str(path))
        largest = -1 if self._embeds else int(self._rows.max(initial=-1))
        size = size if self._codes is None else len(self._codes)
        size = largest + 1 if size is None else size
        if not largest < size <= MOST:
            fault, remedy = f"code {largest} of {size}", "vectors has one row a code, or size says how many"
            raise FormatError(fault, f"{remedy}, at most {MOST:,}", file=str(path))
        self._where = {name: (start[i], start[i + 1]) for i, name in enumerate(names)}
        self.name = path.stem
        self.fingerprint = hashlib.sha256(data).hexdigest()[:16]
        self.codebook = f"{self.name}@{self.fingerprint[:8]}"
        self.size = size

    def code_vectors(self) -> np.ndarray:
        """The codebook, (K, d) float32.

        Raises
        ------
        Unsupported
            If the file holds none.
        """
        if self._codes is None:
            raise Unsupported(f"{self.name} holds no vectors of codes", "measure what it holds")
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
    size: int | None = None,
    embeddings: Sequence[np.ndarray] | None = None,
) -> None:
    """Write codes, with their vectors or without, or embeddings, in the layout of `Precomputed`.

    Parameters
    ----------
    names
        Of the structures in the data folder.
    ids : list of (L,) int
        Codes, -1 for none.
    vectors : (K, d)
        Of the codebook. Without them probes and alignments take each code for one that is like no other.
    size
        Number of codes where there are no vectors.
    embeddings : list of (L, d)
        Instead of codes.
    """
    parts = ids if embeddings is None else embeddings
    if parts is None or (ids is not None and embeddings is not None) or (ids is None and vectors is not None):
        raise ValueError("give ids, with vectors or without, or embeddings")
    rows = [np.asarray(row) for row in parts]
    name, kind = ("ids", np.int32) if embeddings is None else ("embeddings", np.float32)
    held: dict[str, np.ndarray] = {name: np.concatenate(rows).astype(kind)}
    if vectors is not None:
        held["vectors"] = vectors
    elif size is not None:
        held["size"] = np.array(size)
    lengths = np.array([len(row) for row in rows])
    with atomic(path, "wb") as handle:
        write_arrays(handle, names=np.array(list(names)), lengths=lengths, **held)
