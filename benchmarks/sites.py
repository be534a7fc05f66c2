"""What single letters tell of labelled residues, without a trained probe: for tuning, not for reporting."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from protok.bench.data.folder import Folder
from protok.bench.data.source import TRAIN, VALID, Entry
from protok.bench.measures.scores import Score, auroc, mean_of
from protok.tokenizers.protocol import Tokenizer, codes_alone

#: Residues by which the odds of all are mixed into those of a letter.
PRIOR = 4.0


def within(tokenizer: Tokenizer, data: Path, table: str, proteins: int) -> Score:
    """Mean AUROC within proteins of log odds of single letters.

    They are counted on the table's training side and scored on its validation side, of at most so many
    proteins each.
    """
    counts, folder = np.zeros((2, tokenizer.size)), _folder(data)
    for ids, label in _labelled(tokenizer, folder, _some(folder, table, TRAIN, proteins)):
        for value in (0, 1):
            np.add.at(counts[value], ids[label == value], 1)
    # Letters that were not seen have the odds of all residues.
    counts += PRIOR * counts.sum(1, keepdims=True) / counts.sum()
    odds = np.log(counts[1] / counts[0])
    valid = _labelled(tokenizer, folder, _some(folder, table, VALID, proteins))
    return mean_of([auroc(odds[ids], label) for ids, label in valid])


def _labelled(
    tokenizer: Tokenizer, folder: Folder, entries: tuple[Entry, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for begin in range(0, len(entries), 16):
        part = entries[begin : begin + 16]
        chains = [folder.structure(entry.id) for entry in part]
        for entry, tokens in zip(part, codes_alone(tokenizer, chains), strict=True):
            ids = tokens.ids if entry.rows is None else tokens.ids[entry.rows]
            label = np.asarray(entry.target)
            known = np.isfinite(label) & (ids >= 0)
            yield ids[known], label[known]


@lru_cache
def _folder(path: Path) -> Folder:
    return Folder(path)


@lru_cache
def _some(folder: Folder, name: str, side: str, most: int) -> tuple[Entry, ...]:
    """Entries of a side of a table, at most so many, evenly through it."""
    entries = folder.table(name).split(side)
    return tuple(entries[:: max(1, len(entries) // most)][:most])
