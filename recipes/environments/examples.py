"""What a step of training sees: crops of chains, half of them of relatives, with their targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import IterableDataset

from protok.model.batch import Batch
from protok.training.batches import Crop, Stream
from recipes.environments.recipe import Data
from recipes.environments.relatives import Relatives
from recipes.environments.targets import Known, Targets


@dataclass
class Examples:
    """Residues of a step.

    Attributes
    ----------
    batch
        Crops of chains.
    known
        Targets of its residues.
    pairs : (m, 2)
        Rows of residues in the same place of two relatives.
    """

    batch: Batch
    known: Known
    pairs: Int[Tensor, "m 2"]


@dataclass(eq=False)
class ExampleStream(IterableDataset):
    """Examples from the module's present step to the last; they follow from the seed and the step.

    Attributes
    ----------
    stream
        Of crops.
    targets, relatives
        Of its store.
    data
        How much of each.
    module
        In training; its `global_step` is the present one.
    steps
        The last.
    """

    stream: Stream
    targets: Targets
    relatives: Relatives
    data: Data
    module: Any
    steps: int

    def __iter__(self) -> Iterator[Examples]:
        for step in range(self.module.global_step, self.steps):
            yield self.examples(step)

    def examples(self, step: int) -> Examples:
        """Those of a step."""
        rng = np.random.default_rng([self.stream.seed, step, 1])
        crops, pairs = self.stream.batch(step, self.steps), [np.zeros((0, 2), int)]
        sizes = [c.stop - c.begin for c in crops]
        kept = max(1, int(np.searchsorted(np.cumsum(sizes), self.data.residues * (1 - self.data.paired))))
        crops = crops[:kept]
        while (begin := sum(c.stop - c.begin for c in crops)) < self.data.residues and self.data.paired:
            both, rows = self._relatives(rng)
            crops += both
            offset = (begin, begin + both[0].stop - both[0].begin)
            pairs.append(rows - [c.begin for c in both] + offset)
        store = self.stream.store
        coords = [store.coords(c.chain, c.begin, c.stop) for c in crops]
        rows = [np.arange(store.start[c.chain] + c.begin, store.start[c.chain] + c.stop) for c in crops]
        batch = Batch.from_coords(torch.from_numpy(np.concatenate(coords)), [len(c) for c in coords])
        together = torch.from_numpy(np.concatenate(pairs))
        together = together[batch.mask[together].all(1)]
        return Examples(batch, self.targets.of(np.concatenate(rows)), together)

    def _relatives(self, rng: np.random.Generator) -> tuple[list[Crop], np.ndarray]:
        """Crops of two relatives around residues in the same place, and all such residues in them."""
        number = rng.choice(len(self.relatives), p=self.relatives.weight)
        rows = self.relatives.rows[slice(*self.relatives.start[number : number + 2])]
        middle, longest = rows[rng.integers(len(rows))], self.data.longest
        crops, inside = [], np.ones(len(rows), bool)
        for side, chain in enumerate(self.relatives.chains[number].tolist()):
            length = int(self.stream.store.lengths()[chain])
            begin = int(np.clip(middle[side] - longest // 2, 0, max(0, length - longest)))
            crops.append(Crop(chain, begin, min(length, begin + longest)))
            inside &= (rows[:, side] >= begin) & (rows[:, side] < crops[-1].stop)
        return crops, rows[inside]
