"""Nearest codes and k-means, in bounded memory."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from protok.quantize.collective import from_first


def nearest(
    z: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], budget: int = 1 << 22
) -> Int[Tensor, "n"]:
    """Index of the nearest code, at most `budget` scores in memory at a time.

    The nearest in Euclidean distance; for vectors of unit length also in angle. Under
    autocast too the scores are in the precision of the vectors.
    """
    z, codebook = z.detach(), codebook.detach()
    half = codebook.square().sum(-1) / 2
    rows = min(max(1, budget // len(codebook)), len(z))
    # One block of scores, used again: freed blocks with small results between them are
    # not reused by the C allocator, and memory would grow to that of all the scores.
    scores = z.new_empty(rows, len(codebook))
    ids = torch.empty(len(z), dtype=torch.long, device=z.device)
    with torch.autocast(z.device.type, enabled=False):
        for chunk, found in zip(z.split(rows or 1), ids.split(rows or 1), strict=True):
            block = scores[: len(chunk)]
            torch.mm(chunk, codebook.T, out=block)
            torch.argmax(block.sub_(half), dim=-1, out=found)
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
    return from_first(centres, counts.clamp(min=0.1))
