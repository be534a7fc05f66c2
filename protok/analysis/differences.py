"""Where two structures differ along their chains: in codes, and in space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from protok.analysis.compare import Pairs
from protok.structure.backbone import Backbone
from protok.structure.metrics import superpose
from protok.tokens.tokens import Tokens

#: Marks of the picture: the same code, alike, unlike, one of them missing.
SAME, ALIKE, UNLIKE, NONE = ".", "+", "*", " "
#: Residues of a line of the picture.
WIDTH = 60


@dataclass(frozen=True)
class Difference:
    """Two residues that correspond.

    Attributes
    ----------
    chain, index, icode, residue, code
        Of the first: chain id, number, insertion code, letter, and code (-1: none).
    chain_2, index_2, icode_2, residue_2, code_2
        Of the second.
    mark : str
        ``.`` the same code, ``+`` another that is alike (with a positive score in the substitution matrix),
        ``*`` one that is unlike, blank where one is missing.
    distance : float
        Å from CA to CA after superposition of all pairs; NaN where one is missing.
    """

    chain: str
    index: int
    icode: str
    residue: str
    code: int
    chain_2: str
    index_2: int
    icode_2: str
    residue_2: str
    code_2: int
    mark: str
    distance: float


def differences(
    structures: tuple[Backbone, Backbone], tokens: tuple[Tokens, Tokens], pairs: Pairs, scores: np.ndarray
) -> list[Difference]:
    """What differs between the residues that correspond.

    Parameters
    ----------
    structures, tokens
        Two structures, and their codes.
    pairs
        Of `pair_residues`.
    scores : (size, size)
        Of a substitution matrix of the codes.
    """
    first, second = structures
    rows, others = pairs.rows.T
    coords = np.full(second.coords.shape, np.nan, np.float32)
    coords[others] = first.coords[rows]
    moved = superpose(replace(second, coords=coords), second)
    distance = np.linalg.norm(moved.coords[others, 1] - second.coords[others, 1], axis=1)
    table = []
    for i, j, off in zip(rows.tolist(), others.tolist(), distance.tolist(), strict=True):
        sides = [
            (str(t.chain[k]), int(t.index[k]), str(t.icode[k]), t.sequence[k], int(t.ids[k]))
            for t, k in zip(tokens, (i, j), strict=True)
        ]
        a, b = sides[0][-1], sides[1][-1]
        mark = NONE if min(a, b) < 0 else SAME if a == b else ALIKE if scores[a, b] > 0 else UNLIKE
        table.append(Difference(*sides[0], *sides[1], mark, round(off, 2)))
    return table


def picture(table: Sequence[Difference]) -> str:
    """Letters of both along their chains, with the marks between them, as text."""
    lines = []
    for _, group in groupby(table, key=lambda row: (row.chain, row.chain_2)):
        own = list(group)
        for start in range(0, len(own), WIDTH):
            part = own[start : start + WIDTH]
            heads = [
                f"{part[0].chain} {part[0].index}{part[0].icode}",
                "",
                f"{part[0].chain_2} {part[0].index_2}{part[0].icode_2}",
            ]
            texts = [
                "".join(row) for row in zip(*((r.residue, r.mark, r.residue_2) for r in part), strict=True)
            ]
            lines += [f"{head:>12}  {text}".rstrip() for head, text in zip(heads, texts, strict=True)] + [""]
    return "\n".join(lines)


def stretches(table: Sequence[Difference]) -> list[str]:
    """Where residues in a row are unlike, in the numbers of the first: ``A 40-44``."""
    marked = [(row.mark == UNLIKE, row.chain) for row in table]
    listed = []
    for (unlike, chain), group in groupby(zip(marked, table, strict=True), key=lambda pair: pair[0]):
        if unlike:
            own = [row for _, row in group]
            ends = [f"{row.index}{row.icode}" for row in (own[0], own[-1])]
            listed.append(f"{chain} {'-'.join(dict.fromkeys(ends))}".strip())
    return listed
