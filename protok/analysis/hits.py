"""Hits of a search: what is told of one, and how it is written."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protok.analysis.database import Profile
from protok.analysis.substitution import Matrix
from protok.tokens.tokens import Tokens

#: Residues of a line of an alignment.
LINE = 60


@dataclass(frozen=True)
class Hit:
    """A local alignment of the query with one chain of the database.

    Attributes
    ----------
    query, target : str
        Name and chain, `1aki_A`.
    score : int
        Of the alignment, in the units of the matrix.
    normalised : float
        The score over the geometric mean of what both score with themselves: 1 for equal codes.
    evalue : float
        Expected number of chains of this database that score as well by chance; NaN where it holds
        too few chains to tell.
    bits : float
        The score in bits of the same distribution; NaN as `evalue`.
    identity : float
        Share of aligned pairs of residues with equal codes.
    same_residues : float
        Share of them with the same amino acid.
    aligned, gaps : int
        Pairs of residues, and gaps.
    query_start, query_end, target_start, target_end : int
        Aligned stretches, counted from 1 along the chain, ends included.
    query_length, target_length : int
        Residues of the chains.
    target_numbers : str
        The aligned stretch of the target in the numbers of its file, `12-88A`.
    cigar : str
        The alignment: `40M2I31M1D9M`, M for pairs of residues, I for residues of the query alone, D for such
        of the target.
    """

    query: str
    target: str
    score: int
    normalised: float
    evalue: float
    bits: float
    identity: float
    same_residues: float
    aligned: int
    gaps: int
    query_start: int
    query_end: int
    query_length: int
    target_start: int
    target_end: int
    target_length: int
    target_numbers: str
    cigar: str

    @classmethod
    def of(cls, query: Tokens, chain: Tokens, trace: np.ndarray, **values: Any) -> Hit:
        """The hit of an alignment.

        Parameters
        ----------
        query, chain
            Tokens of one chain each.
        trace : (n, 2)
            Rows of both, -1 at gaps.
        values
            Fields that do not follow from these.
        """
        gap = trace.min(axis=1) < 0
        pairs = trace[~gap]
        (q0, t0), (q1, t1) = pairs[0].tolist(), pairs[-1].tolist()
        same = (query.ids[pairs[:, 0]] == chain.ids[pairs[:, 1]]) & (query.ids[pairs[:, 0]] >= 0)
        residues = [query.sequence[i] == chain.sequence[j] for i, j in pairs.tolist()]
        kinds = np.where(trace[:, 1] < 0, "I", np.where(trace[:, 0] < 0, "D", "M"))
        cut = np.flatnonzero(np.r_[True, kinds[1:] != kinds[:-1]])
        runs = zip(np.diff(np.r_[cut, len(kinds)]).tolist(), kinds[cut].tolist(), strict=True)
        return cls(
            query=query.label,
            identity=float(same.mean()),
            same_residues=float(np.mean(residues)),
            aligned=len(pairs),
            gaps=int((gap[1:] & ~gap[:-1]).sum()),
            query_start=q0 + 1,
            query_end=q1 + 1,
            query_length=len(query),
            target_start=t0 + 1,
            target_end=t1 + 1,
            target_length=len(chain),
            target_numbers="-".join(f"{chain.index[i]}{chain.icode[i]}" for i in (t0, t1)),
            cigar="".join(f"{length}{kind}" for length, kind in runs),
            **values,
        )

    @property
    def rows(self) -> np.ndarray:
        """(n, 2) residues of query and target, from 0, -1 at gaps."""
        i, j, rows = self.query_start - 1, self.target_start - 1, []
        for length, kind in re.findall(r"(\d+)([MID])", self.cigar):
            for _ in range(int(length)):
                rows.append((i if kind != "D" else -1, j if kind != "I" else -1))
                i, j = i + (kind != "D"), j + (kind != "I")
        return np.array(rows, int)


def m8(hit: Hit) -> str:
    """A line with the twelve columns that BLAST and Foldseek write by default.

    Query, target, share of equal residues, length of the alignment, mismatches, gaps, ends of both aligned
    stretches, E-value, bits; the last two are nan where the database has too few chains for them.
    """
    length = sum(map(int, re.findall(r"\d+", hit.cigar)))
    different = hit.aligned - round(hit.same_residues * hit.aligned)
    ends = (hit.query_start, hit.query_end, hit.target_start, hit.target_end)
    known = math.isfinite(hit.evalue)
    likely = (f"{hit.evalue:.3E}", round(hit.bits)) if known else ("nan", "nan")
    columns = (hit.query, hit.target, f"{hit.same_residues:.3f}", length, different, hit.gaps, *ends, *likely)
    return "\t".join(re.sub(r"\s", "_", str(column)) for column in columns) + "\n"


def alignment(hit: Hit, query: Tokens, target: Tokens, matrices: Sequence[Matrix]) -> str:
    """The residues of a hit one above the other, with a mark between them.

    That is `|` for codes that are equal in all alphabets, `+` for a positive score, else a blank.
    """
    rows = hit.rows
    both = (rows[:, 0] >= 0) & (rows[:, 1] >= 0)
    positive, equal = np.zeros(len(rows), int), both.copy()
    for matrix in matrices:
        first, second = (tokens.ids_of(matrix.codebook) for tokens in (query, target))
        first, second = first[rows[both, 0]], second[rows[both, 1]]
        positive[both] += Profile(first, matrix).along(second)
        equal[both] &= first == second
    marks = "".join(np.where(equal, "|", np.where(positive > 0, "+", " ")).tolist())
    lines = [f">{hit.query} {hit.target} E={hit.evalue:.3g} score={hit.score} numbers={hit.target_numbers}"]
    texts = _text(query.sequence, rows[:, 0]), _text(target.sequence, rows[:, 1])
    for begin in range(0, len(rows), LINE):
        part = slice(begin, begin + LINE)
        first, second = ((column[column >= 0] + 1).tolist() for column in rows[part].T)
        lines.append(f"{(first or [0])[0]:>6} {texts[0][part]} {(first or [0])[-1]}")
        lines.append(f"{'':>6} {marks[part]}".rstrip())
        lines.append(f"{(second or [0])[0]:>6} {texts[1][part]} {(second or [0])[-1]}")
        lines.append("")
    return "\n".join(lines) + "\n"


def _text(sequence: str, rows: np.ndarray) -> str:
    return "".join("-" if row < 0 else sequence[row] for row in rows.tolist())
