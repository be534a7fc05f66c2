"""How various sampled chains are, and how new beside the chains that the prior has learned.

Codes are compared by local alignment: the score of two codes is 100 times the cosine of their
vectors about its mean over random residues. It is divided by the geometric mean of the two
chains' scores with themselves, so that 1 is the same chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from protok.analysis.alignment import LOCAL_GAP, alignment_score, tm_align
from protok.errors import Unsupported
from protok.prior.corpus import Corpus
from protok.structure.backbone import Backbone
from protok.tokenizers.protocol import Decodes, HasCodeVectors, Tokenizer

#: Pairs of chains whose TM-score is computed, at most.
PAIRS = 300
#: Training chains that are aligned with a sample.
ALIGNED = 100


@dataclass(frozen=True)
class Codes:
    """The codebook as alignment sees it: ``score`` (size, size)."""

    score: np.ndarray

    @classmethod
    def of(cls, tokenizer: Tokenizer, usage: np.ndarray) -> Codes:
        """From the code vectors of a tokenizer and how often each code occurs.

        Raises
        ------
        Unsupported
            If it has no code vectors.
        """
        if not isinstance(tokenizer, HasCodeVectors):
            raise Unsupported(f"{tokenizer.name} has no code vectors to align by", "give a learned tokenizer")
        vectors = tokenizer.code_vectors().astype(np.float64)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        mean = (usage / usage.sum()) @ vectors
        return cls(100 * (vectors @ vectors.T - mean @ mean))

    def align(self, first: np.ndarray, second: np.ndarray) -> float:
        """Normalised local alignment score of two chains of codes, 0..1."""
        first, second = first[first >= 0], second[second >= 0]
        # Along the diagonal every residue scores, so no other alignment of a chain with itself is better.
        itself = [float(np.rint(self.score[ids, ids]).sum()) for ids in (first, second)]
        own = np.sqrt(itself[0] * itself[1])
        score = alignment_score(self.score[first][:, second], gap=LOCAL_GAP, local=True)
        return float(score / own) if own else 0.0


class Library:
    """Training chains, searched by the pairs of neighbouring codes that they share with others.

    Parameters
    ----------
    corpus
        Of chains.
    codes
        For the alignments that follow the search.
    """

    def __init__(self, corpus: Corpus, codes: Codes):
        self.corpus, self.codes, self.letters = corpus, codes, corpus.letters()
        pairs = [self._pairs(chain) for chain in self.letters]
        self._flat = np.concatenate(pairs)
        self._chain = np.repeat(np.arange(len(pairs)), [len(p) for p in pairs])
        self._n = np.array([max(1, len(p)) for p in pairs])
        _, inverse, count = np.unique(self._flat, return_inverse=True, return_counts=True)
        # What every chain has says little.
        self._weight = np.log(len(pairs) / count)[inverse] + 1e-6

    def _pairs(self, codes: np.ndarray) -> np.ndarray:
        kept = codes[codes >= 0].astype(np.int64)
        return np.unique(kept[:-1] * self.corpus.size + kept[1:])

    def search(self, codes: np.ndarray) -> list[tuple[int, float]]:
        """Numbers and alignment scores of the chains that are likest to one, best first.

        Those that share most pairs of codes are aligned.
        """
        here = np.isin(self._flat, self._pairs(codes))
        shared = np.bincount(self._chain[here], self._weight[here], minlength=len(self.corpus))
        # By chance a long chain shares more.
        order = np.argsort(-shared / np.sqrt(self._n), kind="stable")[:ALIGNED]
        hits = [(int(i), self.codes.align(codes, self.letters[i])) for i in order]
        return sorted(hits, key=lambda hit: -hit[1])


def diversity(codes: Sequence[np.ndarray], backbones: Sequence[Backbone], table: Codes) -> dict[str, float]:
    """Mean TM-score and code distance of pairs of samples; some 300 pairs where there are more.

    Returns
    -------
    dict
        ``pairs``; ``tm_score``, mean of TM-align's two normalisations; ``code_distance``, 1 minus
        the alignment score; ``clusters``, share of single-linkage clusters at a TM-score of 0.5
        among the samples (of all pairs only).
    """
    first, second = np.triu_indices(len(codes), 1)
    every = len(first) <= PAIRS
    if not every:
        some = np.random.default_rng(0).choice(len(first), PAIRS, replace=False)
        first, second = first[some], second[some]
    if not len(first):
        return {"pairs": 0}
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    tm = np.array([tm_align(backbones[i], backbones[j]) for i, j in pairs])
    near = [table.align(codes[i], codes[j]) for i, j in pairs]
    result = {"pairs": len(first), "tm_score": float(tm.mean()), "code_distance": float(1 - np.mean(near))}
    if every:
        result["clusters"] = _clusters(len(codes), first[tm > 0.5], second[tm > 0.5]) / len(codes)
    return result


def _clusters(n: int, first: np.ndarray, second: np.ndarray) -> int:
    label = np.arange(n)
    for i, j in zip(first, second, strict=True):
        label[label == label[j]] = label[i]
    return len(np.unique(label))


def novelty(
    codes: Sequence[np.ndarray],
    backbones: Sequence[Backbone],
    library: Library,
    tokenizer: Decodes,
    hits: int = 3,
) -> dict[str, Any]:
    """How like each sample is to the training chain that it is likest to.

    The search aligns the codes; the training chains that align best are decoded, and the best
    TM-score of them is that of the sample: a lower bound of the best over all training chains.

    Returns
    -------
    dict
        ``alignment`` and ``tm_score``: means over samples of the best; ``novel``: share of the
        samples whose TM-score stays below 0.5; ``nearest``: name of each sample's likest chain.
    """
    from protok.prior.proteins import built

    @cache
    def decoded(i: int) -> Backbone:
        return built(tokenizer, library.corpus.tokens(i))

    best, aligned, nearest = [], [], []
    for ids, backbone in zip(codes, backbones, strict=True):
        nearby = library.search(ids)[:hits]
        scores = [tm_align(backbone, decoded(i)) for i, _ in nearby]
        at = int(np.argmax(scores))
        best.append(scores[at])
        aligned.append(nearby[0][1])
        nearest.append(library.corpus.names[nearby[at][0]])
    return {
        "library": len(library.corpus),
        "alignment": float(np.mean(aligned)),
        "tm_score": float(np.mean(best)),
        "novel": float(np.mean(np.array(best) < 0.5)),
        "nearest": nearest,
    }
