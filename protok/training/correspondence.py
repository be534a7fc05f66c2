"""Which letters of a fine-tuned model correspond to which of the model before."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Int

from protok.common.files import atomic
from protok.structure.backbone import Backbone
from protok.tokenizers.shapes import ShapeTokenizer


@dataclass(frozen=True)
class Correspondence:
    """How often residues with a letter of one model have each letter of another.

    Attributes
    ----------
    counts : (before, after)
        Residues; a row for each letter of the model before, a column for each of the model after.
    """

    counts: Int[np.ndarray, "before after"]

    @classmethod
    def of(cls, before: ShapeTokenizer, after: ShapeTokenizer, chains: Sequence[Backbone]) -> Self:
        """Of two models, from the letters of chains that neither was trained on."""
        counts = np.zeros((before.size, after.size), np.int64)
        for chain in chains:
            old, new = (model.encode(chain, keyframes=0).ids for model in (before, after))
            both = (old >= 0) & (new >= 0)
            np.add.at(counts, (old[both], new[both]), 1)
        return cls(counts)

    @property
    def best(self) -> Int[np.ndarray, "before"]:
        """The letter after that each letter before mostly becomes; -1 where it does not occur."""
        return np.where(self.counts.sum(1) > 0, self.counts.argmax(1), -1)

    def summary(self) -> dict[str, Any]:
        """For a report: residues, best match and its share of each letter, and what all of them foretell.

        ``foretold`` is the share of residues whose new letter is the best match of their old one; ``same`` of
        those whose letter has kept its number.
        """
        residues, total = self.counts.sum(1), max(1, int(self.counts.sum()))
        share = self.counts.max(1) / np.maximum(residues, 1)
        return {
            "residues": residues.tolist(),
            "best": self.best.tolist(),
            "share": share.round(4).tolist(),
            "foretold": round(float(self.counts.max(1).sum()) / total, 4),
            "same": round(float(np.trace(self.counts)) / total, 4),
        }

    def write(self, path: Path) -> None:
        """As CSV: a row for each letter before, with its best match, and the count of each letter after."""
        summary = self.summary()
        with atomic(path) as handle:
            rows = csv.writer(handle, lineterminator="\n")
            rows.writerow(["before", "residues", "best", "share", *range(self.counts.shape[1])])
            columns = (summary[key] for key in ("residues", "best", "share"))
            for letter, (row, *known) in enumerate(zip(self.counts.tolist(), *columns, strict=True)):
                rows.writerow([letter, *known, *row])


def in_words(summary: Mapping[str, Any]) -> str:
    """What a `Correspondence.summary` comes to, in Markdown: a sentence, and best matches, four to a row."""
    columns = (summary[key] for key in ("best", "share", "residues"))
    letters = enumerate(zip(*columns, strict=True))
    cells = [f"{old} → {new} ({share:.0%} of {n})" for old, (new, share, n) in letters if n]
    sentence = (
        f"On {sum(summary['residues'])} held-out residues the best match of the letter before foretells "
        f"{summary['foretold']:.1%} of the letters after; {summary['same']:.1%} have kept their number. "
        f"{len(summary['best']) - len(cells)} letters before do not occur there."
    )
    cells += [""] * (-len(cells) % 4)
    rows = [f"| {' | '.join(cells[i : i + 4])} |" for i in range(0, len(cells), 4)]
    return "\n".join([sentence, "", "| letter before → after | | | |", "|---|---|---|---|", *rows])
