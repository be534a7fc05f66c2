"""Search of token files: which chains hold a stretch of codes like the query's.

All chains are scored without gaps along every diagonal, at once; those that score best are aligned
with gaps (Smith & Waterman 1981, biotite's implementation). Expectations follow an extreme value
distribution that is fitted to alignments of the reversed query, which is like no fold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from protok.analysis.substitution import Matrix
from protok.common.grouping import numbered
from protok.errors import CodebookMismatch, CorruptFile, FormatError, NoProtein
from protok.tokens.files import scan
from protok.tokens.tokens import Tokens

#: Chains that are aligned with gaps, those with the best score without gaps first.
CANDIDATES = 300
#: Chains that the reversed query is aligned with, at most; and at least, to give expectations.
NULL, FEWEST = 200, 30
#: Residues of the database that are scored at once; their scores stay in the processor's cache.
BLOCK = 1 << 17
#: Score of a residue without a code, and of the end of a chain.
UNKNOWN, END = -4, -30000


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
    identity : float
        Share of aligned pairs of residues with equal codes.
    aligned, gaps : int
        Pairs of residues, and gaps.
    query_start, query_end, target_start, target_end : int
        Aligned stretches, counted from 1 along the chain, ends included.
    query_length, target_length : int
        Residues of the chains.
    target_numbers : str
        The aligned stretch of the target in the numbers of its file, `12-88A`.
    """

    query: str
    target: str
    score: int
    normalised: float
    evalue: float
    identity: float
    aligned: int
    gaps: int
    query_start: int
    query_end: int
    query_length: int
    target_start: int
    target_end: int
    target_length: int
    target_numbers: str


class Database:
    """Tokens of many chains, ready to be searched.

    Parameters
    ----------
    tokens
        Of one codebook. Chains without any code are left out, their labels in `left_out`.
    file
        For errors.

    Raises
    ------
    CodebookMismatch
        If they are of several codebooks.
    NoProtein
        If there are none.

    Examples
    --------
    >>> from protok.analysis.substitution import default_matrix
    >>> database = Database.read("tokens.parquet")
    >>> hits = search(tokens, database, default_matrix(tokenizer, database.usage()))
    >>> hits[0].normalised
    1.0
    """

    def __init__(self, tokens: Iterable[Tokens], file: str = ""):
        chains = [chain for structure in tokens for chain in structure.by_chain() if len(chain)]
        self.chains = [chain for chain in chains if not chain.uncoded]
        self.left_out = [chain.label for chain in chains if chain.uncoded]
        # Chains of one name and id may be of several files.
        self.labels = numbered([chain.label for chain in self.chains], "#")
        books = list(dict.fromkeys(chain.codebook for chain in self.chains))
        sizes = {chain.size for chain in self.chains}
        if len(books) > 1:
            raise CodebookMismatch(
                f"holds tokens of {len(books)} codebooks: {', '.join(books[:3])}",
                "search those of one",
                file=file,
            )
        if not books:
            cause = "no residue has a code" if self.left_out else "holds no tokens"
            raise NoProtein(cause, "encode some structures first", file=file)
        if len(sizes) > 1:
            raise CorruptFile(
                f"holds codebooks of {min(sizes)} and of {max(sizes)} codes under one name",
                "encode the structures again",
                file=file,
            )
        self.codebook, self.size = books[0], self.chains[0].size
        self.file = file
        # Each chain is followed by an end, so that no diagonal runs into the next chain.
        lengths = np.array([len(chain) for chain in self.chains]) + 1
        self._bounds = np.concatenate([[0], np.cumsum(lengths)])
        self._codes = np.full(self._bounds[-1], self.size + 1, np.int32)
        for start, chain in zip(self._bounds, self.chains, strict=False):
            self._codes[start : start + len(chain)] = _known(chain, self.size)

    @classmethod
    def read(cls, path: str | Path) -> Database:
        """The chains of a token file, or of a folder of Parquet files.

        Raises
        ------
        ProtokError
            If it is none, damaged, empty or of several codebooks.
        """
        return cls(scan(path), str(path))

    def __len__(self) -> int:
        return len(self.chains)

    def __repr__(self) -> str:
        residues = len(self._codes) - len(self)
        return f"Database({len(self)} chains, {residues} residues, {self.codebook})"

    def usage(self) -> np.ndarray:
        """How often each code occurs, (size,)."""
        return np.bincount(self._codes, minlength=self.size)[: self.size]

    def gapless(self, codes: np.ndarray, table: np.ndarray) -> np.ndarray:
        """Best score of a stretch without gaps, (chains,).

        Parameters
        ----------
        codes : (n,) int
            Of the query.
        table : (size + 2, size + 2) int16
            Scores; the last two rows and columns are of unknown residues and ends of chains.
        """
        best = np.zeros(len(self._codes), np.int16)
        begin = 0
        while begin < len(self):
            # Whole chains, so that no diagonal is cut.
            end = int(np.searchsorted(self._bounds, self._bounds[begin] + BLOCK, "right")) - 1
            end = max(end, begin + 1)
            rows = slice(self._bounds[begin], self._bounds[end])
            here = self._codes[rows].astype(np.intp)
            run, top = np.zeros(len(here) + 1, np.int16), best[rows]
            for code in codes:
                step = table[code].take(here)
                # Sums stay within int16: a score is at most 1000, and is capped before the next.
                np.minimum(run[:-1], 30000, out=run[:-1])
                step += run[:-1]
                np.maximum(step, 0, out=run[1:])
                np.maximum(top, run[1:], out=top)
            begin = end
        return np.maximum.reduceat(best, self._bounds[:-1])


def search(
    query: Tokens,
    database: Database,
    matrix: Matrix,
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
    database, matrix
        Of the same codebook.
    candidates
        Chains that are aligned with gaps; the others are not hits.
    top
        Return so many hits, at most.
    evalue
        Leave out hits that are expected more often than this.

    Raises
    ------
    CodebookMismatch
        If query, database and matrix are not of one codebook.
    FormatError
        If the query has several chains, or none.
    """
    if len(set(query.chain.tolist())) != 1:
        raise FormatError("the query is not one chain", "search its chains one by one", file=query.name)
    if query.codebook != database.codebook:
        raise CodebookMismatch(
            f"the query is of {query.codebook}, the database of {database.codebook}",
            "encode the query with the model of the database",
            file=database.file,
        )
    if (database.codebook, database.size) != (matrix.codebook, matrix.size):
        raise CodebookMismatch(
            f"the codes are of {database.codebook} ({database.size} codes), the matrix of "
            f"{matrix.codebook} ({matrix.size})",
            "use the matrix of the same codebook",
            file=database.file,
        )
    codes = _known(query, database.size)
    n = matrix.size
    table = np.full((n + 2, n + 2), END, np.int16)
    table[: n + 1, : n + 1] = UNKNOWN
    table[:n, :n] = matrix.scores
    aligner = _Aligner(codes, table, matrix.gap)
    order = np.argsort(-database.gapless(codes, table), kind="stable")[:candidates]
    expect = _expectation(codes, database, table, matrix.gap)
    own = max(int(table[codes, codes].sum()), 1)
    hits = []
    for number in order.tolist():
        chain = database.chains[number]
        theirs = _known(chain, database.size)
        score, trace = aligner.align(theirs)
        if not score:
            continue
        expected = expect(score, len(chain))
        if expected > evalue:  # what is not known is kept
            continue
        self_score = max(int(table[theirs, theirs].sum()), 1)
        hit = _hit(query, chain, score, trace, score / math.sqrt(own * self_score), expected)
        hits.append(replace(hit, target=database.labels[number]))
    hits.sort(key=lambda hit: (0 if math.isnan(hit.evalue) else hit.evalue, -hit.score, hit.target))
    return hits[:top]


def _known(tokens: Tokens, size: int) -> np.ndarray:
    """Codes, with `size` for none."""
    return np.where(tokens.ids < 0, size, tokens.ids).astype(np.int32)


class _Aligner:
    """Local alignment of one query with others."""

    def __init__(self, codes: np.ndarray, table: np.ndarray, gap: tuple[int, int]):
        import biotite.sequence as seq
        import biotite.sequence.align as align

        self._align = align.align_optimal  # pyright: ignore[reportAttributeAccessIssue] (compiled, no stub)
        self._gap = gap
        self._query = seq.GeneralSequence(seq.Alphabet(range(len(table) - 1)))
        self._query.code = codes
        letters = self._query.alphabet
        self._matrix = align.SubstitutionMatrix(letters, letters, table[:-1, :-1].astype(np.int32))

    def align(self, codes: np.ndarray) -> tuple[int, np.ndarray]:
        """Score and (n, 2) rows, -1 at gaps; 0 and no rows where nothing scores above 0."""
        target = self._query.copy(codes)
        best = self._align(self._query, target, self._matrix, gap_penalty=self._gap, local=True, max_number=1)
        if not best or best[0].score <= 0 or not len(best[0].trace):
            return 0, np.empty((0, 2), int)
        return int(best[0].score), best[0].trace


def _expectation(
    codes: np.ndarray, database: Database, table: np.ndarray, gap: tuple[int, int]
) -> Callable[[int, int], float]:
    """Make what tells how many chains are expected to reach a score, as one of some length did.

    An extreme value distribution of score - ln(n m) / rate, fitted by moments to local alignments
    of the reversed query with chains of the database.
    """
    if len(database) < FEWEST:
        return lambda score, length: math.nan
    aligner = _Aligner(codes[::-1], table, gap)
    picked = np.linspace(0, len(database) - 1, min(NULL, len(database))).astype(int)
    chains = [database.chains[number] for number in picked.tolist()]
    score = np.array([aligner.align(_known(chain, database.size))[0] for chain in chains], float)
    size = np.array([math.log(len(codes) * len(chain)) for chain in chains])
    rate = math.pi / math.sqrt(6) / max(score.std(), 1e-3)
    for _ in range(20):  # the rate stands on both sides
        rate = math.pi / math.sqrt(6) / max((score - size / rate).std(), 1e-3)
    mode = float((score - size / rate).mean()) - np.euler_gamma / rate

    def expected(score: int, length: int) -> float:
        x = rate * (score - mode) - math.log(len(codes) * length)
        return len(database) * -math.expm1(-math.exp(min(-x, 700.0)))

    return expected


def _hit(
    query: Tokens, chain: Tokens, score: int, trace: np.ndarray, normalised: float, expected: float
) -> Hit:
    gap = trace.min(axis=1) < 0
    pairs = trace[~gap]
    (q0, t0), (q1, t1) = pairs[0].tolist(), pairs[-1].tolist()
    same = (query.ids[pairs[:, 0]] == chain.ids[pairs[:, 1]]) & (query.ids[pairs[:, 0]] >= 0)
    numbers = "-".join(f"{chain.index[i]}{chain.icode[i]}" for i in (t0, t1))
    return Hit(
        query=query.label,
        target=chain.label,
        score=score,
        normalised=normalised,
        evalue=expected,
        identity=float(same.mean()),
        aligned=len(pairs),
        gaps=int((gap[1:] & ~gap[:-1]).sum()),
        query_start=q0 + 1,
        query_end=q1 + 1,
        query_length=len(query),
        target_start=t0 + 1,
        target_end=t1 + 1,
        target_length=len(chain),
        target_numbers=numbers,
    )
