"""Measures without training on codes and structures.

Codebook: distinctiveness and utilization. Robustness: mirror, rotation, noise. And the
reconstruction of those tokenizers that decode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from protok.bench.measures.locality import computing, kept_under_noise
from protok.bench.measures.scores import Score, mean_of, ratio_of
from protok.bench.representations.representation import Representation
from protok.errors import ProtokError, Unsupported
from protok.quantize.usage import perplexity, share_used
from protok.structure.backbone import Backbone
from protok.tokenizers.protocol import Decodes

NOISE = (0.05, 0.1, 0.2, 0.5)  # Å
#: Bins of the distribution of pair cosines that results keep.
BINS = 100

Measured = tuple[dict[str, Score], dict]


def _code_vectors(representation: Representation) -> np.ndarray:
    """(K, d) float32, of a representation that is discrete."""
    if representation.vectors is None:
        raise Unsupported(f"{representation.name} has no codes", "measure a discrete tokenizer")
    return representation.vectors


def counts(representation: Representation, structures: Sequence[Backbone]) -> np.ndarray:
    """How often each code occurs, (K,) int."""
    _code_vectors(representation)
    ids = np.concatenate(representation.outputs(structures))
    return np.bincount(ids[ids >= 0], minlength=representation.size)


def distinctiveness(representation: Representation, structures: Sequence[Backbone]) -> Measured:
    """Cosines of all pairs of code vectors, plain and weighted by usage on the structures.

    Returns
    -------
    scores
        `mean_cosine` over all pairs with the diagonal, as the paper's violin; `off_diagonal`;
        `weighted`: pairs counted n_i n_j times; `mean_abs_cosine`.
    points
        Histograms of the cosines over [-1, 1], plain and weighted, for a violin.
    """
    vectors = _code_vectors(representation)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    used = counts(representation, structures).astype(float)
    k = representation.size
    plain, weighted = np.zeros(BINS), np.zeros(BINS)
    total = absolute = by_use = trace = 0.0
    for begin in range(0, k, 1024):  # a codebook of 65,536 has 4 billion pairs
        cosine = (unit[begin : begin + 1024] @ unit.T).clip(-1, 1)
        share = used[begin : begin + 1024, None] * used
        total += cosine.sum()
        absolute += np.abs(cosine).sum()
        by_use += (cosine * share).sum()
        trace += np.trace(cosine[:, begin:])
        at = np.minimum(((cosine + 1) / 2 * BINS).astype(int), BINS - 1).ravel()
        plain += np.bincount(at, minlength=BINS)
        weighted += np.bincount(at, share.ravel(), BINS)
    pairs = used.sum() ** 2
    scores = {
        "mean_cosine": Score(float(total / k**2)),
        "mean_abs_cosine": Score(float(absolute / k**2)),
        "off_diagonal": Score(float((total - trace) / max(k * (k - 1), 1))),
        "weighted": Score(float(by_use / pairs) if pairs else float("nan")),
    }
    histogram = {"plain": (plain / plain.sum()).tolist()}
    if pairs:
        histogram["weighted"] = (weighted / weighted.sum()).tolist()
    return scores, histogram


def utilization(representation: Representation, structures: Sequence[Backbone]) -> Measured:
    """How much of the codebook is used, per protein and pooled.

    Returns
    -------
    scores
        `use` (share of codes), `perplexity`, `perplexity_share` (over K, as the reference
        shows it), `entropy_bits`, all means over proteins; `pooled_use` and
        `pooled_perplexity` of all residues together; `bits` a residue (log2 K);
        `compression_ratio` as in the reference: digits of the codes over 72 L.
    points
        `counts` of codes over all structures.
    """
    _code_vectors(representation)
    use, effective, ratio = [], [], []
    total = np.zeros(representation.size)
    for ids in representation.outputs(structures):
        ids = ids[ids >= 0]
        if not len(ids):
            continue
        count = np.bincount(ids, minlength=representation.size)
        total += count
        use.append(share_used(count))
        effective.append(perplexity(count))
        digits = np.char.str_len(ids.astype(str)).sum()
        ratio.append(digits / (len(ids) * 4 * 3 * 6))
    if not use:
        raise ProtokError("no structure has a token", "give complete backbones")
    scores = {
        "perplexity": mean_of(effective),
        "perplexity_share": mean_of(np.array(effective) / representation.size),
        "use": mean_of(use),
        "entropy_bits": mean_of(np.log2(effective)),
        "pooled_perplexity": Score(perplexity(total)),
        "pooled_use": Score(share_used(total)),
        "bits_a_letter": Score(float(np.log2(representation.size))),
        "compression_ratio": mean_of(ratio),
    }
    return scores, {"counts": total.astype(int).tolist()}


def reconstruction(representation: Representation, structures: Sequence[Backbone]) -> Measured:
    """RMSD, TM-score and lDDT of decoded codes against the original, over chains; bits of all codes.

    Raises
    ------
    Unsupported
        If the tokenizer does not decode.
    """
    from protok.structure.metrics import compare

    _code_vectors(representation)
    tokenizer = representation.tokenizer
    if not isinstance(tokenizer, Decodes):
        raise Unsupported(f"{representation.name} does not decode", "measure a learned tokenizer")
    chains = [chain for structure in structures for chain in structure.by_chain()]
    encoded = [tokenizer.encode(chain) for chain in chains]
    compared = [compare(tokenizer.decode(own), chain) for own, chain in zip(encoded, chains, strict=True)]
    columns = {key: [getattr(scores, key) for scores in compared] for key in ("rmsd", "lddt", "tm_score")}
    scores = {key: mean_of(values) for key, values in columns.items()}
    residues = [int((tokens.ids >= 0).sum()) for tokens in encoded]
    scores["bits_a_residue"] = ratio_of([tokens.bits for tokens in encoded], residues)
    scores |= {f"{key}_median": Score(float(np.nanmedian(values))) for key, values in columns.items()}
    return scores, {key: np.round(values, 4).tolist() for key, values in columns.items()}


def mirror(representation: Representation, structures: Sequence[Backbone]) -> Measured:
    """Share of codes that change in the mirror image."""
    flip = np.array([-1, 1, 1], np.float32)
    changed = [1 - same for same in _same(representation, structures, lambda x, random: x * flip)]
    return {"changed": mean_of(changed)}, {}


def rotation(representation: Representation, structures: Sequence[Backbone]) -> Measured:
    """Share of codes that are the same after a random rotation and translation."""

    def moved(x, random):
        q, r = np.linalg.qr(random.normal(size=(3, 3)))
        q = q * np.sign(np.diag(r))
        q[:, 0] *= np.sign(np.linalg.det(q))
        return x @ q.T + random.uniform(-100, 100, 3)

    return {"same": mean_of(_same(representation, structures, moved))}, {}


def stability(representation: Representation, structures: Sequence[Backbone]) -> Measured:
    """Share of codes that are the same under Gaussian noise of several sizes."""
    scores = {}
    for sigma in NOISE:
        same = _same(representation, structures, lambda x, r, s=sigma: x + r.normal(scale=s, size=x.shape))
        scores[f"same_{sigma:g}"] = mean_of(same)
    if not representation.continuous:
        kept = kept_under_noise(computing(representation), structures, 0.2, 0)
        scores["information_0.2"] = kept["mutual_information_bits"]
    return scores, {}


def _same(representation: Representation, structures: Sequence[Backbone], change) -> list[float]:
    """Of each structure: the share of residues with the same output after a change of coordinates.

    For embeddings it is 1 minus the root mean square change over that of two random residues,
    at least 0.
    """
    if representation.precomputed:
        # They go by the structure's name and would seem invariant to anything.
        raise Unsupported(
            f"{representation.name} is precomputed", "measure the program that computes the tokens"
        )
    random = np.random.default_rng(0)
    shares = []
    for structure in structures:
        coords = change(structure.coords.astype(np.float64), random).astype(np.float32)
        before = representation.outputs([structure])[0]
        # Not remembered: nobody asks for a changed structure twice.
        after = representation.run([replace(structure, coords=coords)])[0]
        if not representation.continuous:
            there = before >= 0
            shares.append(float((before == after)[there].mean()) if there.any() else np.nan)
            continue
        there = np.isfinite(before).all(1) & np.isfinite(after).all(1)
        moved = ((before - after)[there] ** 2).sum(1).mean() if there.any() else np.nan
        typical = 2 * before[there].var(0).sum() if there.any() else np.nan
        shares.append(float(max(0.0, 1 - np.sqrt(moved / max(typical, 1e-12)))))
    return shares


MEASURES = {
    measure.__name__: measure
    for measure in (distinctiveness, utilization, reconstruction, mirror, rotation, stability)
}
