"""Tokens of many chains, ready to be searched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from protok.analysis.substitution import Matrix, summands
from protok.common.grouping import numbered
from protok.errors import CodebookMismatch, CorruptFile, NoProtein
from protok.tokens.files import scan
from protok.tokens.tokens import Tokens

#: Residues of the database that are scored at once; their scores stay in the processor's cache.
BLOCK = 1 << 17
#: Score of a residue without a code, and of the end of a chain.
UNKNOWN, END = -4, -32000


class Database:
    """Tokens of many chains, ready to be searched.

    Parameters
    ----------
    tokens
        Of one codebook. Chains without any code are left out, their labels in `left_out`.
    file
        For errors.

    Attributes
    ----------
    sizes : dict
        Letters of each alphabet by its codebook: that of the tokens, and that of their environments where all
        chains have them.

    Raises
    ------
    CodebookMismatch
        If they are of several codebooks.
    NoProtein
        If there are none.

    Examples
    --------
    >>> from protok.analysis.search import search
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
        self.file = file
        kinds = list(dict.fromkeys((chain.codebook, chain.size) for chain in self.chains))
        if not kinds:
            cause = "no residue has a code" if self.left_out else "holds no tokens"
            raise NoProtein(cause, "encode some structures first", file=file)
        self.codebook, self.size = self._alone(kinds)
        self.sizes = {self.codebook: self.size}
        around = list(
            dict.fromkeys((e.codebook, e.size) if (e := c.environment) else None for c in self.chains)
        )
        if None not in around:
            codebook, size = self._alone([kind for kind in around if kind])
            self.sizes[codebook] = size
        # Each chain is followed by an end, so that no diagonal runs into the next chain.
        lengths = np.array([len(chain) for chain in self.chains]) + 1
        self._bounds = np.concatenate([[0], np.cumsum(lengths)])
        self._codes = {codebook: self._end_to_end(codebook) for codebook in self.sizes}

    def _alone(self, kinds: list[tuple[str, int]]) -> tuple[str, int]:
        """The one codebook of all, with its size."""
        books = list(dict.fromkeys(codebook for codebook, _ in kinds))
        if len(books) > 1:
            raise CodebookMismatch(
                f"holds tokens of {len(books)} codebooks: {', '.join(books[:3])}",
                "search those of one",
                file=self.file,
            )
        sizes = sorted(size for _, size in kinds)
        if len(sizes) > 1:
            raise CorruptFile(
                f"holds codebooks of {sizes[0]} and of {sizes[-1]} codes under one name",
                "encode the structures again",
                file=self.file,
            )
        return kinds[0]

    def _end_to_end(self, codebook: str) -> np.ndarray:
        size = self.sizes[codebook]
        codes = np.full(self._bounds[-1], size + 1, np.int32)
        for start, chain in zip(self._bounds, self.chains, strict=False):
            codes[start : start + len(chain)] = known(chain.ids_of(codebook), size)
        return codes

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
        residues = int(self._bounds[-1]) - len(self)
        return f"Database({len(self)} chains, {residues} residues, {', '.join(self.sizes)})"

    def matrices(self, matrix: Matrix | Sequence[Matrix]) -> list[Matrix]:
        """One matrix, or several so that their scores can be added, if the database has their alphabets.

        Raises
        ------
        CodebookMismatch
            If it lacks one.
        """
        matrices = [matrix] if isinstance(matrix, Matrix) else [*matrix]
        for each in matrices:
            if self.sizes.get(each.codebook) != each.size:
                there = ", ".join(f"{codebook} ({size} codes)" for codebook, size in self.sizes.items())
                raise CodebookMismatch(
                    f"the codes are of {there}, the matrix of {each.codebook} ({each.size})",
                    "use the matrix of the same codebook",
                    file=self.file,
                )
        return summands(matrices)

    def usage(self, codebook: str = "") -> np.ndarray:
        """How often each code of an alphabet occurs, (size,); by default of the tokens'."""
        codebook = codebook or self.codebook
        size = self.sizes[codebook]
        return np.bincount(self._codes[codebook], minlength=size)[:size]

    def gapless(self, profiles: Sequence[Profile]) -> np.ndarray:
        """Best score of a stretch without gaps, (chains,) int16, with the sum of the profiles of a query."""
        best = np.zeros(int(self._bounds[-1]), np.int16)
        first, *others = (profile.rows for profile in profiles)
        # Chains end for all alphabets at once: of sums within int16 one says it.
        tables = [
            first,
            *(np.where(np.arange(rows.shape[1]) == rows.shape[1] - 1, 0, rows) for rows in others),
        ]
        most = np.int16(32_000 - 1000 * len(tables))
        begin = 0
        while begin < len(self):
            # Whole chains, so that no diagonal is cut.
            end = int(np.searchsorted(self._bounds, self._bounds[begin] + BLOCK, "right")) - 1
            end = max(end, begin + 1)
            rows = slice(self._bounds[begin], self._bounds[end])
            here = [self._codes[profile.codebook][rows].astype(np.intp) for profile in profiles]
            run, top = np.zeros(len(here[0]) + 1, np.int16), best[rows]
            for scores in zip(*tables, strict=True):
                step = scores[0].take(here[0])
                for more, codes in zip(scores[1:], here[1:], strict=True):
                    step += more.take(codes)
                # A score is at most 1000, and their sum is capped before the next.
                np.minimum(run[:-1], most, out=run[:-1])
                step += run[:-1]
                np.maximum(step, 0, out=run[1:])
                np.maximum(top, run[1:], out=top)
            begin = end
        return np.maximum.reduceat(best, self._bounds[:-1])


class Profile:
    """What each residue of a query scores with each code of an alphabet.

    Parameters
    ----------
    ids : (n,)
        Codes of the query, -1 for none.
    matrix
        Of their alphabet.

    Attributes
    ----------
    codebook : str
        Of the alphabet.
    rows : (n, size + 2) int16
        Scores of the residues; the last two columns are of unknown residues and ends of chains.
    own : int
        What the query scores with itself.
    """

    def __init__(self, ids: np.ndarray, matrix: Matrix):
        n = matrix.size
        self.codebook, self.table = matrix.codebook, np.full((n + 2, n + 2), UNKNOWN, np.int16)
        self.table[:n, :n] = matrix.scores
        self.table[:, n + 1] = END
        self.codes = known(ids, n)
        self.rows = self.table[self.codes]
        self.own = self.of_itself(ids)

    def of_itself(self, ids: np.ndarray) -> int:
        """What a chain scores with itself."""
        codes = known(ids, len(self.table) - 2)
        return int(self.table[codes, codes].sum(dtype=np.int64))

    def along(self, ids: np.ndarray) -> np.ndarray:
        """Scores of the residues with those of a stretch of the same length, (n,)."""
        return self.table[self.codes, known(ids, len(self.table) - 2)]

    def against(self, ids: np.ndarray) -> np.ndarray:
        """Scores of all pairs of residues of the query and of a chain, (n, m) int32."""
        return self.rows[:, known(ids, len(self.table) - 2)].astype(np.int32)


def known(ids: np.ndarray, size: int) -> np.ndarray:
    """Codes, with `size` for none."""
    return np.where(ids < 0, size, ids).astype(np.int32)
