"""Which residues change their code from frame to frame of a trajectory, or from model to model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protok.quantize.usage import perplexity
from protok.tokens.tokens import Tokens


@dataclass(frozen=True)
class Switch:
    """What one residue does in all frames.

    Attributes
    ----------
    chain, index, icode, residue
        Chain id, number, insertion code and letter.
    frames : int
        In which it has a code.
    codes : int
        Different codes that it has.
    effective : float
        Perplexity of them: 1 if it always has the same, 2 if it has two equally often.
    common, share
        The code that it has most often, and in which share of its frames.
    unlike : float
        Share of its frames in which its code is unlike the commonest: the substitution matrix gives the
        two no positive score. Thermal noise changes a code into those alike.
    changes : float
        Share of steps from one frame to the next in which the code changes.
    """

    chain: str
    index: int
    icode: str
    residue: str
    frames: int
    codes: int
    effective: float
    common: int
    share: float
    unlike: float
    changes: float


class Switches:
    """Counts of codes over frames, which are added one by one and not kept.

    Parameters
    ----------
    scores : (size, size)
        Of a substitution matrix of the codes, such as `default_matrix` has.

    Examples
    --------
    >>> from protok.analysis.substitution import default_matrix
    >>> switches = Switches(default_matrix(tokenizer).scores)
    >>> for frame in (tokens, tokens):
    ...     switches.add(frame)
    >>> {residue.codes for residue in switches.residues()}
    {1}
    """

    def __init__(self, scores: np.ndarray):
        self._alike = np.asarray(scores) > 0
        np.fill_diagonal(self._alike, True)
        self._rows: dict[tuple[str, int, str], int] = {}
        self._letters: list[str] = []
        self._counts = np.zeros((0, len(self._alike)), np.int64)
        self._last = np.zeros(0, np.int64)
        self._steps = np.zeros((2, 0), np.int64)  # all, and those with another code

    def add(self, frame: Tokens) -> None:
        """Count a frame; residues are those of one chain, number and insertion code."""
        labels = zip(frame.chain.tolist(), frame.index.tolist(), frame.icode.tolist(), strict=True)
        row = np.array([self._rows.setdefault(label, len(self._rows)) for label in labels], int)
        if more := len(self._rows) - len(self._last):
            fresh = dict(zip(row.tolist(), frame.sequence, strict=True))
            self._letters += [fresh[i] for i in range(len(self._last), len(self._rows))]
            self._counts = np.pad(self._counts, ((0, more), (0, 0)))
            self._last = np.pad(self._last, (0, more), constant_values=-1)
            self._steps = np.pad(self._steps, ((0, 0), (0, more)))
        coded = frame.ids >= 0
        row, code = row[coded], frame.ids[coded]
        np.add.at(self._counts, (row, code), 1)
        before = self._last[row]
        self._steps[0, row] += before >= 0
        self._steps[1, row] += (before >= 0) & (before != code)
        self._last[row] = code

    def residues(self) -> list[Switch]:
        """What each residue did, in the order in which they came."""
        rows = []
        for (chain, index, icode), i in self._rows.items():
            count, (steps, changed) = self._counts[i], self._steps[:, i].tolist()
            total, common = int(count.sum()), int(count.argmax())
            if not total:
                continue
            rows.append(
                Switch(
                    chain,
                    index,
                    icode,
                    self._letters[i],
                    total,
                    int((count > 0).sum()),
                    round(perplexity(count), 2),
                    common,
                    round(float(count[common] / total), 3),
                    round(float(count[~self._alike[common]].sum() / total), 3),
                    round(changed / steps, 3) if steps else 0.0,
                )
            )
        return rows
