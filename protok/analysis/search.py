"""Search of token files: which chains hold a stretch of codes like the query's.

All chains are scored without gaps along every diagonal, at once; those that score best are aligned
with gaps (Smith & Waterman 1981, biotite's implementation). Scores of several alphabets add up, as 3Di's and
those of amino acids do in Foldseek (van Kempen et al. 2023). Expectations follow an extreme value
distribution that is fitted to alignments of the query with chains of the database, of which most are
strangers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from protok.analysis.database import Database, Profile
from protok.analysis.expectation import FEWEST, NULL, Chance
from protok.analysis.hits import Hit
from protok.analysis.substitution import Matrix
from protok.errors import CodebookMismatch, FormatError
from protok.tokens.tokens import Tokens

#: Chains that are aligned with gaps, those with the best score without gaps first.
CANDIDATES = 300


def search(
    query: Tokens,
    database: Database,
    matrix: Matrix | Sequence[Matrix],
    *,
    candidates: int = CANDIDATES,
    top: int | None = None,
    evalue: float = math.inf,
) -> list[Hit]:
    """Chains of a database by their local alignment with the query, least expected first.

    Parameters
    ----------
    query
        Tokens of one chain.
    database
        With the alphabets of the matrices.
    matrix
        Of the query's codes, or of its environments; several add up, with the gaps of the first.
    candidates
        Chains that are aligned with gaps; the others are not hits.
    top
        Return so many hits, at most.
    evalue
        Leave out hits that are expected more often than this.

    Raises
    ------
    CodebookMismatch
        If query or database lack an alphabet of the matrices.
    FormatError
        If the query has several chains, or none.
    """
    if len(set(query.chain.tolist())) != 1:
        raise FormatError("the query is not one chain", "search its chains one by one", file=query.name)
    matrices = [matrix] if isinstance(matrix, Matrix) else [*matrix]
    for each in matrices:
        _check(query, database, each)
    profiles = [Profile(query.ids_of(each.codebook), each) for each in matrices]
    aligner = _Aligner(profiles, matrices[0].gap)
    chance = _chance(aligner, database, len(query))
    own, hits = max(sum(profile.own for profile in profiles), 1), []
    for number in np.argsort(-database.gapless(profiles), kind="stable")[:candidates].tolist():
        chain = database.chains[number]
        score, trace = aligner.align(chain)
        if not score:
            continue
        expected = math.nan if chance is None else chance.expected(score, len(chain), len(database))
        if expected > evalue:  # what is not known is kept
            continue
        theirs = max(sum(profile.of_itself(chain.ids_of(profile.codebook)) for profile in profiles), 1)
        values = {"score": score, "normalised": score / math.sqrt(own * theirs), "evalue": expected}
        values["bits"] = math.nan if chance is None else chance.bits(score)
        hits.append(Hit.of(query, chain, trace, target=database.labels[number], **values))
    hits.sort(key=lambda hit: (0 if math.isnan(hit.evalue) else hit.evalue, -hit.score, hit.target))
    return hits[:top]


def _check(query: Tokens, database: Database, matrix: Matrix) -> None:
    """Require that query and database have the alphabet of a matrix."""
    books = [query.codebook, *([query.environment.codebook] if query.environment else [])]
    if matrix.codebook not in database.sizes or database.sizes[matrix.codebook] != matrix.size:
        there = ", ".join(f"{codebook} ({size} codes)" for codebook, size in database.sizes.items())
        raise CodebookMismatch(
            f"the codes are of {there}, the matrix of {matrix.codebook} ({matrix.size})",
            "use the matrix of the same codebook",
            file=database.file,
        )
    if matrix.codebook not in books:
        raise CodebookMismatch(
            f"the query is of {', '.join(books)}, the database of {matrix.codebook}",
            "encode the query with the model of the database",
            file=database.file,
        )


class _Aligner:
    """Local alignment of one query with others."""

    def __init__(self, profiles: Sequence[Profile], gap: tuple[int, int]):
        import biotite.sequence as seq
        import biotite.sequence.align as align

        self._align = align.align_optimal  # pyright: ignore[reportAttributeAccessIssue] (compiled, no stub)
        self._matrix, self._gap, self._profiles = align.SubstitutionMatrix, gap, profiles

        # Each residue is a letter of its own, so that scores of several alphabets can be added.
        @cache
        def residues(n: int) -> seq.GeneralSequence:
            sequence = seq.GeneralSequence(seq.Alphabet(range(n)))
            sequence.code = np.arange(n)
            return sequence

        self._residues = residues

    def align(self, chain: Tokens) -> tuple[int, np.ndarray]:
        """Score and (n, 2) rows, -1 at gaps; 0 and no rows where nothing scores above 0."""
        first, *others = (profile.against(chain.ids_of(profile.codebook)) for profile in self._profiles)
        query, target = map(self._residues, first.shape)
        matrix = self._matrix(query.alphabet, target.alphabet, sum(others, first))
        best = self._align(query, target, matrix, gap_penalty=self._gap, local=True, max_number=1)
        if not best or best[0].score <= 0 or not len(best[0].trace):
            return 0, np.empty((0, 2), int)
        return int(best[0].score), best[0].trace


def _chance(aligner: _Aligner, database: Database, residues: int) -> Chance | None:
    """What strangers score, from chains of the database; None where these are too few."""
    if len(database) < FEWEST:
        return None
    picked = np.linspace(0, len(database) - 1, min(NULL, len(database))).astype(int)
    chains = [database.chains[number] for number in picked.tolist()]
    scores = np.array([aligner.align(chain)[0] for chain in chains], float)
    return Chance.of(scores, np.array([len(chain) for chain in chains]), residues)
