"""Training, validation and test without near relatives across."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

WORD = 4  # residues
SHARED = 0.2  # of the shorter sequence's words: chance is below a hundredth


def clusters(sequences: Sequence[str]) -> list[int]:
    """Group sequences that share a fifth of their words of four residues, transitively.

    That finds what alignment finds above roughly 50 % identity. Remote homologs are not
    recognised: give clusters made by a real search (mmseqs, foldseek) where they matter.
    """
    parent = list(range(len(sequences)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    words = [{s[i : i + WORD] for i in range(len(s) - WORD + 1)} for s in sequences]
    where: dict[str, list[int]] = {}
    for i, own in enumerate(words):
        shared: dict[int, int] = {}
        for word in own:
            for j in where.get(word, ()):
                shared[j] = shared.get(j, 0) + 1
            where.setdefault(word, []).append(i)
        for j, n in shared.items():
            if n >= SHARED * min(len(own), len(words[j])):
                parent[root(i)] = root(j)
    return [root(i) for i in range(len(sequences))]


def assign(groups: Sequence[str], sizes: tuple[float, float] = (0.7, 0.1)) -> list[str]:
    """A split a member: whole groups go to train, valid or test, in an order by hash.

    Parameters
    ----------
    groups
        Cluster of each member.
    sizes
        Shares of train and valid; the rest is test.

    Returns
    -------
    list of str
        As near to the shares as whole groups allow; with three groups each split has one.
    """
    members: dict[str, int] = {}
    for group in groups:
        members[group] = members.get(group, 0) + 1
    order = sorted(members, key=lambda g: hashlib.sha256(str(g).encode()).hexdigest())
    aims = dict(zip(("train", "valid", "test"), (*sizes, 1 - sum(sizes)), strict=True))
    have = dict.fromkeys(aims, 0)
    chosen: dict[str, str] = {}
    for i, group in enumerate(order):
        left = len(order) - i
        empty = [name for name in aims if not have[name]]
        # The split furthest below its share; an empty one first when groups run out.
        pool = empty if empty and left <= len(empty) else list(aims)
        best = max(pool, key=lambda name: aims[name] * len(groups) - have[name])
        chosen[group] = best
        have[best] += members[group]
    return [chosen[group] for group in groups]
