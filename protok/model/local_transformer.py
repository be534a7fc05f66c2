"""A transformer whose attention looks a stated number of positions along the chain, and no farther.

Cost is linear in the length; a residue's output depends on `window` times `layers` positions on
either side, so that a slice of a chain is read as it is read inside the chain, but near its ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from protok.model.runs import Runs


@dataclass
class Windows:
    """Residues in blocks of `window`; each block attends to itself and to the blocks beside it.

    Attributes
    ----------
    keep : (blocks, 1, window, 3 window)
        Which residue attends to which: near in the same run. Itself always, so that no row is empty.
    rope
        Cosine and sine of the angles of places in their runs, (n, 1, half head).
    """

    window: int
    keep: Bool[Tensor, "c 1 w v"]
    rope: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, runs: Runs, window: int, half: int) -> Windows:
        """For runs laid end to end, and heads of twice `half` numbers."""
        n, device = len(runs.run), runs.run.device
        blocks = -(-n // window)
        run = F.pad(runs.run, (window, (blocks + 1) * window - n), value=-1)
        own = run[window:-window].view(blocks, window, 1)
        seen = run.unfold(0, 3 * window, window)[:, None]
        apart = (
            torch.arange(3 * window, device=device) - window - torch.arange(window, device=device)[:, None]
        )
        keep = ((own == seen) & (own >= 0) & (apart.abs() <= window)) | (apart == 0)
        # In float64, so that places far along a chain are told apart as well as those at its start.
        speed = 1.0 / 10000 ** (torch.arange(half, device=device, dtype=torch.float64) / half)
        angle = runs.place[:, None, None] * speed
        return cls(window, keep[:, None], (angle.cos().float(), angle.sin().float()))

    def own(self, x: Float[Tensor, "n h d"]) -> Float[Tensor, "c h w d"]:
        """Into blocks."""
        blocks = len(self.keep)
        x = F.pad(x, (0, 0, 0, 0, 0, blocks * self.window - len(x)))
        return x.view(blocks, self.window, *x.shape[1:]).transpose(1, 2)

    def around(self, x: Float[Tensor, "n h d"]) -> Float[Tensor, "c h v d"]:
        """Into blocks with those beside them."""
        blocks = len(self.keep)
        x = F.pad(x, (0, 0, 0, 0, self.window, (blocks + 1) * self.window - len(x)))
        x = x.view(blocks + 2, self.window, *x.shape[1:])
        return torch.cat([x[:-2], x[1:-1], x[2:]], 1).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm transformer block with rotary positions (Su et al. 2021), in windows.

    Another way to attend is another `forward`.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed = nn.Sequential(
            nn.RMSNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Float[Tensor, "n w"], windows: Windows) -> Float[Tensor, "n w"]:
        """Attend to what is near, then feed forward."""
        n, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(n, 3, self.heads, width // self.heads).unbind(1)
        q, k = rotate(q, windows.rope), rotate(k, windows.rope)
        q, k, v = windows.own(q), windows.around(k), windows.around(v)
        if torch.is_grad_enabled():
            # On a CPU plain products have the faster backward pass.
            scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
            a = scores.masked_fill(~windows.keep, -1e4).softmax(-1) @ v
        else:
            a = F.scaled_dot_product_attention(q, k, v, attn_mask=windows.keep)
        x = x + self.out(a.transpose(1, 2).reshape(-1, width)[:n])
        return x + self.feed(x)


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Turn pairs of numbers of heads by the angles of their places, whose cosines and sines fit `x`."""
    cos, sin = (part.to(x.dtype) for part in rope)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class LocalTransformer(nn.Module):
    """Blocks over states of residues that lie end to end in runs.

    Parameters
    ----------
    width, layers, heads
        Of the transformer.
    window
        Positions on either side that one layer sees.
    """

    def __init__(self, width: int, layers: int, heads: int, window: int):
        super().__init__()
        self.window, self.half_head = window, width // heads // 2
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        for block in self.blocks:
            for name in ("out.weight", "feed.3.weight"):
                nn.init.normal_(block.get_parameter(name), std=0.02 / (2 * layers) ** 0.5)
        self.norm = nn.RMSNorm(width)

    def forward(self, x: Float[Tensor, "n w"], runs: Runs) -> Float[Tensor, "n w"]:
        """States that know of those near them; in float32 also under autocast."""
        windows = Windows.of(runs, self.window, self.half_head)
        x = x.float()
        for block in self.blocks:
            x = block(x, windows)
        return self.norm(x)
