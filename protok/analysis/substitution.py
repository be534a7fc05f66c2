"""Substitution matrices: how much likelier codes are aligned in homologs than by chance.

A score is a log-odds, ours in quarters of a bit. The pairs of codes that homologs align are either
counted (`of_alignments`) or modelled (`of_codebook`): a homolog's code is taken for the same
point of the latent space, moved by Gaussian noise. Foldseek's matrix of 3Di and that of Protein
Blocks are biotite's copies of the published ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from protok.common.arrays import read_arrays, write_arrays
from protok.common.extras import Extra
from protok.common.files import atomic
from protok.errors import CorruptFile, FormatError, Unsupported
from protok.tokenizers.protocol import HasCodeVectors, HasEnvironments, HasScores, Tokenizer

if TYPE_CHECKING:
    from protok.structure.backbone import Backbone

#: Scores of one bit.
BIT = 4
#: The highest score.
MOST = 1000
#: No pair of codes costs more than four bits: noise makes odd codes.
FLOOR = -4 * BIT
#: Opening a gap (with its first residue), and each further residue.
GAP = (-40, -4)
#: What scores of shapes count for beside those of another alphabet, chosen on half A of the SCOPe folds:
#: shapes of neighbours are alike.
BESIDE = 0.5
#: Of the Gaussian, over the root mean square distance of two codes.
WIDTH = 0.4
#: Of a matrix, in its file.
HELD = ("scores", "gap", "codebook", "origin", "bit")
#: Modelled pairs that are added to counted ones, for each code.
PSEUDO = 10


@dataclass(frozen=True, eq=False)
class Matrix:
    """Scores of aligning codes.

    Attributes
    ----------
    scores : (size, size) int16
        Symmetric; negative on average.
    gap : (int, int)
        Score of the first residue of a gap, and of each further one.
    codebook : str
        `name@fingerprint` of the codes.
    origin : str
        Where the scores come from, in words.
    bit : int
        Score of one bit.
    """

    scores: np.ndarray
    gap: tuple[int, int]
    codebook: str
    origin: str = ""
    bit: int = BIT

    def __post_init__(self) -> None:
        scores = np.asarray(self.scores)
        if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not len(scores):
            raise ValueError(f"scores are square, not of shape {scores.shape}")
        if scores.dtype.kind not in "iu" or np.abs(scores.astype(np.int64)).max() > MOST:
            raise ValueError(f"scores are integers from {-MOST} to {MOST}")
        if (scores != scores.T).any():
            raise ValueError("scores are symmetric")
        if len(self.gap) != 2 or not all(-MOST <= g < 0 for g in self.gap):
            raise ValueError(f"gaps cost: two numbers from {-MOST} to -1")
        if not 1 <= self.bit <= MOST:
            raise ValueError(f"a bit scores 1 to {MOST}, not {self.bit}")
        object.__setattr__(self, "scores", scores.astype(np.int16))

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.scores)

    def save(self, path: str | Path) -> None:
        """Write an `.npz` file of plain arrays."""
        with atomic(path, "wb") as handle:
            write_arrays(handle, **{name: getattr(self, name) for name in HELD})

    @classmethod
    def load(cls, path: str | Path) -> Matrix:
        """Read what `save` wrote; nothing in it is executed.

        Raises
        ------
        CorruptFile
            If it is no such file.
        """
        try:
            held = read_arrays(path, HELD)
            first, further = map(int, held["gap"])
            names = str(held["codebook"]), str(held["origin"])
            return cls(held["scores"], (first, further), *names, int(held["bit"]))
        except FileNotFoundError:
            raise
        except Exception as error:  # numpy raises a dozen kinds on damaged bytes
            raise CorruptFile(
                f"not a substitution matrix ({error})", "make one with `protok matrix`", file=path
            ) from error


def default_matrix(tokenizer: Tokenizer, usage: np.ndarray | None = None) -> Matrix:
    """The matrix that `protok search` takes for a tokenizer.

    Published ones for 3Di and Protein Blocks, one that a model brings, otherwise `of_codebook`.

    Parameters
    ----------
    tokenizer
        With code vectors, unless it is one of these.
    usage : (size,)
        How often each code occurs where it is searched.

    Raises
    ------
    Unsupported
        If the tokenizer has no code vectors.
    """
    from biotite.sequence.align import SubstitutionMatrix

    origin = f"published: {tokenizer.name}"
    if tokenizer.name == "3di":
        # Foldseek's own gap costs; its matrix is in half bits.
        scores = SubstitutionMatrix.std_3di_matrix().score_matrix()
        return Matrix(scores, (-10, -1), tokenizer.codebook, origin, bit=2)
    if tokenizer.name == "protein-blocks":
        # The last letter of biotite's alphabet is the undefined block. Scores are in hundredths,
        # tenths are enough here. What a bit scores is not published: with 15, 2^(score / bit) of blocks drawn
        # from natural chains has mean 1, as log-odds have (Karlin & Altschul 1990).
        scores = SubstitutionMatrix.std_protein_blocks_matrix().score_matrix()[:16, :16]
        return Matrix(np.rint(scores / 10).astype(int), (-100, -10), tokenizer.codebook, origin, bit=15)
    if isinstance(tokenizer, HasScores) and tokenizer.scores is not None:
        return Matrix(tokenizer.scores, GAP, tokenizer.codebook, "counted in homologs of its training chains")
    if not isinstance(tokenizer, HasCodeVectors):
        raise Unsupported(
            f"{tokenizer.name} has no code vectors to make a matrix of",
            "count one in homologs with `protok matrix` and give it with --matrix",
        )
    return of_codebook(tokenizer.code_vectors(), tokenizer.codebook, usage)


def default_matrices(tokenizers: Sequence[Tokenizer], usages: Sequence[np.ndarray | None]) -> list[Matrix]:
    """Those of `default_matrix` of one alphabet or several whose scores add up; of shapes `BESIDE` of theirs.

    Parameters
    ----------
    tokenizers
        One, or shapes and others.
    usages
        Of each, as for `default_matrix`.
    """
    matrices = list(map(default_matrix, tokenizers, usages))
    return [
        replace(m, scores=np.rint(BESIDE * m.scores).astype(int), origin=f"{m.origin}, times {BESIDE:g}")
        if len(matrices) > 1 and isinstance(t, HasEnvironments)
        else m
        for t, m in zip(tokenizers, matrices, strict=True)
    ]


def summands(matrices: Sequence[Matrix]) -> list[Matrix]:
    """Matrices whose scores can be added: all in quarters of a bit, rounded, with the dearest gap of them.

    What is beyond the `MOST` of a matrix in quarters is cut.
    """
    if len(matrices) == 1:
        return [*matrices]
    scores = [np.rint(m.scores * (BIT / m.bit)).clip(-MOST, MOST).astype(int) for m in matrices]
    gaps = [np.rint(np.multiply(m.gap, BIT / m.bit)).astype(int) for m in matrices]
    first, further = np.min(gaps, axis=0).clip(-MOST, -1).tolist()
    return [
        replace(m, scores=own, gap=(first, further), bit=BIT) for m, own in zip(matrices, scores, strict=True)
    ]


def of_codebook(
    vectors: np.ndarray, codebook: str, usage: np.ndarray | None = None, width: float = WIDTH
) -> Matrix:
    """Log-odds of codes whose vectors differ by Gaussian noise.

    Parameters
    ----------
    vectors : (size, d)
        Of the codes.
    codebook
        `name@fingerprint`.
    usage : (size,)
        How often each code occurs; without it all occur alike. It makes agreement in a rare code
        worth more.
    width
        Standard deviation of the noise, over the root mean square distance of two codes.
    """
    joint = _modelled(np.asarray(vectors, np.float64), _shares(usage, len(vectors)), width)
    return Matrix(_log_odds(joint), GAP, codebook, f"of the codebook, width {width:g}")


def of_alignments(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    codebook: str,
    size: int,
    vectors: np.ndarray | None = None,
) -> Matrix:
    """Log-odds of codes that alignments of homologs put side by side.

    Where few pairs are counted, modelled ones fill in: those of `of_codebook`, with the width that
    makes the counted ones likeliest; without `vectors`, equal codes and independent ones.

    Parameters
    ----------
    pairs
        Aligned codes of two chains each, two arrays of one length; -1 is left out.
    codebook, size
        Of the codes.
    vectors : (size, d)
        Of the codes.

    Raises
    ------
    FormatError
        If no pair of codes is aligned.
    """
    return of_counts(counts_of(pairs, size), codebook, vectors)


def counts_of(pairs: Iterable[tuple[np.ndarray, np.ndarray]], size: int) -> np.ndarray:
    """How often two codes are aligned, (size, size), symmetric.

    Parameters
    ----------
    pairs, size
        As for `of_alignments`.

    Raises
    ------
    FormatError
        If no pair of codes is aligned.
    """
    counts = np.zeros((size, size))
    for ids, other_ids in pairs:
        both = (ids >= 0) & (other_ids >= 0)
        np.add.at(counts, (ids[both], other_ids[both]), 1)
    if not counts.any():
        raise FormatError("no two codes are aligned", "give structures of homologs")
    return (counts + counts.T) / 2


def of_counts(counts: np.ndarray, codebook: str, vectors: np.ndarray | None = None) -> Matrix:
    """`of_alignments` of pairs that are counted already.

    Parameters
    ----------
    counts : (size, size)
        Of `counts_of`.
    codebook, vectors
        As for `of_alignments`.
    """
    size, total = len(counts), counts.sum()
    shares = _shares(counts.sum(0), size)
    origin = f"{total:.0f} aligned residues"
    if vectors is None:
        kept = float(np.trace(counts) / total)
        prior = kept * np.diag(shares) + (1 - kept) * np.outer(shares, shares)
    else:
        vectors = np.asarray(vectors, np.float64)
        tried = {w: _modelled(vectors, shares, w) for w in np.geomspace(0.1, 0.8, 10).round(3)}
        width, prior = max(tried.items(), key=lambda item: (counts * np.log(item[1])).sum())
        origin += f", modelled with width {width:g}"
    joint = counts + PSEUDO * size * prior
    return Matrix(_log_odds(joint / joint.sum()), GAP, codebook, origin)


def _shares(usage: np.ndarray | None, size: int) -> np.ndarray:
    """Frequencies of codes, none of them 0."""
    counts = np.ones(size) if usage is None else np.asarray(usage, np.float64) + 1
    return counts / counts.sum()


def _modelled(vectors: np.ndarray, shares: np.ndarray, width: float) -> np.ndarray:
    """Joint frequencies of the codes of a residue and of its homolog, (size, size)."""
    square = (vectors**2).sum(1)
    distance = np.maximum(square[:, None] + square - 2 * vectors @ vectors.T, 0)
    np.fill_diagonal(distance, 0)
    scale = 2 * width**2 * max(distance.mean(), 1e-12)
    joint = shares[:, None] * shares * np.maximum(np.exp(-distance / scale), 1e-12)
    return joint / joint.sum()


def _log_odds(joint: np.ndarray) -> np.ndarray:
    alone = joint.sum(0)
    odds = BIT * np.log2(np.maximum(joint, 1e-300) / (alone[:, None] * alone))
    return np.rint(np.maximum((odds + odds.T) / 2, FLOOR)).astype(np.int16)


def tm_alignment(first: Backbone, second: Backbone) -> tuple[float, np.ndarray]:
    """TM-align of two Backbones of any lengths.

    Zhang & Skolnick 2005, doi:10.1093/nar/gki524, as in the package `tmtools`.

    Returns
    -------
    score
        Mean of the TM-scores over the two lengths.
    pairs : (n, 2) int
        Rows of aligned residues that lie within 5 Å.

    Raises
    ------
    MissingExtra
        Without `tmtools`.
    Unsupported
        If one has fewer than three CA atoms.
    """
    with Extra("prior", "TM-align"):
        import tmtools

    backbones = first, second
    rows = [np.flatnonzero(np.isfinite(b.coords[:, 1]).all(1)) for b in backbones]
    if min(map(len, rows)) < 3:
        raise Unsupported("fewer than three CA atoms", "give longer chains", file=first.name)
    coords = [b.coords[r, 1].astype(np.float64) for b, r in zip(backbones, rows, strict=True)]
    letters = ["".join(b.sequence[i] for i in r) for b, r in zip(backbones, rows, strict=True)]
    result = tmtools.tm_align(*coords, *letters)
    top, marks, bottom = (np.array(list(text)) for text in (result.seqxA, result.seqM, result.seqyA))
    place = [np.cumsum(line != "-") - 1 for line in (top, bottom)]
    close = marks == ":"
    pairs = np.stack([rows[k][place[k][close]] for k in (0, 1)], 1)
    return (result.tm_norm_chain1 + result.tm_norm_chain2) / 2, pairs
