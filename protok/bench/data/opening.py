"""Data by its path: what tasks are asked of, and what a small language model learns from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from protok.bench.data import mini, release
from protok.bench.data.folder import Folder
from protok.bench.data.parquet import schema_of
from protok.bench.data.source import LabelledStructures, digest
from protok.common.grouping import packed
from protok.errors import FormatError
from protok.structure.backbone import Backbone
from protok.structure.io.sources.paths import iter_files
from protok.structure.store import read_store
from protok.tokenizers.protocol import Tokenizer, encode_each
from protok.tokens.export import structures
from protok.tokens.files import scan
from protok.tokens.tokens import Tokens

#: Residues that are encoded at once.
RESIDUES = 1 << 15


def open_data(data: str | Path) -> LabelledStructures:
    """The data of a folder, tidy, official, or of structure files; of a Parquet file of them; or `mini`."""
    path = Path(data)
    if str(data) == "mini" and not path.is_dir():
        return mini.from_files(mini.mini_files())
    if path.is_file() and path.suffix == ".parquet":
        return Folder(path)
    if not path.is_dir():
        raise FormatError("no such folder", "give a data folder, or mini", file=str(data))
    if release.root_of(path):
        return release.Release(path)
    if not any(path.glob("*.parquet")) and next(iter_files(path), None) is not None:
        return mini.from_files(path)
    return Folder(path)


@dataclass(frozen=True, eq=False)
class Training:
    """Chains that a language model of codes learns from: structures to encode, or tokens that are there.

    Attributes
    ----------
    lengths, weight : (n,)
        Residues of each, and how often one of them is drawn, relative to others.
    get
        Structure or tokens by number.
    digest
        sha256 of what they are.
    """

    lengths: np.ndarray
    weight: np.ndarray
    get: Callable[[int], Backbone | Tokens]
    digest: str

    def __len__(self) -> int:
        return len(self.lengths)

    def some(self, residues: int) -> np.ndarray:
        """Numbers of chains, drawn at random, with no more residues than that; one at least."""
        drawn = np.random.default_rng(0).permutation(len(self))
        return drawn[: max(1, int((np.cumsum(self.lengths[drawn]) <= residues).sum()))]

    def tokens(self, tokenizer: Tokenizer, chains: np.ndarray, **options: Any) -> Iterator[Tokens]:
        """Yield tokens of some chains, by options of `encode`.

        Raises
        ------
        Unsupported
            If tokens are there, and of another codebook.
        """
        for group in packed(chains.tolist(), lambda i: int(self.lengths[i]), RESIDUES):
            held = [self.get(i) for i in group]
            yield from (_of(tokenizer, each) for each in held if isinstance(each, Tokens))
            todo = [each for each in held if isinstance(each, Backbone)]
            yield from encode_each(tokenizer, todo, **options) if todo else ()


def _of(tokenizer: Tokenizer, tokens: Tokens) -> Tokens:
    """The codes of a tokenizer, which may be the second alphabet of the tokens."""
    if tokens.codebook == tokenizer.codebook:
        return tokens
    ids = tokens.ids_of(tokenizer.codebook)
    own = {"ids": ids, "size": tokenizer.size, "codebook": tokenizer.codebook, "alphabet": ""}
    return replace(tokens, keyframes=None, environment=None, **own)


def read_training(path: str | Path) -> Training:
    """What is at a path: structures as `open_data` takes them, or a file of tokens of `protok encode`.

    A store beside a `manifest.csv` has its weights (`protok.structure.store`): relatives count as one.

    Raises
    ------
    FormatError
        If nothing can be learned from it.
    """
    path = Path(path)
    if path.is_file() and not (path.suffix == ".parquet" and "xyz" in schema_of(path).names):
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return _listed(list(structures(scan(path))), path, sha256)
    manifest = path.with_name("manifest.csv")
    if path.is_file() and manifest.exists():
        store = read_store(path)
        return Training(store.lengths(), store.weight, store.backbone, store.digest)
    folder = open_data(path)
    ids = list(dict.fromkeys(id for of in folder.sets().values() for id in of))
    return _listed([folder.structure(id) for id in ids], path, digest(folder, (), ids))


def _listed(held: list, path: Path, sha256: str) -> Training:
    lengths = np.array([len(each) for each in held], int)
    if not lengths.sum():
        raise FormatError("nothing to learn from", "give structures, or tokens of them", file=str(path))
    return Training(lengths, np.ones(len(held)), held.__getitem__, sha256)
