"""What is measured of shapes and keyframes: reconstruction by spacing and length, and what letters keep.

Functions from a tokenizer and chains to plain numbers; `benchmarks.accuracy.shapes` and the search call them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

import protok
from benchmarks.accuracy.reconstruction import geometry, noisy
from protok.quantize.usage import perplexity
from protok.structure.backbone import Backbone
from protok.structure.metrics import compare, lddt
from protok.testing import mirrored
from protok.tokenizers.protocol import HasKeyframes, Tokenizer
from protok.tokens.tokens import Tokens

#: Residues of the chains that each mean is of.
BINS = ((0, 100), (100, 200), (200, 300), (300, 1000), (1000, 100_000))
#: Residues of a slice, and how far from a wrong code its harm is looked for.
SLICE, BEYOND = 40, 16


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


def cuts(length: int) -> dict[str, slice]:
    """Pieces of a chain that are encoded alone."""
    return {
        "middle half": slice(length // 4, 3 * length // 4),
        "10 off the end": slice(0, length - 10),
        "first half": slice(0, length // 2),
    }


def kept_when_cut(tokenizer: Tokenizer, chains: Sequence[Backbone], window: int) -> dict:
    """Share of the letters of a piece that the whole chain has there; mean over chains."""
    shares: dict[str, list[float]] = {}
    beyond = np.zeros(2, int)
    for chain in chains:
        whole = letters(tokenizer, chain)
        for name, part in cuts(len(chain)).items():
            same = letters(tokenizer, chain[part]) == whole[part]
            there = whole[part] >= 0
            shares.setdefault(name, []).append(float(same[there].mean()))
            inner = slice(window if part.start else 0, len(same) - window)
            beyond += same[inner][there[inner]].sum(), there[inner].sum()
    return {name: float(np.mean(x)) for name, x in shares.items()} | {
        "beyond the window": float(beyond[0] / beyond[1])
    }


def kept_under_noise(tokenizer: Tokenizer, chains: Sequence[Backbone], sigma: float, seed: int) -> dict:
    """Share of letters kept under normal noise on every atom, and what they tell of those before, in bits."""
    rng, shares = np.random.default_rng(seed), []
    joint = np.zeros((tokenizer.size, tokenizer.size))
    for chain in chains:
        before, after = letters(tokenizer, chain), letters(tokenizer, noisy(chain, sigma, rng))
        both = (before >= 0) & (after >= 0)
        shares.append(float((before == after)[both].mean()))
        np.add.at(joint, (before[both], after[both]), 1)
    return {"kept": float(np.mean(shares)), "mutual_information_bits": mutual_information(joint)}


def mutual_information(joint: np.ndarray) -> float:
    """Bits that one of two labels tells of the other, from counts of pairs."""
    p = joint / joint.sum()
    expected = p.sum(1, keepdims=True) * p.sum(0)
    seen = p > 0
    return float((p[seen] * np.log2(p[seen] / expected[seen])).sum())


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


def letters(tokenizer: Tokenizer, chain: Backbone) -> np.ndarray:
    """Ids of a chain, without keyframes where there are such."""
    if isinstance(tokenizer, HasKeyframes):
        return tokenizer.encode(chain, keyframes=0).ids
    return tokenizer.encode(chain).ids


def slices(tokenizer: HasKeyframes, chains: Sequence[Backbone], spacing: int) -> dict:
    """RMSD of slices decoded alone and cut from the decoded whole, each superposed for itself."""
    pairs = []
    for chain in chains:
        if len(chain) < 3 * SLICE:
            continue
        tokens = tokenizer.encode(chain, keyframes=spacing)
        whole = tokenizer.decode(tokens)
        for begin in range(SLICE // 2, len(chain) - SLICE, SLICE):
            part = slice(begin, begin + SLICE)
            piece = tokens[part]
            if (piece.ids < 0).any() or len(piece.keyframes.start) > 1:
                continue
            alone = protok.rmsd(tokenizer.decode(piece), chain[part])
            pairs.append((alone, protok.rmsd(whole[part], chain[part])))
    alone, inside = np.array(pairs).mean(0)
    return {
        "slices": len(pairs),
        "alone": float(alone),
        "inside": float(inside),
        "ratio": float(alone / inside),
    }


def harm(tokenizer: HasKeyframes, chains: Sequence[Backbone], spacing: int, seed: int) -> dict:
    """What wrong codes cost: lDDT of residues farther than `BEYOND` from one, and RMSD."""
    rng = np.random.default_rng(seed)
    lost: dict[str, list[float]] = {"letter": [], "keyframe": []}
    moved: dict[str, list[float]] = {"right": [], "letter": [], "keyframe": [], "5 % of letters": []}
    for chain in chains:
        tokens = tokenizer.encode(chain, keyframes=spacing)
        right = tokenizer.decode(tokens)
        before = lddt(right, chain, per_residue=True)
        moved["right"].append(protok.rmsd(right, chain))
        for kind in lost:
            at, wrong = one_wrong(tokens, kind, rng)
            if wrong is None:
                continue
            back = tokenizer.decode(wrong)
            far = np.abs(np.arange(len(chain)) - at) > BEYOND
            loss = (before - lddt(back, chain, per_residue=True))[far]
            lost[kind].append(float(np.nanmean(loss)))
            moved[kind].append(protok.rmsd(back, chain))
        ids = tokens.ids.copy()
        some = (rng.random(len(ids)) < 0.05) & (ids >= 0)
        ids[some] = rng.integers(0, tokens.size, some.sum())
        moved["5 % of letters"].append(protok.rmsd(tokenizer.decode(replace(tokens, ids=ids)), chain))
    return {
        "lddt_lost_beyond": {key: float(np.mean(x)) for key, x in lost.items()},
        "rmsd": {key: float(np.mean(x)) for key, x in moved.items()},
    }


def one_wrong(tokens: Tokens, kind: str, rng: np.random.Generator) -> tuple[int, Tokens | None]:
    """Tokens with one letter or keyframe near the middle drawn anew, and where."""
    middle = len(tokens) // 2
    if kind == "letter":
        at = int(np.flatnonzero(tokens.ids >= 0)[np.abs(np.flatnonzero(tokens.ids >= 0) - middle).argmin()])
        ids = tokens.ids.copy()
        ids[at] = (ids[at] + rng.integers(1, tokens.size)) % tokens.size
        return at, replace(tokens, ids=ids)
    frames = tokens.keyframes
    coded = np.flatnonzero(frames.code >= 0) if frames is not None else np.zeros(0, int)
    if frames is None or not len(coded):
        return middle, None
    key = coded[np.abs(frames.place[coded] - middle).argmin()]
    code = frames.code.copy()
    code[key] = (code[key] + rng.integers(1, frames.size)) % frames.size
    return int(frames.place[key]), replace(tokens, keyframes=replace(frames, code=code))
