"""What data-parallel processes tell each other; each does nothing without a process group.

Called in training only, and by every process of the group in the same order, whatever
its share of the batch: an empty share takes part too.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def total(*parts: Tensor) -> tuple[Tensor, ...]:
    """Sums over processes, in one message."""
    if processes() == 1:
        return parts
    joined = torch.cat([part.reshape(-1) for part in parts])
    dist.all_reduce(joined)
    sizes = [part.numel() for part in parts]
    return tuple(piece.reshape(part.shape) for piece, part in zip(joined.split(sizes), parts, strict=True))


@torch.no_grad()
def gather(z: Tensor) -> Tensor:
    """Rows of all processes, in the order of their ranks, on each of them."""
    if processes() == 1:
        return z
    size = torch.tensor([len(z)], device=z.device)
    sizes = [torch.zeros_like(size) for _ in range(processes())]
    dist.all_gather(sizes, size)
    # The shares may be unequal, and all_gather wants them equal.
    longest = max(int(s) for s in sizes)
    padded = torch.cat([z, z.new_zeros(longest - len(z), *z.shape[1:])])
    parts = [torch.zeros_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(s)] for part, s in zip(parts, sizes, strict=True)])


@torch.no_grad()
def from_first(tensor: Tensor) -> Tensor:
    """The tensor of process 0, on each of them."""
    if processes() > 1:
        dist.broadcast(tensor, src=0)
    return tensor
