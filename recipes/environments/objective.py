"""What is asked of letters of environments: heads on their vectors, which are thrown away after training."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from protok.model.batch import Batch
from protok.model.surroundings import chains
from protok.structure.geometry import beta_carbon
from recipes.environments.targets import DSSP, Known

#: Å within which residue types are counted.
RADII = (8.0, 13.0)
KINDS = 20
WIDTH, LOOK = 256, 64
#: Pairs of relatives that are told from one another.
TOLD_APART = 600
#: A piece of a chain is such a share of it, and has at least so many residues.
SHARE, LEAST = (0.3, 0.9), 24


class Heads(nn.Module):
    """What is read off vectors.

    Parameters
    ----------
    dim
        Of the vectors.
    states
        Dimensions of a teacher's states; 0 for no teacher.
    """

    def __init__(self, dim: int, states: int):
        super().__init__()
        self.sizes = dict.fromkeys(("kind", "profile", "partner"), KINDS)
        self.sizes |= {"near": KINDS * len(RADII), "surface": 3, "fold": len(DSSP), "states": states}
        self.heads = nn.Sequential(
            nn.Linear(dim, WIDTH), nn.GELU(), nn.Linear(WIDTH, sum(self.sizes.values()))
        )
        self.look = nn.Linear(dim, LOOK)

    def forward(self, z: Float[Tensor, "n d"]) -> dict[str, Tensor]:
        """Of each head what it says."""
        parts = self.heads(z).split(list(self.sizes.values()), 1)
        return dict(zip(self.sizes, parts, strict=True))


def told(
    heads: Heads, z: Float[Tensor, "n d"], batch: Batch, known: Known, pairs: Int[Tensor, "m 2"]
) -> dict[str, Tensor]:
    """Losses of all targets: nats of choices, squared errors of numbers, means over those that have them."""
    answers, there = heads(z), batch.mask
    kinds = F.one_hot(known.kind.clamp(min=0), KINDS).float() * (known.kind >= 0)[:, None]
    profiled = known.profile.sum(1) > 0
    out = {
        "kind": nats(answers["kind"], kinds, there & (known.kind >= 0)),
        "profile": nats(answers["profile"], known.profile, there & profiled),
        "surface": off(answers["surface"], known.surface, there),
        "states": off(answers["states"], known.states, there),
    }
    whole = F.one_hot(known.fold.clamp(min=0), len(DSSP)).float()
    out["fold"] = nats(answers["fold"], whole, there & (known.fold >= 0))
    around = types_around(batch, kinds)
    parts = zip(answers["near"].split(KINDS, 1), around.split(KINDS, 1), strict=True)
    out["near"] = torch.stack([nats(a, b, there & (b.sum(1) > 0)) for a, b in parts]).sum()
    # Of relatives each teaches the other.
    own, other = torch.cat([pairs, pairs.flip(1)]).unbind(1)
    asked = torch.where(profiled[:, None], known.profile, kinds)[other]
    out["partner"] = nats(answers["partner"][own], asked, asked.sum(1) > 0)
    out["contrast"] = contrast(heads.look(z), pairs)
    return out


def nats(logits: Tensor, shares: Tensor, rows: Tensor) -> Tensor:
    """Cross-entropy of shares of choices; 0 where there is none."""
    if not rows.any():
        return logits.sum() * 0
    return -(shares[rows] * F.log_softmax(logits[rows], -1)).sum(1).mean()


def off(answers: Tensor, true: Tensor, rows: Tensor) -> Tensor:
    """Mean squared error of the numbers that are known; 0 where there is none."""
    known = true.isfinite() & rows[:, None]
    if not known.any():
        return answers.sum() * 0
    return (answers[known] - true[known]).square().mean()


def contrast(seen: Float[Tensor, "n l"], pairs: Int[Tensor, "m 2"]) -> Tensor:
    """How hard it is to tell which residue is in the same place of a relative, from chance on, in nats."""
    if not len(pairs):
        return seen.sum() * 0
    some = pairs[torch.randperm(len(pairs))[:TOLD_APART]]
    own, other = seen[some].unbind(1)
    alike = own @ other.T / LOOK**0.5
    right = torch.arange(len(some))
    both = F.cross_entropy(alike, right) + F.cross_entropy(alike.T, right)
    return both / 2 - math.log(len(some))


@torch.no_grad()
def types_around(batch: Batch, kinds: Float[Tensor, "n 20"]) -> Float[Tensor, "n s"]:
    """Shares of residue types around each residue, in each of the radii; 0 where there is nobody."""
    cb = beta_carbon(*batch.coords[:, :3].unbind(1))
    out = kinds.new_zeros(len(kinds), KINDS * len(RADII))
    for rows in chains(batch):
        apart = torch.cdist(cb[rows], cb[rows]).fill_diagonal_(torch.inf)
        counts = [(apart < radius).float() @ kinds[rows] for radius in RADII]
        out[rows] = torch.cat([c / c.sum(1, keepdim=True).clamp(min=1) for c in counts], 1)
    return out


def piece(batch: Batch, noise: float, rng: np.random.Generator) -> tuple[Batch, Int[Tensor, "m"]]:
    """A piece of each structure with noise of so many Å on its atoms, and its rows."""
    rows, sizes, begin = [], [], 0
    for size in batch.sizes:
        length = min(size, max(LEAST, int(size * rng.uniform(*SHARE))))
        first = begin + int(rng.integers(size - length + 1))
        rows.append(torch.arange(first, first + length))
        sizes.append(length)
        begin += size
    row = torch.cat(rows)
    mask = batch.mask[row]
    shaken = batch.coords[row] + noise * torch.randn(len(row), 4, 3) * mask[:, None, None]
    return Batch(shaken, mask, sizes, batch.chain[row]), row
