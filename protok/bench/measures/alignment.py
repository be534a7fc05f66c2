"""Alignment of code strings: sensitivity to conformation, and retrieval of folds.

The substitution score of two codes is 100 times the cosine of their vectors, rounded to an
integer as biotite demands; embeddings are compared residue by residue in the same way. A
one-hot alphabet thus scores 100 for equal letters and 0 otherwise: Foldseek's own matrix for
3Di is not used, so that all tokenizers are treated alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from protok.analysis.alignment import LOCAL_GAP, alignment_score
from protok.bench.data.source import Domain, LabelledStructures
from protok.bench.measures.scores import Score, bootstrap, mean_of, pearson, spearman
from protok.bench.representations.representation import Representation

#: Domains that are compared with one another in retrieval, at most.
DOMAINS = 250


def unit_vectors(representation: Representation, out: np.ndarray) -> np.ndarray:
    """(n, d) vectors of norm 1 of the residues that have a token or embedding."""
    if representation.vectors is not None:
        out = representation.vectors[out[out >= 0]]
    else:
        out = out[np.isfinite(out).all(1)]
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)


def sensitivity(
    representation: Representation, folder: LabelledStructures, pairs: Sequence[tuple[str, str, float]]
) -> tuple[dict[str, Score], dict]:
    """Correlation of alignment score and TM-score over pairs of conformations.

    Returns
    -------
    scores
        `pearson`, `spearman` as in the paper, and both for the score over the longer length,
        since a sum over residues grows with the protein.
    points
        `tm` and `score` of each pair, for plots.
    """
    got, target, length = [], [], []
    for first, second, tm in pairs:
        a, b = (
            unit_vectors(representation, out)
            for out in representation.outputs([folder.structure(first), folder.structure(second)])
        )
        got.append(alignment_score(100 * a @ b.T))
        target.append(tm)
        length.append(max(len(a), len(b), 1))
    got, target = np.array(got, float), np.array(target)
    relative = got / np.array(length)
    out = {
        f"{measure.__name__}{suffix}": _scored(measure, values, target)
        for suffix, values in (("", got), ("_per_residue", relative))
        for measure in (pearson, spearman)
    }
    points = {"tm": target.tolist(), "score": got.tolist(), "per_residue": relative.tolist()}
    return out, points


def _scored(correlation, x: np.ndarray, y: np.ndarray) -> Score:
    def resampled(weight):
        rows = np.repeat(np.arange(len(x)), weight.astype(int))
        return correlation(x[rows], y[rows])

    return Score(correlation(x, y), bootstrap(resampled, len(x)))


def representatives(domains: Sequence[Domain]) -> list[Domain]:
    """The domains that retrieval uses: one a sequence cluster, of folds with at least two.

    Spread evenly where there are more than `DOMAINS`, in an order that does not depend on the
    file's.
    """
    first: dict[str, Domain] = {}
    for domain in sorted(domains, key=lambda d: (d.id, d.rows)):
        if domain.fold:
            first.setdefault(f"{domain.cluster} {domain.fold}", domain)
    chosen = sorted(first.values(), key=lambda d: (d.fold, d.superfamily, d.id))
    if len(chosen) > DOMAINS:
        picked = np.random.default_rng(0).choice(len(chosen), DOMAINS, replace=False)
        chosen = [chosen[i] for i in sorted(picked)]
    count = Counter(domain.fold for domain in chosen)
    return [domain for domain in chosen if count[domain.fold] > 1]


def retrieval(
    representation: Representation, folder: LabelledStructures, domains: Sequence[Domain]
) -> tuple[dict[str, Score], dict]:
    """Share of domains whose best hit among the others has their fold.

    Returns
    -------
    scores
        `top1`, `average_precision` (mean over queries), and `chance` of top1.
    points
        Number of domains and folds.
    """
    vectors = []
    for domain in domains:
        # Tokens of the whole chain, as in the supervised tasks.
        whole = representation.outputs([folder.structure(domain.id)])[0]
        vectors.append(unit_vectors(representation, whole[slice(*domain.rows)]))
    # Scores are about their mean over random residues, so that unrelated stretches score below 0.
    every = np.concatenate(vectors)
    mean = float((every.mean(0) ** 2).sum())
    n = len(domains)
    score = np.zeros((n, n))
    for i in range(n):
        for j in range(i, n):
            similarity = 100 * (vectors[i] @ vectors[j].T - mean)
            score[i, j] = score[j, i] = alignment_score(similarity, gap=LOCAL_GAP, local=True)
    own = np.sqrt(np.maximum(np.diag(score), 1))
    score = score / own[:, None] / own
    levels = [(d.fold, d.superfamily, d.family) for d in domains]
    fold, superfamily, family = np.array(levels).T
    top, precision, chance = [], [], []
    for i in range(n):
        # Families that only repeat the superfamily's name say nothing.
        same = (family == family[i]) & (family != "") & (family != superfamily)
        same[i] = True
        others = np.flatnonzero(~same)
        hits = fold[others] == fold[i]
        if not hits.any():
            continue
        order = np.argsort(-score[i, others], kind="stable")
        ranked = hits[order]
        top.append(float(ranked[0]))
        rank = np.flatnonzero(ranked) + 1
        precision.append(float((np.arange(1, len(rank) + 1) / rank).mean()))
        chance.append(hits.mean())
    if not top:
        raise ValueError("no fold has domains of different families")
    points = {"queries": len(top), "domains": n, "folds": len(set(fold.tolist()))}
    return {"top1": mean_of(top), "average_precision": mean_of(precision), "chance": mean_of(chance)}, points
