"""Nearest codes and k-means, in bounded memory."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from protok.quantize.distributed import from_first

#: Vectors and codes compared at once: on a CPU their scores stay in its caches.
TILE = {"cpu": 1024, "other": 8192}


def nearest(z: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]) -> Int[Tensor, "n"]:
    """Index of the nearest code; memory is that of one tile of scores.

    The nearest in Euclidean distance; for vectors of unit length also in angle; the
    first of equal ones. Under autocast too the scores are in the precision of the vectors.
    """
    z, codebook = z.detach(), codebook.detach()
    tile = TILE.get(z.device.type, TILE["other"])
    codes = codebook.T.split(tile, dim=1)
    offsets = (codebook.square().sum(-1) / -2).split(tile)
    # One block of scores, used again: freed blocks with small results between them are
    # not reused by the C allocator, and memory would grow to that of all the scores.
    scores = z.new_empty(min(tile, len(z)) * min(tile, len(codebook)))
    ids = torch.zeros(len(z), dtype=torch.long, device=z.device)
    with torch.autocast(z.device.type, enabled=False):
        for chunk, block_ids in zip(z.split(tile), ids.split(tile), strict=True):
            best = z.new_full((len(chunk),), -torch.inf)
            for i, (part, offset) in enumerate(zip(codes, offsets, strict=True)):
                block = scores[: len(chunk) * len(offset)].view(len(chunk), len(offset))
                torch.addmm(offset, chunk, part, out=block)
                score, index = block.max(-1)
                nearer = score > best
                best = torch.where(nearer, score, best)
                block_ids.copy_(torch.where(nearer, index + i * tile, block_ids))
    return ids


@torch.no_grad()
def kmeans(
    z: Float[Tensor, "n d"], k: int, rounds: int = 20
) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k"]]:
    """Lloyd's k-means from random vectors; an emptied centre restarts on a random vector.

    Returns centres and the number of vectors of each; with fewer than k vectors
    they are drawn with repetition and a little noise. Among data-parallel processes,
    which must all give the same vectors, the centres are those of process 0.
    """
    n = len(z)
    # The same vectors in another order, as from another number of processes, start alike.
    z = z[z[:, 0].argsort(stable=True)]
    if n < k:
        centres = z[torch.randint(n, (k,), device=z.device)]
        spread = z.std(0, correction=0).mean()
        centres = centres + 1e-3 * spread * torch.randn_like(centres)
    else:
        centres = z[torch.randperm(n, device=z.device)[:k]].clone()
    counts = torch.ones(k, device=z.device)
    for _ in range(rounds):
        ids = nearest(z, centres)
        counts = torch.bincount(ids, minlength=k).to(z.dtype)
        sums = torch.zeros_like(centres).index_add_(0, ids, z)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
        empty = (counts == 0).nonzero().squeeze(-1)
        if len(empty):
            centres[empty] = z[torch.randint(n, (len(empty),), device=z.device)]
    return from_first(centres), from_first(counts.clamp(min=0.1))
