"""How local codes are: what cuts, noise and wrong codes do to them, and complexes as wholes.

Functions from a tokenizer and chains to plain numbers, and the tasks that are made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from protok.bench.measures.scores import Score, bootstrap, mean_of, ratio_of
from protok.bench.representations.representation import Representation
from protok.errors import Unsupported
from protok.quantize.usage import perplexity
from protok.structure.backbone import Backbone
from protok.structure.metrics import lddt, rmsd
from protok.tokenizers.protocol import Decodes, HasKeyframes, Tokenizer, ids_of
from protok.tokens.tokens import Tokens

#: Residues of a slice, and how far from a wrong code its harm is looked for.
SLICE, BEYOND = 40, 16
#: Chains with fewer residues are not cut.
SHORTEST = 60
#: Share of its chain below which a domain lies in a longer one.
PART = 0.9
#: Å within which CA atoms of two chains touch, and by which that distance may be off.
TOUCH, OFF = 8.0, 2.0

#: Å between CA atoms that are bonded.
BONDED = 4.5

#: What is wrong all along a chain.
MANY = "5 % of letters"

Measured = tuple[dict[str, Score], dict]


def cuts(length: int) -> dict[str, slice]:
    """Pieces of a chain that are encoded alone."""
    return {
        "middle half": slice(length // 4, 3 * length // 4),
        "10 off the end": slice(0, length - 10),
        "first half": slice(0, length // 2),
    }


def kept_when_cut(tokenizer: Tokenizer, chains: Sequence[Backbone], window: int = 0) -> dict[str, Score]:
    """Share of the codes of a piece that the whole chain has there; mean over chains.

    With a window also of those residues that are farther than that from a cut, all together.
    """
    shares: dict[str, list[float]] = {}
    beyond: list[tuple[int, int]] = []
    for chain in chains:
        whole = _ids(tokenizer, chain)
        for name, part in cuts(len(chain)).items():
            same = _ids(tokenizer, chain[part]) == whole[part]
            there = whole[part] >= 0
            if not there.any():
                continue
            shares.setdefault(name, []).append(float(same[there].mean()))
            inner = slice(window if part.start else 0, len(same) - window)
            beyond.append((int(same[inner][there[inner]].sum()), int(there[inner].sum())))
    means = {name: mean_of(x) for name, x in shares.items()}
    return means | ({"beyond the window": ratio_of(*zip(*beyond, strict=True))} if window else {})


def kept_in_chain(tokenizer: Tokenizer, domains: Sequence[tuple[Backbone, tuple[int, int]]]) -> list[float]:
    """Of each domain, rows of a longer chain: the share of its codes alone that the chain has there."""
    shares = []
    for chain, (begin, stop) in domains:
        if chain.mask[begin:stop].sum() >= PART * chain.mask.sum():
            continue
        alone, inside = _ids(tokenizer, chain[begin:stop]), _ids(tokenizer, chain)[begin:stop]
        if (there := (alone >= 0) & (inside >= 0)).any():
            shares.append(float((alone == inside)[there].mean()))
    return shares


def kept_under_noise(
    tokenizer: Tokenizer, chains: Sequence[Backbone], sigma: float, seed: int
) -> dict[str, Score]:
    """Share of letters kept under normal noise on every atom, and what they tell of those before, in bits."""
    rng, shares = np.random.default_rng(seed), []
    pairs: list[np.ndarray] = []
    for chain in chains:
        before, after = _ids(tokenizer, chain), _ids(tokenizer, noisy(chain, sigma, rng))
        both = (before >= 0) & (after >= 0)
        shares.append(float((before == after)[both].mean()))
        pairs.append(np.stack([before[both], after[both]], 1))
    owner = np.repeat(np.arange(len(pairs)), [len(own) for own in pairs])
    joint = np.concatenate(pairs)
    each = [*joint.T, np.unique(joint, axis=0, return_inverse=True)[1].ravel()]

    def information(weight: np.ndarray) -> float:
        first, second, both = (np.log2(perplexity(np.bincount(x, weight[owner]))) for x in each)
        return float(first + second - both)

    every = information(np.ones(len(pairs)))
    bits = Score(every, bootstrap(information, len(pairs)))
    return {"kept": mean_of(shares), "mutual_information_bits": bits}


def slices(tokenizer: HasKeyframes, chains: Sequence[Backbone]) -> dict[str, Score]:
    """RMSD of slices decoded alone and cut from the decoded whole, each superposed for itself.

    Errors are over chains.
    """
    sums = np.zeros((len(chains), 3))
    for number, chain in enumerate(chains):
        tokens = tokenizer.encode(chain)
        whole = tokenizer.decode(tokens)
        for begin in range(SLICE // 2, len(chain) - 3 * SLICE // 2, SLICE):
            part = slice(begin, begin + SLICE)
            piece = tokens[part]
            frames = piece.keyframes
            if (piece.ids < 0).any() or frames is None or len(frames.start) > 1:
                continue
            alone = rmsd(tokenizer.decode(piece), chain[part])
            sums[number] += alone, rmsd(whole[part], chain[part]), 1
    if not sums.any():
        raise Unsupported(f"no chain has {3 * SLICE} residues in a row", "give longer ones")
    alone, inside, many = sums[sums[:, 2] > 0].T
    return {
        "ratio": ratio_of(alone, inside),
        "alone": ratio_of(alone, many),
        "inside": ratio_of(inside, many),
        "slices": Score(float(many.sum())),
    }


def without_keyframes(tokenizer: HasKeyframes, chains: Sequence[Backbone]) -> dict[int, Score]:
    """RMSD of stretches of 8, 16 and 32 residues decoded from letters alone, each superposed for itself.

    Errors are over chains.
    """
    sums = {n: np.zeros((len(chains), 2)) for n in (8, 16, 32)}
    for number, chain in enumerate(chains):
        back = tokenizer.decode(tokenizer.encode(chain, keyframes=0), letters_alone=True)
        good = chain.mask & back.mask
        gap = np.linalg.norm(np.diff(chain.coords[:, 1], axis=0), axis=-1)
        whole = good[1:] & good[:-1] & (gap < BONDED)
        for n, of in sums.items():
            for begin in range(0, len(chain) - n + 1, n):
                part = slice(begin, begin + n)
                if whole[begin : begin + n - 1].all():
                    of[number] += rmsd(back[part], chain[part]), 1
    return {n: ratio_of(*of[of[:, 1] > 0].T) for n, of in sums.items() if of.any()}


def harm(tokenizer: Decodes, chains: Sequence[Backbone], seed: int) -> dict[str, dict[str, Score]]:
    """What wrong codes cost: lDDT of residues farther than `BEYOND` from one, and RMSD.

    A wrong code turns all that follows as one piece, and every pair of residues across it is lost:
    ``lddt_lost_beyond`` counts all pairs, ``lddt_lost_aside`` those on the same side of it; ``lddt_lost``
    is that of all residues, where codes are wrong all along the chain.
    """
    rng = np.random.default_rng(seed)
    lost: dict[str, list[float]] = {"letter": [], "keyframe": []}
    aside: dict[str, list[float]] = {"letter": [], "keyframe": []}
    moved: dict[str, list[float]] = {"right": [], "letter": [], "keyframe": [], MANY: []}
    everywhere: list[float] = []
    for chain in chains:
        tokens = tokenizer.encode(chain)
        right = tokenizer.decode(tokens)
        before = lddt(right, chain, per_residue=True)
        moved["right"].append(rmsd(right, chain))
        for kind in lost:
            at, wrong = one_wrong(tokens, kind, rng)
            if wrong is None:
                continue
            back = tokenizer.decode(wrong)
            far = np.abs(np.arange(len(chain)) - at) > BEYOND
            loss = np.asarray(before - lddt(back, chain, per_residue=True))[far]
            lost[kind].append(float(np.nanmean(loss)))
            for side in (slice(0, max(at - BEYOND, 0)), slice(at + BEYOND + 1, None)):
                part = chain[side]
                if part.mask.sum() > BEYOND:
                    aside[kind].append(float(lddt(right[side], part)) - float(lddt(back[side], part)))
            moved[kind].append(rmsd(back, chain))
        ids = tokens.ids.copy()
        some = (rng.random(len(ids)) < 0.05) & (ids >= 0)
        ids[some] = rng.integers(0, tokens.size, some.sum())
        spoiled = tokenizer.decode(replace(tokens, ids=ids))
        moved[MANY].append(rmsd(spoiled, chain))
        everywhere.append(float(lddt(right, chain)) - float(lddt(spoiled, chain)))
    return {
        "lddt_lost_beyond": {key: mean_of(x) for key, x in lost.items() if x},
        "lddt_lost_aside": {key: mean_of(x) for key, x in aside.items() if x},
        "lddt_lost": {MANY: mean_of(everywhere)},
        "rmsd": {key: mean_of(x) for key, x in moved.items() if x},
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


def _ids(tokenizer: Tokenizer, chain: Backbone) -> np.ndarray:
    (ids,) = ids_of(tokenizer, [chain])
    return ids


def noisy(chain: Backbone, sigma: float, rng: np.random.Generator) -> Backbone:
    """Every atom shifted by normal noise of `sigma` Å a coordinate."""
    noise = rng.normal(scale=sigma, size=chain.coords.shape)
    return replace(chain, coords=(chain.coords + noise).astype(np.float32))


def interfaces(model: Backbone, reference: Backbone) -> tuple[int, int]:
    """How many CA pairs of chains within `TOUCH` Å keep their distance to within `OFF`, and of how many."""
    there = reference.mask & model.mask
    x, y, chain = model.coords[there, 1], reference.coords[there, 1], reference.chain[there]
    kept = total = 0
    for i in range(len(y)):
        apart = np.linalg.norm(y[i + 1 :] - y[i], axis=-1)
        near = (apart < TOUCH) & (chain[i + 1 :] != chain[i])
        built = np.linalg.norm(x[i + 1 :][near] - x[i], axis=-1)
        kept += int((np.abs(built - apart[near]) < OFF).sum())
        total += int(near.sum())
    return kept, total


# The tasks


def cut(representation: Representation, structures: Sequence[Backbone]) -> Measured:
    """Share of codes that a piece of a chain has alone too, mean over chains."""
    tokenizer = computing(representation)
    scores = kept_when_cut(tokenizer, chains_of(structures, SHORTEST))
    return {key.replace(" ", "_"): score for key, score in scores.items()}, {}


def domain_in_chain(
    representation: Representation, domains: Sequence[tuple[Backbone, tuple[int, int]]]
) -> Measured:
    """Share of codes of a domain alone that it has in its chain too, mean over domains."""
    shares = kept_in_chain(computing(representation), domains)
    if not shares:
        raise Unsupported("no domain lies in a longer chain", "give chains with several domains")
    return {"same": mean_of(shares)}, {"same": np.round(shares, 4).tolist()}


def fragments(representation: Representation, structures: Sequence[Backbone]) -> Measured:
    """RMSD of slices of 40 residues, decoded alone and inside their chain; of stretches of letters alone."""
    tokenizer = decoder_of(representation)
    if not isinstance(tokenizer, HasKeyframes):
        raise Unsupported(f"tokens of {representation.name} have no slices that decode", "leave it out")
    chains = chains_of(structures)
    scores = slices(tokenizer, chains)
    stretches = without_keyframes(tokenizer, chains)
    return scores | {f"letters_{n}": score for n, score in stretches.items()}, {}


def wrong_codes(representation: Representation, structures: Sequence[Backbone]) -> Measured:
    """What one wrong code costs the lDDT of residues far from it, and all the RMSD."""
    scores = harm(decoder_of(representation), chains_of(structures, SHORTEST), 0)
    return {
        f"{group}_{key}".replace(" ", "_").replace("%", "percent"): score
        for group, of in scores.items()
        for key, score in of.items()
    }, {}


def complexes(representation: Representation, structures: Sequence[Backbone]) -> Measured:
    """RMSD of complexes, all chains superposed together, and their touching pairs kept."""
    tokenizer, rmsds, kept = decoder_of(representation), [], []
    for structure in structures:
        if len(structure.chains) < 2:
            continue
        back = tokenizer.decode(tokenizer.encode(structure))
        rmsds.append(rmsd(back, structure))
        kept.append(interfaces(back, structure))
    if not rmsds:
        raise Unsupported("no structure has several chains", "give complexes")
    scores = {
        "rmsd": mean_of(rmsds),
        "rmsd_median": Score(float(np.median(rmsds))),
        "contacts_kept": ratio_of(*zip(*kept, strict=True)),
    }
    return scores, {"rmsd": np.round(rmsds, 4).tolist()}


def computing(representation: Representation) -> Tokenizer:
    """The tokenizer of a representation that computes codes of changed coordinates."""
    tokenizer = representation.tokenizer
    if representation.precomputed or representation.continuous or not isinstance(tokenizer, Tokenizer):
        raise Unsupported(f"{representation.name} computes no codes", "measure a discrete tokenizer")
    return tokenizer


def decoder_of(representation: Representation) -> Decodes:
    """The tokenizer of a representation that computes codes of changed coordinates, and decodes them."""
    tokenizer = computing(representation)
    if not isinstance(tokenizer, Decodes):
        raise Unsupported(f"{representation.name} does not decode", "measure a learned tokenizer")
    return tokenizer


def chains_of(structures: Sequence[Backbone], shortest: int = 1) -> list[Backbone]:
    """All chains of so many complete residues or more; raises Unsupported if there is none."""
    chains = [c for s in structures for c in s.by_chain() if c.mask.sum() >= shortest]
    if not chains:
        raise Unsupported(f"no chain has {shortest} residues", "give longer ones")
    return chains


MEASURES = {measure.__name__: measure for measure in (cut, fragments, wrong_codes, complexes)}
