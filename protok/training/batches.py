"""What a training step gets: crops of chains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from protok.common.trainer import world_and_rank
from protok.model.batch import Batch
from protok.structure.store import Store


@dataclass(eq=False)
class TrainingBatches(IterableDataset):
    """Batches from the module's present step to the last; each rank has batches of its own.

    Attributes
    ----------
    stream
        Where they come from.
    module
        In training; its `global_step` is the present one.
    steps
        The last.
    """

    stream: Stream
    module: Any
    steps: int

    def __iter__(self) -> Iterator[Batch]:
        world, rank = world_and_rank()
        # Lightning asks workers in turn, so they keep the order of steps.
        worker = get_worker_info()
        first, every = (0, 1) if worker is None else (worker.id, worker.num_workers)
        store = self.stream.store
        for step in range(self.module.global_step + first, self.steps, every):
            crops = self.stream.batch(step * world + rank, self.steps * world)
            coords = [store.coords(c.chain, c.begin, c.stop) for c in crops]
            yield Batch.from_coords(torch.from_numpy(np.concatenate(coords)), [len(c) for c in coords])


#: Batches that are planned together, so that chains of a batch are alike in length.
PLAN = 16


@dataclass(frozen=True)
class Crop:
    """A stretch of one chain."""

    chain: int
    begin: int
    stop: int


@dataclass(frozen=True)
class Stream:
    """The training batches, as a function of the step: a resumed run sees the same ones.

    Attributes
    ----------
    store
        The chains; drawn with their weights.
    residues
        About so many a batch.
    curriculum
        Pairs (progress, crop length): from that share of the training on, crops are at
        most so long.
    seed
        Of the draws.
    """

    store: Store
    residues: int
    curriculum: tuple[tuple[float, int], ...]
    seed: int

    def longest(self, progress: float) -> int:
        """Crop length at a training progress in [0, 1]."""
        return [n for at, n in self.curriculum if progress >= at][-1]

    def batch(self, step: int, steps: int) -> list[Crop]:
        """Crops of one training step of `steps`."""
        block, part = divmod(step, PLAN)
        rng = np.random.default_rng([self.seed, block])
        longest = self.longest(block * PLAN / steps)
        length = np.minimum(self.store.lengths(), longest)
        mean = float((length * self.store.weight).sum())
        draws = rng.choice(
            len(self.store), size=max(PLAN, round(PLAN * self.residues / mean)), p=self.store.weight
        )
        crops = []
        for chain in draws:
            spare = self.store.lengths()[chain] - length[chain]
            begin = int(rng.integers(spare + 1))
            crops.append(Crop(int(chain), begin, begin + int(length[chain])))
        crops.sort(key=lambda crop: crop.stop - crop.begin)
        edges = np.cumsum([crop.stop - crop.begin for crop in crops])
        cut = np.searchsorted(edges, edges[-1] * np.arange(PLAN + 1) / PLAN, side="left")
        order = rng.permutation(PLAN)
        low, high = cut[order[part]], cut[order[part] + 1]
        return crops[low:high] or crops[:1]
