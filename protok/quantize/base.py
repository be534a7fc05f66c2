"""What all quantizers share: one way through, and the statistics on it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from protok.quantize.curriculum import Vectors, feed, loss_weights
from protok.quantize.diagnostics import CollapseWarning, relative_error
from protok.quantize.distributed import total
from protok.quantize.uncompiled import uncompiled
from protok.quantize.usage import perplexity

#: Ids of vectors of the space of the codes.
Ids = Int[Tensor, "n *l"]
#: Perplexity of a codebook, as a share of its size, below which it has collapsed.
COLLAPSED = 0.1


@dataclass
class Quantized:
    """What a quantizer returns.

    Attributes
    ----------
    z : (..., d)
        What the decoder receives; carries gradient to the input.
    ids : (...), or (..., levels) of a residual quantizer
        Code of each vector, -1 where the mask is False.
    loss : scalar
        What the kind adds to the training loss, mean over valid vectors; zero in eval.
    error : scalar
        Relative quantization error: mean |z - q|^2 over mean |z - mean z|^2.
    """

    z: Float[Tensor, "*b d"]
    ids: Int[Tensor, "*c"]
    loss: Float[Tensor, ""]
    error: Float[Tensor, ""]


class Quantizer(nn.Module):
    """Base: a codebook of `size` vectors of `dim`, and the bookkeeping all kinds share.

    Vectors go `inward` to the space of the codes, are moved towards their codes there
    and go `outward` again. A kind implements `nearest` and `codes`, and what else it
    needs of `inward`, `outward`, `penalty`, `anchor` and `update`; the public verbs and
    the curriculum of `ProVQ` are written in these. All state is in buffers and
    parameters, so that saving and loading resumes exactly.

    Attributes
    ----------
    width
        Dimension of the code space.
    code_shape
        Trailing shape of the ids of one vector: () for one id.
    hardness, initialised, usage
        Buffers: share of the way to the codes (1 outside `ProVQ`), whether the codebook
        was placed on latents, running usage of the codes about a mean of 1.
    """

    usage: Tensor
    initialised: Tensor
    hardness: Tensor
    code_shape: tuple[int, ...] = ()
    _warned = False
    #: Of the running usage, where a kind does not set its own.
    decay: float = 0.99
    #: What to do when codes go unused.
    remedy = "wrap it in ProVQ, which starts from k-means on trained latents"

    def __init__(self, size: int, dim: int, width: int | None = None, beta: float = 0.25):
        super().__init__()
        self.size, self.dim, self.width, self.beta = size, dim, width or dim, beta
        self.register_buffer("hardness", torch.tensor(1.0))
        self.register_buffer("initialised", torch.tensor(False))
        self.register_buffer("usage", torch.ones(*self.code_shape, size))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move with the model, but stay in float32 where that goes to half precision: rounded
        vectors are other codes."""

        def kept(value: Tensor) -> Tensor:
            moved = fn(value)
            return value.to(moved.device) if moved.dtype in (torch.bfloat16, torch.float16) else moved

        return super()._apply(kept, recurse)

    def inward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """Latents in the space of the codes."""
        return z

    def outward(self, c: Float[Tensor, "n e"]) -> Float[Tensor, "n d"]:
        """The way back; also of vectors that lie between codes."""
        return c

    def nearest(self, c: Float[Tensor, "n e"]) -> Int[Tensor, "n *l"]:
        """Ids of vectors of the code space."""
        raise AttributeError(f"{type(self).__name__} has no nearest")

    def codes(self, ids: Int[Tensor, "n *l"]) -> Float[Tensor, "n e"]:
        """Code of each id in the code space."""
        raise AttributeError(f"{type(self).__name__} has no codes")

    def table(self) -> Float[Tensor, "k e"]:
        """All codes, where they can be listed."""
        raise ValueError(f"{type(self).__name__} has no table of codes, which `soft` needs")

    def penalty(self, c: Vectors, ids: Ids, q: Vectors, pull: float) -> Float[Tensor, ""]:
        """What is added to the training loss; `pull`: weight of what draws latents to codes."""
        return c.new_zeros(())

    def anchor(self, c: Float[Tensor, "n e"]) -> None:
        """Place the codebook on a sample of vectors of the code space."""
        self.initialised.fill_(True)

    def update(self, c: Float[Tensor, "n e"], ids: Int[Tensor, "n *l"], settled: bool = False) -> None:
        """Learn from one batch, after lookup, in training only; `settled` stops respawn."""
        self.count(ids)

    def lookup(self, ids: Int[Tensor, "*c"]) -> Float[Tensor, "*b d"]:
        """Code vectors of ids; zeros for -1."""
        with torch.autocast(ids.device.type, enabled=False):
            shape = ids.shape[: ids.ndim - len(self.code_shape)]
            flat = ids.reshape(-1, *ids.shape[len(shape) :])
            here = (flat >= 0).all(-1) if self.code_shape else flat >= 0
            vectors = self.outward(self.codes(flat.clamp(min=0))) * here[:, None]
            return vectors.reshape((*shape, self.dim))

    def assign(self, z: Float[Tensor, "n d"]) -> Int[Tensor, "n *l"]:
        """Ids of latents, in chunks that bound the memory."""
        with torch.autocast(z.device.type, enabled=False):
            return self.nearest(self.inward(z.float()).detach())

    @uncompiled
    def forward(self, z: Float[Tensor, "*b d"], mask: Bool[Tensor, "*b"] | None = None) -> Quantized:
        """Quantize with a straight-through gradient; between the graphs of `torch.compile`, not in one.

        Parameters
        ----------
        z
            Latents; computed in float32 even under autocast.
        mask
            False entries take no part in anything: id -1, vector zero.

        Raises
        ------
        ValueError
            If a valid latent is not finite, or the last dimension is not `dim`.
        """
        return self.run(z, mask)

    def run(
        self,
        z: Tensor,
        mask: Tensor | None,
        hardness: float = 1.0,
        estimator: str = "ste",
        settled: bool = False,
        loss_weight: str = "ramped",
    ) -> Quantized:
        """`forward` at a hardness above 0 (see `ProVQ`); in eval always hard."""
        with torch.autocast(z.device.type, enabled=False):
            c, keep = self.enter(z, mask)
            ids = self.nearest(c.detach())
            q = self.codes(ids)
            error = relative_error(c, q)
            if not self.training:
                if c.requires_grad:
                    q = q.detach() + (c - c.detach())
                return self.leave(z, keep, q, ids, c.new_zeros(()), error)
            fed = feed(self.table, c, self.shorten(q, ids), hardness, estimator)
            everything, pull = loss_weights(loss_weight, hardness)
            loss = everything * self.penalty(c, ids, q, pull)
            out = self.leave(z, keep, fed, ids, loss, error)
            self.update(c.detach(), ids, settled)
            return out

    def shorten(self, q: Float[Tensor, "n e"], ids: Int[Tensor, "n *l"]) -> Float[Tensor, "n e"]:
        """Where a training step moves vectors to, if not all the way to their codes."""
        return q

    def enter(self, z: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Valid latents in the space of the codes, and where they come from."""
        if z.shape[-1] != self.dim:
            raise ValueError(f"latents of shape {tuple(z.shape)} do not end in dim {self.dim}")
        flat = z.float().reshape(-1, self.dim) if mask is None else z.float()[mask]
        if not torch.isfinite(flat).all():
            remedy = "mask missing entries, or lower the learning rate"
            raise ValueError(f"the latents hold NaN or infinity; {remedy}")
        return self.inward(flat), mask

    def leave(
        self, z: Tensor, keep: Tensor | None, c: Tensor, ids: Tensor, loss: Tensor, error: Tensor
    ) -> Quantized:
        """The result in the shape of the input."""
        out = self.outward(c)
        if keep is None:
            shape = z.shape[:-1]
            return Quantized(out.reshape(z.shape), ids.reshape((*shape, *self.code_shape)), loss, error)
        full = torch.zeros(z.shape, dtype=out.dtype, device=z.device)
        full[keep] = out
        codes = torch.full((*z.shape[:-1], *self.code_shape), -1, dtype=torch.long, device=z.device)
        codes[keep] = ids
        return Quantized(full, codes, loss, error)

    @torch.no_grad()
    def count(self, ids: Int[Tensor, "n"]) -> Tensor:
        """Add a batch of all processes to the running usage; returns how large it was.

        Warns once, with a `CollapseWarning`, if few codes are in use.
        """
        counts = torch.bincount(ids, minlength=self.size).float()
        n = counts.new_tensor(float(len(ids)))
        counts, n = total(counts, n)
        if n > 0:
            self.usage.lerp_(counts * (self.size / n), 1 - self.decay)
            # A running mean over few vectors cannot show more codes than vectors; it starts even.
            reach = min(self.size, float(n) / (1 - self.decay))
            if not self._warned and (effective := perplexity(self.usage)) < COLLAPSED * reach:
                self._warned = True
                warnings.warn(
                    f"{type(self).__name__} has collapsed: {effective:.1f} of {self.size} codes "
                    f"are in effective use; {self.remedy}",
                    CollapseWarning,
                    stacklevel=2,
                )
        return n

    def perplexity(self) -> float:
        """exp(entropy) of the running usage: how many codes are in effective use; mean over levels."""
        levels = self.usage.reshape(-1, self.size)
        return sum(map(perplexity, levels)) / len(levels)


def commitment(c: Tensor, q: Tensor, beta: float) -> Tensor:
    """beta |c - sg q|^2, and |sg c - q|^2 if the codes have a gradient: means over elements.

    van den Oord et al. 2017, arXiv 1711.00937, equation 3; the dimension is divided out.
    """
    scale = max(1, c.numel())
    loss = beta * (c - q.detach()).square().sum() / scale
    if q.requires_grad:
        loss = loss + (c.detach() - q).square().sum() / scale
    return loss
