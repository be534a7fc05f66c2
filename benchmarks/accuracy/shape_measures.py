"""What is measured of shapes and keyframes beside `protok.bench.measures.locality`: what they rebuild.

Functions from a tokenizer and chains to plain numbers; `benchmarks.accuracy.shapes` and the search call them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.accuracy.reconstruction import geometry
from protok.bench.measures.locality import letters
from protok.quantize.usage import perplexity
from protok.structure.backbone import Backbone
from protok.structure.metrics import compare, lddt
from protok.testing import mirrored
from protok.tokenizers.protocol import HasKeyframes, Tokenizer

#: Residues of the chains that each mean is of.
BINS = ((0, 100), (100, 200), (200, 300), (300, 1000), (1000, 100_000))


def reconstruction(tokenizer: HasKeyframes, chains: Sequence[Backbone], spacing: int) -> dict:
    """Mean scores of chains decoded from their codes, by length, and all bits that are stored."""
    rows, bits, residues = [], 0.0, 0
    sure, true, built, real = [], [], [], []
    for chain in chains:
        tokens = tokenizer.encode(chain, keyframes=spacing)
        again = tokenizer.decode(tokens)
        scores = compare(again, chain)
        rows.append((len(chain), scores.rmsd, scores.tm_score, scores.lddt))
        bits, residues = bits + tokens.bits, residues + int((tokens.ids >= 0).sum())
        sure.append(again.bfactor)
        true.append(lddt(again, chain, per_residue=True))
        built.append(geometry(again))
        real.append(geometry(chain))
    table = np.array(rows)
    good, claimed = np.concatenate(true), np.concatenate(sure)
    known = np.isfinite(good) & np.isfinite(claimed)
    out = {
        "chains": len(rows),
        "bits_a_residue": bits / residues,
        **means(table),
        "by_length": {
            f"{low}-{high}": {"chains": int(inside.sum()), **means(table[inside])}
            for low, high in BINS
            if (inside := (table[:, 0] >= low) & (table[:, 0] < high)).any()
        },
        "confidence_rank_correlation": rank_correlation(claimed[known], good[known]),
        "rmsd_each": [round(float(x), 3) for x in table[:, 1]],
    }
    for key in ("C-N", "CA-C-N", "C-N-CA", "phi>0"):
        pair = [np.concatenate([chain[key] for chain in side]) for side in (built, real)]
        out[key] = {
            side: {"mean": float(x.mean()), "spread": float(x.std())}
            for side, x in zip(("built", "real"), pair, strict=True)
        }
    return out


def means(table: np.ndarray) -> dict[str, float]:
    """Of rows (length, RMSD, TM-score, lDDT)."""
    return {
        "rmsd": float(table[:, 1].mean()),
        "rmsd_median": float(np.median(table[:, 1])),
        "tm_score": float(table[:, 2].mean()),
        "lddt": float(table[:, 3].mean()),
    }


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, with mean ranks of equal values."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def changed_in_the_mirror(tokenizer: Tokenizer, chains: Iterable[Backbone]) -> float:
    """Share of letters that the mirror image does not have."""
    changed = [
        (letters(tokenizer, chain) != letters(tokenizer, mirrored(chain)))[chain.mask].mean()
        for chain in chains
    ]
    return float(np.mean(changed))


def usage(tokenizer: Tokenizer, chains: Iterable[Backbone]) -> float:
    """Perplexity of the letters."""
    ids = np.concatenate([letters(tokenizer, chain) for chain in chains])
    return perplexity(np.bincount(ids[ids >= 0], minlength=tokenizer.size))
