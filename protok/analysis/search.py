"""Search of token files: which chains hold a stretch of codes like the query's.

All chains are scored without gaps along every diagonal, at once; those that score best are aligned
with gaps (`Aligner`). Scores of several alphabets add up, as 3Di's and
those of amino acids do in Foldseek (van Kempen et al. 2023). Expectations follow an extreme value
distribution that is fitted to alignments of the query with chains of the database, of which most are
strangers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from protok.analysis.alignment import Aligner
from protok.analysis.database import Database
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
        Of the query's codes, or of its environments; several add up, with the dearest gap of them.
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
    matrices = database.matrices(matrix)
    books = [query.codebook, *([query.environment.codebook] if query.environment else [])]
    for each in matrices:
        if each.codebook not in books:
            raise CodebookMismatch(
                f"the query is of {', '.join(books)}, the database of {each.codebook}",
                "encode the query with the model of the database",
                file=database.file,
            )
    aligner, hits = Aligner(query, matrices), []
    chance = _chance(aligner, database, len(query))
    for number in np.argsort(-database.gapless(aligner.profiles), kind="stable")[:candidates].tolist():
        chain = database.chains[number]
        score, trace = aligner.align(chain)
        if not score:
            continue
        expected = math.nan if chance is None else chance.expected(score, len(chain), len(database))
        if expected > evalue:  # what is not known is kept
            continue
        values = {"score": score, "normalised": aligner.normalised(score, chain), "evalue": expected}
        values["bits"] = math.nan if chance is None else chance.bits(score)
        hits.append(Hit.of(query, chain, trace, target=database.labels[number], **values))
    hits.sort(key=lambda hit: (0 if math.isnan(hit.evalue) else hit.evalue, -hit.score, hit.target))
    return hits[:top]


def _chance(aligner: Aligner, database: Database, residues: int) -> Chance | None:
    """What strangers score, from chains of the database; None where these are too few."""
    if len(database) < FEWEST:
        return None
    picked = np.linspace(0, len(database) - 1, min(NULL, len(database))).astype(int)
    chains = [database.chains[number] for number in picked.tolist()]
    scores = np.array([aligner.align(chain)[0] for chain in chains], float)
    return Chance.of(scores, np.array([len(chain) for chain in chains]), residues)
