"""Clusters of chains with like codes, without a comparison of all with all.

Chains go by length, the longest first. Each is aligned with representatives that share words of codes with
it, those with the most and rarest words first, and joins the first that it is like; else it becomes one. That
a word leads to few chains, and a chain is compared with these alone, is Linclust's idea (Steinegger & Söding
2018, doi:10.1038/s41467-018-04964-5): alignments grow with the number of chains, not of pairs. Linclust keeps
the longest chain of a word; here the last representatives are kept, whose lengths are nearest.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from protok.analysis.alignment import Aligner
from protok.analysis.database import Database
from protok.analysis.substitution import Matrix
from protok.common.grouping import numbered
from protok.common.progress import show_progress
from protok.tokens.tokens import Tokens

#: Least share of both chains that their alignment spans, as in MMseqs2 and Foldseek.
COVERAGE = 0.8
#: Least normalised score of shapes alone, where environments are compared, and of alphabets with letters as
#: 3Di: by which 97 to 99 % of the pairs in clusters are of one superfamily, on half A of the SCOPe folds.
SCORE, AROUND, LETTERED = 0.25, 0.4, 0.5
#: Codes of a word, and representatives that are remembered of each.
WORD, REMEMBERED = 3, 100
#: Representatives that a chain is aligned with.
CANDIDATES = 20


def cluster(
    database: Database,
    matrix: Matrix | Sequence[Matrix],
    *,
    coverage: float = COVERAGE,
    score: float | None = None,
    candidates: int | None = CANDIDATES,
) -> dict[str, list[str]]:
    """Clusters of the chains of a database: of each representative its members, itself first.

    Each chain is in one of them, whatever the order of the database. Chains without any code are clusters of
    their own.

    Parameters
    ----------
    database
        With the alphabets of the matrices.
    matrix
        Of the codes, or of the environments; several add up.
    coverage
        Least share of both chains, of a representative and of a member, that their alignment spans.
    score
        Least score of their alignment, over what both score with themselves (`Hit.normalised`); by default
        `SCORE`, `AROUND` where environments are compared (in two alphabets, or as ``NAME:environment``),
        `LETTERED` of alphabets with letters.
    candidates
        Representatives that a chain is aligned with; None for all.

    Raises
    ------
    CodebookMismatch
        If the database lacks an alphabet of the matrices.

    Examples
    --------
    >>> from protok.analysis.cluster import cluster
    >>> from protok.analysis.database import Database
    >>> from protok.analysis.substitution import default_matrix
    >>> database = Database([tokens])
    >>> cluster(database, default_matrix(tokenizer, database.usage()))
    {'7w89.A_A': ['7w89.A_A']}
    """
    matrices = database.matrices(matrix)
    if score is None:
        books = [each.codebook for each in matrices]
        alone = books == [database.codebook] and ":environment@" not in database.codebook
        score = AROUND if not alone else LETTERED if database.chains[0].alphabet else SCORE
    chains, labels = database.chains, database.labels
    words = _words(database, [each.codebook for each in matrices])
    order = sorted(range(len(chains)), key=lambda n: (-len(chains[n]), labels[n]))
    heads, clusters = _Representatives([len(chain) for chain in chains], words, coverage), {}
    with show_progress("clustering", len(order)) as advance:
        for n in order:
            aligner = Aligner(chains[n], matrices)
            head = next(
                (h for h in heads.near(n, candidates) if _alike(aligner, chains[h], coverage, score)), n
            )
            if head == n:
                heads.add(n)
            clusters.setdefault(labels[head], []).append(labels[n])
            advance(1)
    left_out = numbered([*labels, *database.left_out], "#")[len(labels) :]
    return clusters | {label: [label] for label in left_out}


def _alike(aligner: Aligner, chain: Tokens, coverage: float, least: float) -> bool:
    score, rows = aligner.align(chain)
    if not score or aligner.normalised(score, chain) < least:
        return False
    pairs = rows[rows.min(axis=1) >= 0]
    spans = pairs[-1] - pairs[0] + 1
    return bool((spans >= coverage * np.array([len(aligner.profiles[0].codes), len(chain)])).all())


class _Representatives:
    """Representatives by their words."""

    def __init__(self, lengths: list[int], words: list[Int[np.ndarray, "w"]], coverage: float):
        self._lengths, self._words, self._coverage = np.array(lengths), words, coverage
        self._weight = np.log1p(len(words) / np.bincount(np.concatenate(words)))
        self._heads, self._count = np.empty(len(words), int), 0
        self._by_word: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def add(self, n: int) -> None:
        for word in self._words[n].tolist():
            self._by_word[word].append(self._count)
        self._heads[self._count] = n
        self._count += 1

    def near(self, n: int, most: int | None) -> list[int]:
        """Those that share words with chain n and are not too long, the likeliest first; None for all."""
        heads, shared = self._heads[: self._count], np.zeros(self._count)
        for word in self._words[n].tolist():
            shared[list(self._by_word.get(word, ()))] += self._weight[word]
        fit = self._coverage * self._lengths[heads] <= self._lengths[n]
        if most is not None:
            fit &= shared > 0
        ranked = np.flatnonzero(fit)[np.argsort(-shared[fit], kind="stable")]
        return heads[ranked[:most]].tolist()


def _words(database: Database, codebooks: Sequence[str]) -> list[Int[np.ndarray, "w"]]:
    """Words of `WORD` codes in a row, each once, of each chain in all alphabets, as numbers from 0."""
    all_words, chains = [np.empty(0, np.int64)], []
    for number, chain in enumerate(database.chains):
        for place, codebook in enumerate(codebooks):
            ids = chain.ids_of(codebook)
            if len(ids) < WORD:
                continue
            rows = np.lib.stride_tricks.sliding_window_view(ids.astype(np.int64), WORD)
            rows = rows[rows.min(axis=1) >= 0]
            sizes = database.sizes[codebook] ** np.arange(WORD)
            own = np.unique(rows @ sizes) * len(codebooks) + place
            all_words.append(own)
            chains += [number] * len(own)
    _, words = np.unique(np.concatenate(all_words), return_inverse=True)
    ends = np.cumsum(np.bincount(chains, minlength=len(database)))[:-1]
    return np.split(words, ends)
