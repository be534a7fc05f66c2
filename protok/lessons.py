"""What a training step gets: crops of chains, and what is to be learnt of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from protok.common.trainer import world_and_rank
from protok.model.features import Batch
from protok.naming import amino_acids
from protok.structure.store import Stream
from protok.teaching import Teacher


@dataclass
class Lesson:
    """A batch and what side tasks ask of it.

    Attributes
    ----------
    batch
        The chains.
    amino_acid : (n,)
        `UNKNOWN` where there is no letter for it.
    taught : (n, t) or None
        What a teacher says of the residues (`protok.teaching`), NaN where it says nothing.
    """

    batch: Batch
    amino_acid: Int[Tensor, "n"]
    taught: Float[Tensor, "n t"] | None = None

    def to(self, device: torch.device | str) -> Lesson:
        """Move to a device."""
        taught = None if self.taught is None else self.taught.to(device)
        return Lesson(self.batch.to(device), self.amino_acid.to(device), taught)


class Steps(IterableDataset):
    """Batches from the module's present step to the last; each rank has batches of its own.

    Parameters
    ----------
    stream
        Where they come from.
    module
        In training; its `global_step` is the present one.
    steps
        The last.
    school
        So many of the steps, the first, have the longest crops; the curriculum begins after them.
    teacher
        What lessons say besides.
    """

    def __init__(
        self, stream: Stream, module: Any, steps: int, school: int = 0,
        teacher: Teacher | None = None,
    ):  # fmt: skip
        self.stream, self.module, self.steps = stream, module, steps
        self.school, self.teacher = school, teacher

    def __iter__(self) -> Iterator[Lesson]:
        world, rank = world_and_rank()
        # Lightning asks workers in turn, so they keep the order of steps.
        worker = get_worker_info()
        first, every = (0, 1) if worker is None else (worker.id, worker.num_workers)
        whole = dataclasses.replace(self.stream, curriculum=((0.0, self.stream.longest(1.0)),))
        store = self.stream.store
        for step in range(self.module.global_step + first, self.steps, every):
            if step < self.school:
                crops = whole.batch(step * world + rank, self.school * world)
            else:
                done, of = step - self.school, self.steps - self.school
                crops = self.stream.batch(done * world + rank, of * world)
            coords = [store.coords(c.chain, c.begin, c.stop) for c in crops]
            letters = "".join(store.sequence[c.chain][c.begin : c.stop] for c in crops)
            said = None
            if self.teacher is not None:
                said = torch.cat([self.teacher.tell(c.chain, c.begin, c.stop) for c in crops])
            yield Lesson(
                Batch.from_coords(
                    torch.from_numpy(np.concatenate(coords)), [len(c) for c in coords]
                ),
                amino_acids(letters),
                said,
            )
