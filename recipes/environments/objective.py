"""What is asked of letters of environments: heads on their vectors, which are thrown away after training."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
        self.sizes = dict.fromkeys(("kind", "profile", "partner", "near", "around"), KINDS)
        self.sizes |= {"surface": 3, "fold": len(DSSP), "states": states}
        self.heads = nn.Sequential(
            nn.Linear(dim, WIDTH), nn.GELU(), nn.Linear(WIDTH, sum(self.sizes.values()))
        )
        self.look = nn.Linear(dim, LOOK)

    def forward(self, z: Float[Tensor, "n d"]) -> dict[str, Tensor]:
        """Of each head what it says."""
        parts = self.heads(z).split(list(self.sizes.values()), 1)
        return dict(zip(self.sizes, parts, strict=True))


@dataclass
class Asked:
    """What one head is asked: of these rows, shares of choices, or numbers of which some are not known."""

    rows: Int[Tensor, "m"]
    target: Float[Tensor, "m c"]
    shares: bool = True

    def loss(self, answers: Float[Tensor, "n c"]) -> Tensor:
        """Nats of choices, or the mean squared error of numbers; 0 where nothing is asked."""
        return (nats if self.shares else off)(answers[self.rows], self.target)


def asked(batch: Batch, known: Known, pairs: Int[Tensor, "m 2"]) -> dict[str, Asked]:
    """Targets of each head, for the residues that have them."""
    kinds = F.one_hot(known.kind.clamp(min=0), KINDS).float() * (known.kind >= 0)[:, None]
    folds = F.one_hot(known.fold.clamp(min=0), len(DSSP)).float() * (known.fold >= 0)[:, None]
    near, around = types_around(batch, kinds).split(KINDS, 1)
    choices = {"kind": kinds, "profile": known.profile, "near": near, "around": around, "fold": folds}
    out = {}
    for name, shares in choices.items():
        rows = (batch.mask & (shares.sum(1) > 0)).nonzero()[:, 0]
        out[name] = Asked(rows, shares[rows])
    rows = batch.mask.nonzero()[:, 0]
    for name, numbers in (("surface", known.surface), ("states", known.states)):
        out[name] = Asked(rows, numbers[rows], shares=False)
    # Of relatives each teaches the other.
    own, other = torch.cat([pairs, pairs.flip(1)]).unbind(1)
    theirs = torch.where(known.profile.sum(1, keepdim=True) > 0, known.profile, kinds)[other]
    there = theirs.sum(1) > 0
    return out | {"partner": Asked(own[there], theirs[there])}


def told(
    heads: Heads, z: Float[Tensor, "n d"], batch: Batch, known: Known, pairs: Int[Tensor, "m 2"]
) -> dict[str, Tensor]:
    """Losses of all targets: nats of choices, squared errors of numbers, means over those that have them."""
    answers = heads(z)
    out = {name: part.loss(answers[name]) for name, part in asked(batch, known, pairs).items()}
    return out | {"contrast": contrast(heads.look(z), pairs)}


def nats(logits: Tensor, shares: Tensor) -> Tensor:
    """Cross-entropy of shares of choices; 0 of none."""
    return -(shares * F.log_softmax(logits, -1)).sum() / max(len(shares), 1)


def off(answers: Tensor, true: Tensor) -> Tensor:
    """Mean squared error of the numbers that are known; 0 where there is none."""
    known = true.isfinite()
    return (answers[known] - true[known]).square().sum() / known.sum().clamp(min=1)


@torch.no_grad()
def bits(answers: list[dict[str, Tensor]], targets: list[dict[str, Asked]]) -> dict[str, float]:
    """What answers tell of targets, beyond the mean of all targets.

    Of choices, bits that are saved; of numbers, the share of their variance (`surface_0` and so on).
    """
    out: dict[str, float] = {}
    for name, first in targets[0].items():
        answered = torch.cat([part[name][own[name].rows] for part, own in zip(answers, targets, strict=True)])
        true = torch.cat([own[name].target for own in targets])
        if first.shares and len(true):
            mean = true.mean(0).clamp(min=1e-9).log()
            out[name] = float(nats(mean.expand_as(true), true) - nats(answered, true)) / math.log(2)
        elif not first.shares:
            for column, (a, b) in enumerate(zip(answered.T, true.T, strict=True)):
                known = b.isfinite()
                if known.sum() > 1:
                    share = 1 - (a - b)[known].square().mean() / b[known].var(correction=0)
                    out[f"{name}_{column}"] = float(share)
    return out


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
