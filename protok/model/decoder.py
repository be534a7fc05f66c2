"""Decoder: code vectors to the residues of a chain.

A transformer over the sequence of code vectors gives one state a residue, and heads read
from it where the residue lies and how it is turned in the frame of its chain
(`protok.structure.geometry.chain_frame`), its torsions, whether it is bonded to the next, and how far
all that can be trusted. Supervision is in the chain's frame and, as in FAPE (Jumper et al. 2021),
in the residues' own. `protok.model.pair_geometry` holds the decoder for codes that do not say where
in the chain a residue lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from protok.structure.geometry import chain_frame, frames, superpose

#: Å per unit of the network's output.
SCALE = 10.0
#: Å within which an error of a view counts in full, beyond by its logarithm.
FINE = 0.25


@dataclass
class Trace:
    """A decoded chain before its bonds are mended.

    Attributes
    ----------
    ca : (l, 3)
        CA positions in Å.
    rotation : (l, 3, 3)
        Frames of residues.
    confidence : (l,)
        Predicted CA lDDT in 0..100.
    """

    ca: Float[Tensor, "l 3"]
    rotation: Float[Tensor, "l 3 3"]
    confidence: Float[Tensor, "l"]


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
        self, x: Float[Tensor, "b l w"], rope: tuple[Tensor, Tensor], keep: Bool[Tensor, "b 1 1 l"] | None
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


class Trunk(nn.Module):
    """Transformer over code vectors, and a head for torsions and chain breaks.

    Parameters
    ----------
    dim
        Dimension of the code vectors.
    width, layers, heads
        Of the transformer.
    sized
        Whether it is told the length of the chain.
    """

    def __init__(self, dim: int, width: int, layers: int, heads: int, sized: bool):
        super().__init__()
        self.width, self.heads = width, heads
        self.inputs = nn.Linear(dim, width)
        self.absent = nn.Parameter(torch.zeros(width))
        self.length = nn.Linear(1, width) if sized else None
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        for block in self.blocks:
            for name in ("out.weight", "feed.3.weight"):
                nn.init.normal_(block.get_parameter(name), std=0.02 / (2 * layers) ** 0.5)
        self.norm = nn.RMSNorm(width)
        self.local = nn.Linear(width, 7)

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
        if self.length is not None:
            count = present.sum(1).clamp(min=1).float().log()
            x = x + self.length(count[:, None, None] - 5.0).float()
        return self.mix(x, keep)

    def mix(self, x: Float[Tensor, "b l w"], keep: Bool[Tensor, "b l"]) -> Float[Tensor, "b l w"]:
        """Run the transformer over states of residues; nothing attends where `keep` is False."""
        half = self.width // self.heads // 2
        speed = 1.0 / 10000 ** (torch.arange(half, device=x.device) / half)
        angle = torch.arange(x.shape[1], device=x.device)[:, None] * speed
        rope = (angle.cos(), angle.sin())
        attend = None if bool(keep.all()) else keep[:, None, None, :]
        for block in self.blocks:
            x = block(x, rope, attend)
        return self.norm(x)

    def backbone(self, h: Float[Tensor, "*b w"]) -> tuple[Float[Tensor, "*b 3 2"], Float[Tensor, "*b"]]:
        """Unit (sine, cosine) of phi, psi and the next omega; logit of a bond to the next."""
        out = self.local(h).float()
        pairs = out[..., :6].unflatten(-1, (3, 2))
        return F.normalize(pairs, dim=-1, eps=1e-4), out[..., 6]


class Decoder(Trunk):
    """Places every residue in the frame of the whole chain; memory is linear in the length.

    Attributes
    ----------
    align_before_loss : bool
        Whether the training loss scores places after superposition; see `terms`.
    """

    align_before_loss = False

    def __init__(self, dim: int = 5, width: int = 256, layers: int = 6, heads: int = 4):
        super().__init__(dim, width, layers, heads, sized=True)
        self.whole = nn.Linear(width, 9)
        nn.init.normal_(self.whole.weight, std=0.02)
        self.whole.bias.data = torch.tensor([0.0] * 3 + [1, 0, 0] + [0, 1, 0])
        self.sure = nn.Linear(width, 1)

    def placement(self, h: Float[Tensor, "*b w"]) -> tuple[Float[Tensor, "*b 3 3"], Float[Tensor, "*b 3"]]:
        """Frames of residues and their CA in Å, in the frame of the whole chain."""
        # Places would be rounded to tenths of an Å in bfloat16.
        with torch.autocast(h.device.type, enabled=False):
            out = self.whole(h.float())
            x = F.normalize(out[..., 3:6], dim=-1, eps=1e-4)
            y = out[..., 6:]
            y = F.normalize(y - (y * x).sum(-1, keepdim=True) * x, dim=-1, eps=1e-4)
            return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1), SCALE * out[..., :3]

    def trace(self, h: Float[Tensor, "l w"]) -> Trace:
        """The chain that the states of its residues say."""
        turn, ca = self.placement(h)
        return Trace(ca, turn, 100 * self.sure(h.float())[:, 0].sigmoid())

    def losses(
        self,
        h: Float[Tensor, "b l w"],
        coords: Float[Tensor, "b l 4 3"],
        present: Bool[Tensor, "b l"],
        rows: int,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Training loss of chains, and the mean error in Å of what `rows` residues see.

        The loss sums the `terms`.
        """
        terms = self.terms(h, coords, present, rows)
        error = terms.pop("error")
        return sum(terms.values(), coords.new_zeros(())), error

    def terms(
        self,
        h: Float[Tensor, "b l w"],
        coords: Float[Tensor, "b l 4 3"],
        present: Bool[Tensor, "b l"],
        rows: int,
    ) -> dict[str, Float[Tensor, ""]]:
        """Parts of the training loss, and the error that `losses` reports.

        ``place``: distance of CA from its place in units of 5 Å, or, if `align_before_loss`, the squared
        distance after the best superposition of the chain. ``axes``: half the squared error of
        the axes. ``view``: thrice the logarithm of the error with which each of `rows`
        residues sees the others from its own frame. ``doubt``: squared error of the predicted
        lDDT. ``error``: the mean error of those views in Å.
        """
        turn, ca = self.placement(h)
        axes, centre = chain_frame(coords[:, :, 1], present)
        true = torch.einsum("bji,blj->bli", axes, coords[:, :, 1] - centre[:, None])
        frame = axes.transpose(1, 2)[:, None] @ frames(*coords[:, :, :3].unbind(2))
        total = present.sum().clamp(min=1)
        if self.align_before_loss:
            with torch.no_grad():
                rotation, shift = superpose(ca, true, present.float())
            moved = ca @ rotation.transpose(-1, -2) + shift[:, None]
            away = ((moved - true) / 5.0).square().sum(-1)
        else:
            away = ((ca - true).square().sum(-1) + 1e-3).sqrt() / 5.0
        twist = (turn - frame).square().sum((-1, -2)) / 2.0

        chosen = draw_rows(present, rows)
        seen, aim = seen_from(turn, ca, chosen), seen_from(frame, true, chosen)
        error = ((seen - aim).square().sum(-1) + 1e-3).sqrt()
        weight = row_weights(present, chosen)
        # Three times: as the likelihood of an error in space of unknown scale.
        view = 3 * ((error / FINE).log1p() * weight).sum() / total
        at = h.gather(1, chosen[..., None].expand(-1, -1, h.shape[-1]))
        sure = self.sure(at.float())[..., 0].sigmoid()
        good = _local_agreement(seen.detach().norm(dim=-1), aim.norm(dim=-1), weight > 0)
        return {
            "place": (away * present).sum() / total,
            "axes": (twist * present).sum() / total,
            "view": view,
            "doubt": ((sure - good).square() * weight.sum(-1)).sum() / total,
            "error": (error.detach() * weight).sum() / total,
        }


def draw_rows(present: Bool[Tensor, "b l"], rows: int) -> Shaped[Tensor, "b r"]:
    """At most `rows` residues of each chain, present ones first, drawn anew each time."""
    draw = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
    return draw.topk(min(rows, present.shape[1]), dim=1).indices


def row_weights(present: Bool[Tensor, "b l"], rows: Shaped[Tensor, "b r"]) -> Float[Tensor, "b r l"]:
    """Weights of pairs; each chain counts by its residues, whatever share of rows was drawn."""
    b = torch.arange(len(present), device=present.device)[:, None]
    weight = present[b, rows][:, :, None] & present[:, None]
    scale = present.sum(1) / weight.sum((1, 2)).clamp(min=1)
    return weight * scale[:, None, None]


def seen_from(
    turn: Float[Tensor, "b l 3 3"], ca: Float[Tensor, "b l 3"], rows: Shaped[Tensor, "b r"]
) -> Float[Tensor, "b r l 3"]:
    """CA positions in the frames of the residues `rows`."""
    b = torch.arange(len(ca), device=ca.device)[:, None]
    shift = ca[:, None] - ca[b, rows][:, :, None]
    return torch.einsum("brji,brlj->brli", turn[b, rows], shift)


def _local_agreement(predicted: Tensor, true: Tensor, keep: Tensor) -> Tensor:
    """CA lDDT of residues from distances to the others (Mariani et al. 2013)."""
    near = (true < 15.0) & (true > 0) & keep
    off = (predicted - true).abs()
    kept = sum((off < t).float() for t in (0.5, 1.0, 2.0, 4.0)) / 4
    return (kept * near).sum(-1) / near.sum(-1).clamp(min=1)


def pad(flat: Shaped[Tensor, "n d"], sizes: list[int]) -> tuple[Shaped[Tensor, "b l d"], Bool[Tensor, "b l"]]:
    """Lay residues of several chains into rows; True where a residue is."""
    padded = torch.nn.utils.rnn.pad_sequence(list(flat.split(sizes)), batch_first=True)
    length = torch.tensor(sizes, device=flat.device)
    keep = torch.arange(padded.shape[1], device=flat.device) < length[:, None]
    return padded, keep
