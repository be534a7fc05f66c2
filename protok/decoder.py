"""Decoder: code vectors to every residue's view of the chain.

A transformer over the sequence of code vectors gives one state a residue. A pair
head then predicts, for residues i and j, where the CA of j lies in the frame of i,
and how sure that is. The views of all residues are made to agree afterwards
(`protok.reconcile`). Supervision is pairwise in local frames, like FAPE (Jumper et
al. 2021) but without the demand that one global frame set explain all views.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

#: Sequence separations beyond this share one embedding in the pair head.
FAR = 32
#: Å per unit of the network's output, and the least scale it may claim.
SCALE, LEAST = 10.0, 0.1


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


class Block(nn.Module):
    """Pre-norm transformer block with rotary positions (Su et al. 2021)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed = nn.Sequential(
            nn.RMSNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(
        self,
        x: Float[Tensor, "b l w"],
        rope: tuple[Tensor, Tensor],
        keep: Bool[Tensor, "b 1 1 l"] | None,
    ) -> Float[Tensor, "b l w"]:
        """Attend over the chain, then feed forward."""
        b, n, w = x.shape
        qkv = self.qkv(self.norm(x)).view(b, n, 3, self.heads, w // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        cos, sin = rope
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        if self.training:
            # On a CPU plain products have the faster backward pass, and crops are short
            # enough to hold the scores; the fused kernel bounds the memory of long chains.
            scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
            if keep is not None:
                scores = scores.masked_fill(~keep, -1e4)
            a = scores.softmax(-1) @ v
        else:
            a = F.scaled_dot_product_attention(q, k, v, attn_mask=keep)
        x = x + self.out(a.transpose(1, 2).reshape(b, n, w))
        return x + self.feed(x)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Decoder(nn.Module):
    """Transformer trunk, pair head, and a head for torsions and chain breaks.

    Parameters
    ----------
    dim
        Dimension of the code vectors.
    width, layers, heads
        Of the trunk.
    pair
        Hidden units of the pair head.
    """

    def __init__(
        self, dim: int = 32, width: int = 256, layers: int = 8, heads: int = 4, pair: int = 96
    ):
        super().__init__()
        self.width, self.heads, self.pair = width, heads, pair
        self.inputs = nn.Linear(dim, width)
        self.absent = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        for block in self.blocks:
            for last in (block.out, block.feed[-1]):
                nn.init.normal_(last.weight, std=0.02 / (2 * layers) ** 0.5)
        self.norm = nn.RMSNorm(width)
        self.row = nn.Linear(width, 2 * pair)
        self.column = nn.Linear(width, 2 * pair)
        self.separation = nn.Embedding(2 * FAR + 1, pair)
        self.view = nn.Linear(pair, 4)
        self.basis = nn.Linear(width, 3 * 32)
        self.place = nn.Linear(width, 32)
        self.local = nn.Linear(width, 7)
        for last in (self.view, self.place):
            nn.init.normal_(last.weight, std=0.02)

    def trunk(
        self, z: Float[Tensor, "b l d"], present: Bool[Tensor, "b l"], keep: Bool[Tensor, "b l"]
    ) -> Float[Tensor, "b l w"]:
        """States of residues.

        Parameters
        ----------
        z
            Code vectors.
        present
            False where the residue has no code.
        keep
            False on padding, which nothing attends to.
        """
        # The residual stream stays in float32 under autocast.
        x = torch.where(present[..., None], self.inputs(z).float(), self.absent)
        half = self.width // self.heads // 2
        speed = 1.0 / 10000 ** (torch.arange(half, device=z.device) / half)
        angle = torch.arange(z.shape[1], device=z.device)[:, None] * speed
        rope = (angle.cos(), angle.sin())
        attend = None if bool(keep.all()) else keep[:, None, None, :]
        for block in self.blocks:
            x = block(x, rope, attend)
        return self.norm(x)

    def views(self, h: Float[Tensor, "b l w"], rows: Int[Tensor, "b r"] | None = None) -> Views:
        """What the residues `rows` (all, if None) see of the chain."""
        n = h.shape[1]
        if rows is None:
            rows = torch.arange(n, device=h.device).expand(h.shape[0], n)
        at = h.gather(1, rows[..., None].expand(-1, -1, h.shape[-1]))
        add_i, mul_i = self.row(at).chunk(2, dim=-1)
        add_j, mul_j = self.column(h).chunk(2, dim=-1)
        gap = (torch.arange(n, device=h.device) - rows[..., None]).clamp(-FAR, FAR) + FAR
        x = mul_i[:, :, None] * mul_j[:, None]
        x = x + add_i[:, :, None] + add_j[:, None] + self.separation(gap).to(x.dtype)
        out = self.view(F.gelu(x)).float()
        basis = self.basis(at).view(*at.shape[:2], 3, 32)
        linear = torch.einsum("brcm,blm->brlc", basis, self.place(h)).float()
        position = SCALE * (out[..., :3] + linear)
        return Views(position, F.softplus(out[..., 3]) * SCALE / 4 + LEAST)

    def backbone(
        self, h: Float[Tensor, "*b w"]
    ) -> tuple[Float[Tensor, "*b 3 2"], Float[Tensor, "*b"]]:
        """Unit (sine, cosine) of phi, psi and the next omega; logit of a bond to the next."""
        out = self.local(h).float()
        pairs = out[..., :6].unflatten(-1, (3, 2))
        return F.normalize(pairs, dim=-1, eps=1e-4), out[..., 6]


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


def pad(
    flat: Shaped[Tensor, "n d"], sizes: list[int]
) -> tuple[Shaped[Tensor, "b l d"], Bool[Tensor, "b l"]]:
    """Lay residues of several chains into rows; True where a residue is."""
    padded = torch.nn.utils.rnn.pad_sequence(list(flat.split(sizes)), batch_first=True)
    length = torch.tensor(sizes, device=flat.device)
    keep = torch.arange(padded.shape[1], device=flat.device) < length[:, None]
    return padded, keep
