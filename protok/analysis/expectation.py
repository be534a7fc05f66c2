"""How many chains of a database score as well by chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Chains that the query is aligned with to learn what strangers score, at most; and at least.
NULL, FEWEST = 200, 30
#: Of these scores the share that is fitted, from low to high: relatives are beyond.
FITTED = (0.1, 0.8)


@dataclass(frozen=True)
class Chance:
    """An extreme value distribution of the scores of one query with strangers.

    Attributes
    ----------
    rate, mode : float
        Of the distribution of score - ln(n m) / rate, for n residues of the query and m of the other.
    residues : int
        Of the query.
    """

    rate: float
    mode: float
    residues: int

    @classmethod
    def of(cls, scores: np.ndarray, lengths: np.ndarray, residues: int) -> Chance:
        """Fitted to local alignments of a query with chains that are strangers but for the best.

        Quantiles of the scores lie on a line over those of the distribution (a probability plot). What is
        above the highest of them that is fitted may be relatives.

        Parameters
        ----------
        scores, lengths : (chains,)
            Of alignments with chains, and residues of these.
        residues
            Of the query.
        """
        size = np.log(residues * lengths.astype(float))
        share = (np.arange(len(scores)) + 0.5) / len(scores)
        inner = (share >= FITTED[0]) & (share <= FITTED[1])
        standard = -np.log(-np.log(share[inner]))
        rate, mode = 1.0, 0.0
        for _ in range(30):  # the rate stands on both sides
            quantiles = np.sort(scores - size / rate)[inner]
            slope, mode = np.polyfit(standard, quantiles, 1)
            rate = 0.5 * (rate + 1 / max(slope, 1e-3))
        return cls(rate, float(mode), residues)

    def expected(self, score: int, length: int, chains: int) -> float:
        """Expected number of so many strangers, of the length of one, that reach a score."""
        x = self.rate * (score - self.mode) - math.log(self.residues * length)
        return chains * -math.expm1(-math.exp(min(-x, 700.0)))

    def bits(self, score: int) -> float:
        """A score in bits: of a stretch of n residues among m, 2 ** -bits n m are expected."""
        return self.rate * (score - self.mode) / math.log(2)
