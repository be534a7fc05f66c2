"""Counts of codes as features of whole proteins, for scikit-learn and its like."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np

from protok.errors import CodebookMismatch, Unsupported
from protok.tokenizers.protocol import Tokenizer
from protok.tokenizers.registry import as_tokenizer
from protok.tokens.tokens import Tokens

try:  # a transformer of scikit-learn where that is installed, and the same without it
    from sklearn.base import BaseEstimator, TransformerMixin
except ImportError:
    BASES: tuple[type, ...] = ()
else:
    BASES = TransformerMixin, BaseEstimator


class CodeCounts(*BASES):
    """How often each code, or run of codes, occurs in a protein.

    Parameters
    ----------
    tokenizer
        A tokenizer, or the name or folder of one; needed only if structures are given instead of
        Tokens.
    ngram
        Codes counted together: 1 counts codes, 2 pairs of neighbours. Pairs are those that occur
        where it is fitted; others are not counted.
    share
        Give shares of the residues that have a code instead of counts.

    Attributes
    ----------
    codebook_ : str
        Of the tokens that it was fitted on.
    runs_ : (n_features, span) int
        The run of codes that each column counts.

    Examples
    --------
    >>> counts = CodeCounts().fit_transform([tokens, tokens])
    >>> counts.shape
    (2, 64)
    """

    def __init__(self, tokenizer: Tokenizer | str | Path | None = None, ngram: int = 1, share: bool = True):
        self.tokenizer = tokenizer
        self.ngram = ngram
        self.share = share

    def fit(self, X: Iterable[Any], y: Any = None) -> Self:
        """Take the codebook, and for `ngram` above 1 the runs, of Tokens or structures.

        Raises
        ------
        CodebookMismatch
            If they are of several codebooks.
        """
        if not isinstance(self.ngram, int) or self.ngram < 1:
            raise ValueError(f"ngram is 1 or more, not {self.ngram!r}")
        proteins = self._tokens(X)
        if not proteins:
            raise ValueError("nothing to fit on: give at least one protein")
        self.codebook_, self.size_ = proteins[0].codebook, proteins[0].size
        if self.ngram == 1:
            self.runs_ = np.arange(self.size_)[:, None]
        else:
            self.runs_ = np.unique(np.concatenate([_runs(p, self.ngram) for p in proteins]), axis=0)
        return self

    def transform(self, X: Iterable[Any]) -> np.ndarray:
        """Counts or shares, (proteins, n_features) float64.

        Raises
        ------
        CodebookMismatch
            If tokens are of another codebook than those it was fitted on.
        """
        if "runs_" not in vars(self):
            raise Unsupported("CodeCounts is not fitted", "call fit, or fit_transform")
        proteins = self._tokens(X, self.codebook_)
        column = {tuple(run): i for i, run in enumerate(self.runs_.tolist())}
        out = np.zeros((len(proteins), len(column)))
        for row, protein in zip(out, proteins, strict=True):
            runs = _runs(protein, self.ngram)
            for run in runs.tolist():
                if (at := column.get(tuple(run))) is not None:
                    row[at] += 1
            if self.share:
                row /= max(len(runs), 1)
        return out

    def fit_transform(self, X: Iterable[Any], y: Any = None) -> np.ndarray:
        """Fit, then transform."""
        X = list(X)
        return self.fit(X, y).transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns: `s12`, or `s12_s7` of runs."""
        names = ["_".join(f"s{code}" for code in run) for run in self.runs_.tolist()]
        return np.array(names, dtype=object)

    def _tokens(self, X: Iterable[Any], codebook: str | None = None) -> list[Tokens]:
        out, tokenizer = [], self.tokenizer
        for protein in X:
            if not isinstance(protein, Tokens):
                if tokenizer is None:
                    raise Unsupported(
                        f"{type(protein).__name__} is no Tokens", "give Tokens, or CodeCounts a tokenizer"
                    )
                tokenizer = as_tokenizer(tokenizer)
                protein = tokenizer.encode(protein)
            codebook = codebook or protein.codebook
            if protein.codebook != codebook:
                raise CodebookMismatch(
                    f"the tokens are of {protein.codebook}, the counts of {codebook}",
                    "count codes of one codebook",
                    file=protein.name,
                )
            out.append(protein)
        return out


def _runs(tokens: Tokens, ngram: int) -> np.ndarray:
    """Runs of neighbours within chains, all with codes, (n, span)."""
    parts = [np.empty((0, ngram), np.int64)]
    for chain in tokens.by_chain():
        if len(chain) >= ngram:
            runs = np.lib.stride_tricks.sliding_window_view(chain.ids.astype(np.int64), ngram)
            parts.append(runs[(runs >= 0).all(1)])
    return np.concatenate(parts)
