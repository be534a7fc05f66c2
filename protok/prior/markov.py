"""A control of priors: letters by the three before them, keyframes by the letter that they stand at.

What a transformer is worth is what it knows beyond these tables of counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protok.tokens.keyframes import Keyframes
from protok.tokens.tokens import Tokens

#: Letters before one that count; and the share of its outcomes that each table counts as seen, as tables of
#: shorter contexts have them (a hierarchical Dirichlet prior: MacKay & Peto 1995, 10.1017/S1351324900000218).
ORDER, PRIOR = 3, 0.25


@dataclass(frozen=True)
class Markov:
    """Probabilities of letters and of keyframes.

    Attributes
    ----------
    letters
        Of a letter after 0, 1, ... others: (size,), (size, size), ...
    codes : (size, motions)
        Of a keyframe at a letter; no columns without keyframes.
    like
        Tokens of the codebook.
    """

    letters: list[np.ndarray]
    codes: np.ndarray
    like: Tokens

    @classmethod
    def of(cls, chains: Sequence[Tokens]) -> Markov:
        """Counted in chains of one codebook and one spacing of keyframes."""
        like, size = chains[0], chains[0].size
        letters = []
        for order in range(ORDER + 1):
            words = np.concatenate([_words(chain.ids, order + 1) for chain in chains])
            letters.append(_table(words, (size,) * (order + 1), letters[-1] if letters else 1 / size))
        frames = [(chain.ids, chain.keyframes) for chain in chains if chain.keyframes is not None]
        motions = frames[0][1].size if frames else 0
        pairs = [np.stack([ids[f.place], f.code], 1)[f.code >= 0] for ids, f in frames]
        pairs = np.concatenate([np.zeros((0, 2), int), *pairs])
        alone = _table(pairs[:, 1:], (motions,), 1 / max(motions, 1))
        return cls(letters, _table(pairs, (size, motions), alone), like)

    def bits(self, chain: Tokens) -> tuple[float, float]:
        """Bits of the letters of a chain, and of its keyframes."""
        letters = 0.0
        for order, table in enumerate(self.letters):
            words = _words(chain.ids, order + 1)
            # Only the first of a chain know fewer letters before.
            words = words if order == ORDER else words[:1]
            letters -= np.log2(table[tuple(words.T)]).sum()
        frames = chain.keyframes
        if frames is None:
            return float(letters), 0.0
        has = frames.code >= 0
        return float(letters), float(
            -np.log2(self.codes[chain.ids[frames.place[has]], frames.code[has]]).sum()
        )

    def draw(self, length: int, seed: int | Sequence[int] = 0) -> Tokens:
        """A chain without a gap."""
        draws, ids = np.random.default_rng(seed), []
        for i in range(length):
            ids.append(_one(self.letters[min(i, ORDER)][tuple(ids[max(0, i - ORDER) :])], draws))
        chain = Tokens.from_ids(ids, self.like.size, self.like.codebook)
        if (frames := self.like.keyframes) is None:
            return chain
        own = (chain.ids, chain.chain, frames.spacing, frames.size)
        blocks = -(-length // frames.spacing)
        place = Keyframes.laid(*own, [0] * (blocks - 1)).place[1:]
        codes = [_one(self.codes[ids[i]], draws) for i in place]
        return Tokens(**{**vars(chain), "keyframes": Keyframes.laid(*own, codes)})


def _words(ids: np.ndarray, n: int) -> np.ndarray:
    """Stretches of n letters of which none is missing, (k, n)."""
    if len(ids) < n:
        return np.zeros((0, n), int)
    words = np.lib.stride_tricks.sliding_window_view(ids, n)
    return words[(words >= 0).all(1)]


def _table(words: np.ndarray, shape: tuple[int, ...], shorter: np.ndarray | float) -> np.ndarray:
    """Probabilities of the last of each word after the others, drawn towards those of shorter contexts."""
    flat = np.ravel_multi_index(tuple(words.T), shape) if words.size else np.zeros(0, int)
    count = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape).astype(np.float32)
    before = np.float32(PRIOR * shape[-1])
    return (count + before * shorter) / (count.sum(-1, keepdims=True) + before)


def _one(p: np.ndarray, draws: np.random.Generator) -> int:
    edges = p.cumsum(dtype=np.float64)
    return int(np.searchsorted(edges, draws.random() * edges[-1], side="right"))
