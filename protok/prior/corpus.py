"""Records of codes to learn from: files of `protok encode` and of `protok image encode`."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from protok.common.arrays import read_arrays
from protok.errors import FormatError
from protok.prior.config import PriorDataConfig
from protok.prior.layout import OTHER, STRIDE, Condition, Layout, Row
from protok.tokens.layouts import BLOCKS, SPECIALS, UNK
from protok.tokens.tokens import Tokens
from protok.tokens.vocabulary import Vocabulary

#: Steps that are planned together, so that the chains of a batch are alike in length.
PLAN = 16


@dataclass(frozen=True)
class Corpus:
    """Codes in memory, of one codebook.

    Attributes
    ----------
    codes
        Of each record (h, w, levels), all alike, or (n,).
    names
        Of each record.
    texts
        The residue types of a chain; empty for images.
    classes
        Of each record the folder in its name, or what a table says of a chain; or empty.
    codebook, grid, pixels
        As in `Layout`.
    size
        Letters, or codes of each level.
    digest
        sha256 of the file.
    vocabulary
        Of chains: their codes are its ids without the special ones.
    """

    codes: Sequence[np.ndarray]
    names: Sequence[str]
    texts: Sequence[str]
    classes: Sequence[str]
    codebook: str
    size: int
    grid: tuple[int, ...]
    pixels: tuple[int, ...]
    digest: str
    vocabulary: Vocabulary | None = None

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Any) -> Corpus:
        """Some of the records, by slice, mask or numbers."""
        picked = np.arange(len(self))[rows].tolist()
        kept = {
            key: [getattr(self, key)[i] for i in picked] for key in ("codes", "names", "texts", "classes")
        }
        return replace(self, **kept)

    def some(self, most: int) -> Corpus:
        """At most so many of the records, evenly spread."""
        return self[np.linspace(0, len(self) - 1, min(most, len(self))).astype(int)]

    def origins(self) -> np.ndarray:
        """Number of each record's origin, (n,): an image and its mirror image share one."""
        if not self.grid:
            return np.arange(len(self))
        from protok.image.tokens import MIRRORED

        there = {name: i for i, name in reversed(list(enumerate(self.names)))}
        origins = []
        for i, name in enumerate(self.names):
            origin = i
            while name.endswith(MIRRORED) and (name := name.removesuffix(MIRRORED)) in there:
                origin = there[name]
            origins.append(origin)
        return np.unique(origins, return_inverse=True)[1]

    def condition(self, i: int, kind: str) -> Condition:
        """What record i is conditioned on."""
        if kind == "length+class":
            return len(self.texts[i]), self.classes[i]
        if kind == "class":
            return self.classes[i]
        if kind == "length":
            return len(self.texts[i])
        return self.texts[i] if kind == "sequence" else None

    def layout(self, data: PriorDataConfig) -> Layout:
        """The layout that these records need.

        Raises
        ------
        FormatError
            If the condition is none that they have.
        """
        labels: tuple[str, ...] = ()
        if data.condition not in ("none", "class") and self.grid:
            raise FormatError(f"images have no {data.condition}", "condition on class or none")
        if data.condition.startswith("length"):
            # The upper end of each stretch of lengths.
            labels = tuple(str(n) for n in range(STRIDE, data.longest + STRIDE, STRIDE))
        if data.condition.endswith("class"):
            labels += tuple(sorted(set(self.classes)))
            if "" in labels:
                raise FormatError(
                    f"{self.names[self.classes.index('')]!r} names no class",
                    "encode a folder of one folder of images a class, give a table of all chains as "
                    "data.classes, or condition on nothing",
                )
        elif data.condition == "sequence":
            words = self.vocabulary
            if words is not None and (words.spacing or words.environments):
                raise FormatError("letters of a sequence have no keyframes", "set data.layout to letters")
            labels = tuple(sorted({OTHER}.union(*map(set, self.texts))))
        lengths: tuple[int, ...] = ()
        if not self.grid:
            at = np.linspace(0, 1, 101)
            quantiles = np.quantile([len(text) for text in self.texts], at, method="nearest")
            lengths = tuple(quantiles.astype(int).tolist())
        bare = self._bare()
        own = {"order": data.order, "condition": data.condition, "longest": data.longest}
        if data.condition == "length+class":
            own["shares"] = self._shares(-(-data.longest // STRIDE))
        return replace(bare, labels=labels, lengths=lengths, **own)

    def _shares(self, stretches: int) -> tuple[float, ...]:
        """Of each stretch of lengths the shares of the classes; of a rare one more as of all."""
        names, kind = np.unique(self.classes, return_inverse=True)
        counts = np.zeros((stretches, len(names)))
        np.add.at(counts, (np.array([(len(text) - 1) // STRIDE for text in self.texts]), kind), 1)
        counts += counts.sum(0) / counts.sum()
        return tuple(np.round(counts / counts.sum(1, keepdims=True), 4).ravel().tolist())

    def _bare(self) -> Layout:
        words = self.vocabulary
        if words is None:
            return Layout(self.codebook, self.size, self.grid, self.pixels)
        rows = {"arrangement": words.layout, "spacing": words.spacing, "motions": words.motions}
        rows |= {"environments": words.environments, "around": words.around}
        return Layout(self.codebook, len(words) - len(SPECIALS), **rows)

    def tokens(self, i: int) -> Tokens:
        """Of chain i, under its name."""
        return self._bare().tokens(self.codes[i], self.names[i])

    def letters(self) -> list[np.ndarray]:
        """Of each chain, -1 where missing."""
        if self.vocabulary is None or not (self.vocabulary.spacing or self.vocabulary.environments):
            return list(self.codes)
        return [self.tokens(i).ids for i in range(len(self))]


def read_corpus(
    path: str | Path,
    longest: int | None = None,
    layout: str = BLOCKS,
    *,
    environments: bool = False,
    classes: str | Path = "",
) -> Corpus:
    """Read a token file, or codes of images.

    Parameters
    ----------
    path
        ``.parquet``, ``.fasta``, ``.csv`` or ``.npz`` of `protok encode`, or ``.npz`` of
        `protok image encode`.
    longest
        Leave out longer chains.
    layout
        Of chains with keyframes.
    environments
        Whether to read environment letters too, of chains.
    classes
        Table of chains: name, tab, class.

    Raises
    ------
    FormatError
        If it is neither, holds codes of several codebooks, images of several sizes, or nothing.
    """
    path = Path(path)
    if not path.is_file():
        raise FormatError("no such file of codes", "check the path", file=str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    images = path.suffix.lower() == ".npz" and _holds_images(path)
    corpus = _images(path, digest) if images else _chains(path, digest, longest, layout, environments)
    if classes and not images:
        table = read_classes(classes)
        corpus = replace(corpus, classes=[table.get(name, "") for name in corpus.names])
    if not len(corpus):
        raise FormatError("holds no codes to learn from", "encode something", file=str(path))
    return corpus


def read_classes(path: str | Path) -> dict[str, str]:
    """Class of each name, from a table of names and classes with a tab between them.

    Raises
    ------
    FormatError
        If it is none.
    """
    try:
        return dict(line.split("\t") for line in Path(path).read_text("utf-8").splitlines() if line)
    except (OSError, ValueError) as error:
        raise FormatError(
            f"not a table of names and classes ({error})",
            "make one with `protok prior classes`",
            file=str(path),
        ) from error


def _holds_images(path: Path) -> bool:
    from protok.image.tokens import DAMAGE

    with suppress(*DAMAGE):
        return str(read_arrays(path, ["format"])["format"]).startswith("protok-image-codes")
    return False


def _images(path: Path, digest: str) -> Corpus:
    from protok.image.tokens import load_codes

    tokens = load_codes(path)
    _of_one({image.codebook for image in tokens}, "codebooks", path)
    _of_one({(image.height, image.width, image.ids.shape) for image in tokens}, "sizes of images", path)
    if not tokens:
        raise FormatError("holds no images", "encode some", file=str(path))
    first = tokens[0]
    codes = [image.ids.reshape(*image.ids.shape[:2], image.levels) for image in tokens]
    names = [image.name for image in tokens]
    classes = [name.split("/")[0] if "/" in name else "" for name in names]
    pixels = (first.height, first.width, first.factor)
    own = (first.codebook, first.size, codes[0].shape, pixels, digest)
    return Corpus(codes, names, [""] * len(names), classes, *own)


def _chains(path: Path, digest: str, longest: int | None, layout: str, environments: bool) -> Corpus:
    from protok.tokens.files import scan

    codes, names, texts = [], [], []
    books: set[tuple[str, int]] = set()
    vocabularies: set[Vocabulary] = set()
    uncoded = 0
    for chain in scan(path):
        books.add((chain.codebook, chain.size))
        uncoded += chain.uncoded
        if chain.uncoded or (longest is not None and len(chain) > longest):
            continue
        own = "" if layout == BLOCKS or chain.keyframes is None else layout
        if environments and chain.environment is None:
            raise FormatError("no environment letters", "encode with a model that has them", file=str(path))
        vocabulary = Vocabulary.of(chain, own, environments=environments)
        ids = np.array(vocabulary.encode(chain)[1:-1], np.int32)
        if longest is None or len(ids) <= (2 + environments) * longest:
            vocabularies.add(vocabulary)
            codes.append(np.where(ids == UNK, -1, ids - len(SPECIALS)))
            names.append(chain.name)
            texts.append(chain.sequence)
    if uncoded:
        warnings.warn(f"{path}: chains without any code left out: {uncoded}", stacklevel=2)
    _of_one(books, "codebooks", path)
    _of_one(vocabularies, "spacings of keyframes", path)
    book, size = next(iter(books), ("", 0))
    own = (book, size, (), (), digest, next(iter(vocabularies), None))
    return Corpus(codes, names, texts, [""] * len(names), *own)


def _of_one(values: set, what: str, path: Path) -> None:
    if len(values) > 1:
        raise FormatError(
            f"holds {len(values)} {what}: {', '.join(sorted(map(str, values))[:3])}",
            "a prior learns one",
            file=str(path),
        )


@dataclass(frozen=True)
class Batches:
    """Training batches as a function of the step: a resumed run sees the same ones.

    Attributes
    ----------
    corpus, layout
        Records, and how they become rows.
    codes
        About so many a batch.
    drop
        Share of the rows whose condition is hidden.
    seed
        Of the draws.
    """

    corpus: Corpus
    layout: Layout
    codes: int
    drop: float
    seed: int

    def batch(self, step: int) -> list[Row]:
        """Rows of one step, alike in length."""
        block, part = divmod(step, PLAN)
        rng = np.random.default_rng((self.seed, block))
        length = np.array([ids.size for ids in self.corpus.codes])
        n = max(PLAN, round(PLAN * self.codes / length.mean()))
        drawn = rng.integers(len(length), size=n)
        drawn = drawn[np.argsort(length[drawn], kind="stable")]
        edges = np.cumsum(length[drawn])
        cut = np.searchsorted(edges, edges[-1] * np.arange(PLAN + 1) / PLAN)
        place = rng.permutation(PLAN)[part]
        picked = drawn[cut[place] : cut[place + 1]]
        hidden = np.random.default_rng((self.seed, step, 1)).random((2, n)) < self.drop
        kind = self.layout.condition
        return [
            self.layout.row(self.corpus.codes[i], _without(self.corpus.condition(int(i), kind), *hide))
            for i, hide in zip(picked if len(picked) else drawn[:1], hidden.T.tolist(), strict=False)
        ]


def _without(condition: Condition, first: bool, second: bool) -> Condition:
    """A condition, or what is left of it where parts are hidden."""
    if isinstance(condition, tuple):
        return None if first else condition[0], None if second else condition[1]
    return None if first else condition
