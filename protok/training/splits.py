"""What a run trains on, and what it holds out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protok.structure.backbone import Backbone
from protok.structure.clustering import Split, assign, cluster, read_split, write_split
from protok.structure.store import Store, open_store
from protok.training.config import Recipe, RecipeError, ValidConfig


@dataclass(frozen=True)
class Splits:
    """Stores whose weights are those of the side, and what is to be said of the split."""

    train: Store
    valid: Store
    test: Store | None = None
    notes: tuple[str, ...] = ()


def make_splits(plan: Recipe, out: Path, resumed: bool, write: bool = True) -> Splits:
    """Open the stores of a run and split them as the recipe says; writes ``split.csv``.

    From scratch, ``data.valid`` is the validation side. Otherwise, and in fine-tuning always,
    chains are held out of ``data.train`` by cluster: those of the manifest beside a store, or
    of `protok.structure.clustering.cluster`. A resumed run has the split that it began with.

    Raises
    ------
    RecipeError
        If there is nothing to train on or to validate with.
    """
    store, tuning = (
        open_store(plan.data.train, out / "train.parquet", plan.data.read),
        bool(plan.finetune.init),
    )
    if plan.data.exclude:
        store = _exclude(store, Path(plan.data.exclude))
    if plan.data.valid and not tuning:
        own = plan.data.read if Path(plan.data.valid).is_dir() else None
        return Splits(store, open_store(plan.data.valid, out / "valid.parquet", own))
    if len(store) < 2:
        raise RecipeError("too few chains to hold any out", "give at least two structures")
    table, wanted = out / "split.csv", plan.split
    if wanted.table or (resumed and table.exists()):
        split = read_split(wanted.table or table, store.ids)
    else:
        if store.cluster:
            clusters, method = np.unique(store.cluster, return_inverse=True)[1], "manifest"
        else:
            clusters, method = cluster(store.sequence, wanted.identity, wanted.method)
        split = Split(
            store.ids,
            clusters,
            assign(clusters, wanted.valid, wanted.test if tuning else 0.0, plan.optim.seed),
            method,
        )
    if write:
        write_split(split, table)
    counts = {side: len(split.chains(side)) for side in ("train", "valid", "test")}
    if not counts["train"] or not counts["valid"]:
        raise RecipeError(
            f"the split has {counts['train']} training and {counts['valid']} validation chains",
            "both are needed; see split.csv",
            file=str(out),
        )
    note = (
        f"{len(set(split.cluster.tolist()))} clusters of {len(store)} chains ({split.method}): "
        + ", ".join(f"{n} {side}" for side, n in counts.items())
    )
    sides = {side: _only(store, split.chains(side)) for side in counts if counts[side]}
    return Splits(sides["train"], sides["valid"], sides.get("test"), (note,))


def _exclude(store: Store, path: Path) -> Store:
    try:
        named = set(path.read_text("utf-8").split())
    except (OSError, ValueError) as error:
        raise RecipeError(f"cannot read data.exclude ({error})", file=str(path)) from error
    rows = np.flatnonzero([id not in named for id in store.ids])
    if not len(rows):
        raise RecipeError("data.exclude leaves no chain to train on", file=str(path))
    return _only(store, rows)


def _only(store: Store, rows: np.ndarray) -> Store:
    weight = np.zeros(len(store))
    weight[rows] = store.weight[rows]
    return dataclasses.replace(store, weight=weight / weight.sum())


def chains_of(store: Store, limit: int, longest: float) -> list[Backbone]:
    """At most so many chains of a side, none longer, the same ones each time."""
    fits = np.flatnonzero((store.weight > 0) & (store.lengths() <= longest))
    picked = np.sort(np.random.default_rng(0).permutation(fits)[:limit])
    return [store.backbone(int(i)) for i in picked]


def held_out(store: Store, valid: ValidConfig) -> list[Backbone]:
    """Chains for validation; where all are too long, their beginnings."""
    fits = chains_of(store, valid.chains, valid.longest)
    return fits or [chain[: valid.longest] for chain in chains_of(store, valid.chains, np.inf)]
