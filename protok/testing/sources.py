"""The contract of a source of labelled structures for `protok.bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protok.structure.backbone import Backbone
from protok.testing.requirement import require

if TYPE_CHECKING:
    from protok.bench.data.source import LabelledStructures, Table


def check_source(source: LabelledStructures) -> None:
    """Whatever the source names is there, and labels fit the structures that they are of."""
    for name in source.tables():
        _check_table(source, source.table(name))
    for domain in source.domains():
        begin, end = domain.rows
        n = len(_structure(source, domain.id))
        require(0 <= begin < end <= n, f"domain {begin}..{end} of {domain.id}, which has {n} residues")
    pairs, sets = source.pairs(), source.sets()
    require(source.has_pairs() or not pairs, "has_pairs says that there are none of its pairs")
    require(source.has_sets() or not sets, "has_sets says that there are none of its sets")
    for kind, rows in pairs.items():
        for first, second, tm in rows:
            for id in (first, second):
                _structure(source, id)
            require(0 <= tm <= 1, f"the TM-score of {first} and {second} of {kind} is {tm}")
    for ids in sets.values():
        for id in ids:
            _structure(source, id)
    for id in source.complexes():
        require(len(_structure(source, id).chains) > 1, f"the complex {id} has one chain")


def _check_table(source: LabelledStructures, table: Table) -> None:
    require(table.kind in ("site", "value", "class"), f"{table.name} is of the kind {table.kind!r}")
    for entry in table.entries:
        n = len(_structure(source, entry.id))
        rows = np.arange(n) if entry.rows is None else np.asarray(entry.rows)
        outside = int(((rows < 0) | (rows >= n)).sum())
        require(not outside, f"{outside} rows of {entry.id} in {table.name} are outside its {n} residues")
        if table.kind == "class":
            known = 0 <= int(entry.target) < len(table.classes)
            require(known, f"class {entry.target} of {entry.id}: {table.name} has {len(table.classes)}")
            continue
        target = np.asarray(entry.target)
        require(
            target.shape == rows.shape,
            f"labels of {entry.id} in {table.name} have shape {target.shape} for {len(rows)} residues",
        )
        if table.kind == "site":
            odd = target[np.isfinite(target) & ~np.isin(target, (0, 1))]
            require(not len(odd), f"labels of {entry.id} in {table.name} hold {odd[:1]}, not 0 and 1")


def _structure(source: LabelledStructures, id: str) -> Backbone:
    structure = source.structure(id)
    require(structure.name == id, f"the structure {id!r} is called {structure.name!r}")
    return structure
