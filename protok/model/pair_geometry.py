"""The decoder for codes that say what is around a residue, but not where in the chain it lies.

Every residue predicts the whole chain as seen from its own frame, by a head over pairs of
states that gives for residues i and j where the CA of j lies in the frame of i, and how
sure that is. Supervision is like FAPE (Jumper et al. 2021) but without the demand that one global
frame set explain all views. The views are then reconciled by generalized Procrustes
analysis (Gower 1975) with weights: superpose every view on the consensus, replace the consensus by
the weighted mean of the superposed views, repeat. The rotations found are the residues' frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from protok.model.decoder import SCALE, Trace, Trunk, draw_rows, row_weights, seen_from
from protok.structure.geometry import frames, superpose

#: Sequence separations beyond this share one embedding in the pair head.
FAR = 32
#: The least scale of an error, in Å, that a view may claim.
LEAST = 0.1
#: Views kept at once, and residues whose views are computed at once: memory is
#: O(MOST * length), not O(length squared).
MOST, ROWS = 384, 64
#: Power of 1/scale in a view's weight. 2 would be right for independent errors, but views
#: err alike far away, so that the certain ones deserve more.
TRUST = 3.0
#: Of Procrustes analysis.
ROUNDS = 12


@dataclass
class Views:
    """What residues see.

    Attributes
    ----------
    position : (b, r, l, 3)
        CA of residue j in the frame of residue i (r rows of i), in Å.
    sigma : (b, r, l)
        Scale of the expected error in Å.
    """

    position: Float[Tensor, "b r l 3"]
    sigma: Float[Tensor, "b r l"]


class ViewDecoder(Trunk):
    """Transformer trunk, and a pair head with ``pair`` hidden units."""

    def __init__(self, dim: int = 32, width: int = 256, layers: int = 8, heads: int = 4, pair: int = 96):
        super().__init__(dim, width, layers, heads, sized=False)
        self.row = nn.Linear(width, 2 * pair)
        self.column = nn.Linear(width, 2 * pair)
        self.separation = nn.Embedding(2 * FAR + 1, pair)
        self.view = nn.Linear(pair, 4)
        self.basis = nn.Linear(width, 3 * 32)
        self.place = nn.Linear(width, 32)
        for last in (self.view, self.place):
            nn.init.normal_(last.weight, std=0.02)

    def views(self, h: Float[Tensor, "b l w"], rows: Int[Tensor, "b r"]) -> Views:
        """What the residues `rows` see of the chain."""
        at = h.gather(1, rows[..., None].expand(-1, -1, h.shape[-1]))
        add_i, mul_i = self.row(at).chunk(2, dim=-1)
        add_j, mul_j = self.column(h).chunk(2, dim=-1)
        gap = (torch.arange(h.shape[1], device=h.device) - rows[..., None]).clamp(-FAR, FAR) + FAR
        x = mul_i[:, :, None] * mul_j[:, None]
        x = x + add_i[:, :, None] + add_j[:, None] + self.separation(gap).to(x.dtype)
        out = self.view(F.gelu(x)).float()
        basis = self.basis(at).view(*at.shape[:2], 3, 32).float()
        places = self.place(h).float()
        # Far positions would be rounded to tenths of an Å in bfloat16.
        with torch.autocast(h.device.type, enabled=False):
            linear = torch.einsum("brcm,blm->brlc", basis, places)
            position = SCALE * (out[..., :3] + linear)
        return Views(position, F.softplus(out[..., 3]) * SCALE / 4 + LEAST)

    def trace(self, h: Float[Tensor, "l w"]) -> Trace:
        """The chain that the views of its residues agree on."""
        return reconcile(self, h)

    def losses(
        self,
        h: Float[Tensor, "b l w"],
        coords: Float[Tensor, "b l 4 3"],
        present: Bool[Tensor, "b l"],
        rows: int,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Training loss of chains, and the mean error in Å of the views of `rows` residues."""
        chosen = draw_rows(present, rows)
        views = self.views(h, chosen)
        turn = frames(*coords[:, :, :3].unbind(2))
        target = seen_from(turn, coords[:, :, 1], chosen)
        loss, error = view_loss(views, target, row_weights(present, chosen))
        return loss + 0.1 * error, error


def view_loss(
    views: Views, target: Float[Tensor, "b r l 3"], weight: Float[Tensor, "b r l"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Negative log-likelihood of views, and their mean error in Å.

    The error is exponential in its length with the predicted scale, in three
    dimensions: |e| / sigma + 3 log sigma.
    """
    error = ((views.position - target).square().sum(-1) + 1e-3).sqrt()
    likelihood = error / views.sigma + 3 * views.sigma.log()
    total = weight.sum().clamp(min=1)
    return (likelihood * weight).sum() / total, (error * weight).sum() / total


@torch.no_grad()
def reconcile(decoder: ViewDecoder, h: Float[Tensor, "l w"]) -> Trace:
    """Reconcile the views that a decoder's pair head gives of one chain, from its residues' states."""
    n = len(h)
    every = torch.arange(n, device=h.device)
    kept = every if n <= MOST else torch.linspace(0, n - 1, MOST, device=h.device).long()
    position, sigma = _views(decoder, h, kept)
    weight = sigma.pow(-TRUST)
    start = int(sigma.log().mean(1).argmin())
    consensus = position[start]
    for _ in range(ROUNDS):
        rotation, shift = superpose(position, consensus.expand_as(position), weight)
        moved = position @ rotation.transpose(-1, -2) + shift[:, None]
        consensus = (weight[..., None] * moved).sum(0) / weight.sum(0)[:, None]
    confidence = predicted_lddt(consensus, kept, sigma)
    if n <= MOST:
        return Trace(consensus, rotation, confidence)
    turns = []
    for rows in every.split(ROWS):
        position, sigma = _views(decoder, h, rows)
        turn, _ = superpose(position, consensus.expand_as(position), sigma.pow(-TRUST))
        turns.append(turn)
    return Trace(consensus, torch.cat(turns), confidence)


def _views(decoder: ViewDecoder, h: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    parts = [decoder.views(h[None], part[None]) for part in rows.split(ROWS)]
    return (torch.cat([p.position[0] for p in parts]), torch.cat([p.sigma[0] for p in parts]))


def predicted_lddt(ca: Float[Tensor, "l 3"], rows: Tensor, sigma: Float[Tensor, "r l"]) -> Float[Tensor, "l"]:
    """Expected CA lDDT of each residue, 0..100, from the claimed scales.

    An error with density exp(-|e|/s) in space has a component along any direction
    that stays below t with probability 1 - exp(-t/s) (1 + t/(2s)); averaged over the
    four lDDT thresholds and the neighbours within 15 Å (Mariani et al. 2013).
    """
    near = torch.cdist(ca[rows], ca) < 15.0
    near[torch.arange(len(rows)), rows] = False
    kept = sum(1 - torch.exp(-t / sigma) * (1 + t / (2 * sigma)) for t in (0.5, 1.0, 2.0, 4.0))
    return 25 * (kept * near).sum(0) / near.sum(0).clamp(min=1)
