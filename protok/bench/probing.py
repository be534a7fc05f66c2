"""Probes: what can be learnt of labels from a representation's codes or embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from protok.bench.data.source import TRAIN, VALID, Entry, LabelledStructures, Table
from protok.bench.measures import linear_probe, mlp_probe, reader_probe
from protok.bench.measures.samples import Fit, Samples, Settings
from protok.bench.measures.scores import Score
from protok.bench.representations.representation import Representation
from protok.errors import FormatError

Scores = dict[str, dict[str, Score]]


def probe_table(
    who: Representation, table: Table, folder: LabelledStructures, settings: Settings
) -> tuple[Scores, dict[str, Any]]:
    """Train a probe on a table: its scores by test split and metric, and what it chose.

    Raises
    ------
    FormatError
        If a split is missing, or a split of sites has one label only.
    """
    train = _limited(table.split(TRAIN), settings.train_residues)
    valid = _limited(table.split(VALID), settings.valid_residues)
    if not train or not valid or not table.tests:
        raise FormatError(
            f"{table.name} has {len(train)} training, {len(valid)} validation proteins and "
            f"{len(table.tests)} test splits",
            "a probe needs all three",
        )
    if table.kind == "site":
        for split in (TRAIN, *table.tests):
            known = np.concatenate([np.asarray(entry.target) for entry in table.split(split)])
            if not {0.0, 1.0} <= {*known[np.isfinite(known)].tolist()}:
                raise FormatError(
                    f"{split} of {table.name} has not both labels, 0 and 1",
                    "nothing can be told apart there: add proteins",
                )
    tests = {split: _limited(table.split(split), settings.test_residues) for split in table.tests}
    tested = {split: samples(who, table, entries, folder) for split, entries in tests.items()}
    trained, validated = (samples(who, table, entries, folder) for entries in (train, valid))
    fit = fit_probe(table.kind, trained, validated, tested, len(table.classes), settings)
    chosen = {
        "rate": fit.rate,
        "step": fit.steps,
        "valid": fit.valid,
        "train_proteins": len(train),
        "valid_proteins": len(valid),
        "test_proteins": {split: len(entries) for split, entries in tests.items()},
        "test_names": {split: [entry.id for entry in entries] for split, entries in tests.items()},
    }
    return fit.scores, chosen


def _limited(entries: list[Entry], residues: int) -> list[Entry]:
    """Whole proteins, drawn at random until they have this many residues; in the given order."""
    if not residues:
        return entries
    order = np.random.default_rng(0).permutation(len(entries))
    # A domain counts as 200.
    sizes = [len(e.target) if isinstance(e.target, np.ndarray) else 200 for e in entries]
    before = np.cumsum([0, *(sizes[i] for i in order)])[:-1]
    return [entries[i] for i in sorted(order[before < residues])]


def fit_probe(
    kind: str, train: Samples, valid: Samples, tests: dict[str, Samples], classes: int, settings: Settings
) -> Fit:
    """Train the probe that the settings name, and score it (see `mlp_probe.fit`)."""
    if settings.name == "linear":
        return linear_probe.fit(kind, train, valid, tests, classes)
    if settings.name == "reader":
        return reader_probe.fit(kind, train, valid, tests, classes, settings)
    return mlp_probe.fit(kind, train, valid, tests, classes, settings)


def samples(
    who: Representation, table: Table, entries: Sequence[Entry], folder: LabelledStructures
) -> Samples:
    """Residues of labelled structures with codes or embeddings, end to end.

    Every labelled residue is kept: one without a token has a vector of zeros, since leaving
    out what a tokenizer refuses would flatter it.

    Raises
    ------
    FormatError
        If a label is not as long as its structure.
    """
    structures = [folder.structure(entry.id) for entry in entries]
    outs = who.outputs(structures)
    x, position, owner, y = [], [], [], []
    for i, (entry, structure, out) in enumerate(zip(entries, structures, outs, strict=True)):
        rows = np.arange(len(structure)) if entry.rows is None else entry.rows
        target = np.atleast_1d(entry.target)
        if table.kind != "class" and len(target) != len(rows):
            raise FormatError(
                f"label of {entry.id} has {len(target)} entries for {len(rows)} residues",
                "give one a residue of the structure",
                file=table.name,
            )
        x.append(out[rows])
        position.append(np.arange(len(rows)))
        owner.append(np.full(len(rows), i))
        y.append(target)
    x = np.concatenate(x)
    vectors = None
    if who.vectors is None:
        x = torch.from_numpy(np.nan_to_num(x, nan=0.0).astype(np.float32))
    else:
        x = torch.from_numpy(np.where(x < 0, who.size, x).astype(np.int64))
        nothing = np.zeros((1, who.vectors.shape[1]), np.float32)
        vectors = torch.from_numpy(np.concatenate([who.vectors, nothing]))
    kind = np.int64 if table.kind == "class" else np.float32
    return Samples(
        x,
        vectors,
        torch.from_numpy(np.concatenate(position)),
        torch.from_numpy(np.concatenate(owner)),
        torch.from_numpy(np.concatenate(y).astype(kind)),
    )
