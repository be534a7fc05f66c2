"""Codes of what earlier codes left: `ResidualVQ`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from protok.quantize.base import Ids, Quantizer
from protok.quantize.curriculum import Vectors
from protok.quantize.distributed import from_first
from protok.quantize.table import VQ, SimVQ


class ResidualVQ(Quantizer):
    """Each level codes what the levels before left over and learns its codebook as its kind does.

    Ids have a trailing dimension of levels, and ``lookup(ids[..., :m])`` decodes the first
    m of them. Source: Zeghidour et al. 2021, SoundStream (arXiv 2107.03312), with its
    quantizer dropout, which is what makes every prefix decode well.

    Parameters
    ----------
    levels
        A `VQ` (Euclidean) or `SimVQ` each, of one size and dimension.
    prefix
        Probability that a training step feeds only a prefix, of random length; all levels
        learn nevertheless.
    """

    levels: Sequence[Quantizer]

    def __init__(self, levels: Sequence[Quantizer], prefix: float = 0.5):
        shapes = {(q.size, q.dim) for q in levels}
        if len(shapes) != 1:
            raise ValueError(f"levels of one size and dimension are needed, not {sorted(shapes)}")
        if len({id(q) for q in levels}) != len(levels):
            raise ValueError("levels must not share a quantizer; build one for each")
        for q in levels:
            if not (isinstance(q, SimVQ) or (isinstance(q, VQ) and q.metric == "euclidean")):
                raise ValueError("a level is a Euclidean VQ or a SimVQ: others change the residual")
        self.code_shape = (len(levels),)
        super().__init__(levels[0].size, levels[0].dim)
        self.prefix = prefix
        # A ModuleList does not tell its type what it holds.
        self.levels = cast(Sequence[Quantizer], nn.ModuleList(levels))

    def nearest(self, c: Float[Tensor, "n d"]) -> Int[Tensor, "n l"]:
        """Level by level, the code nearest to what is left."""
        ids = []
        for level in self.levels:
            ids.append(level.nearest(c))
            c = c - level.codes(ids[-1]).detach()
        return torch.stack(ids, dim=-1)

    def codes(self, ids: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Sum of the codes of as many levels as there are ids."""
        first, *rest = self._parts(ids)
        return sum(rest, first)

    def _parts(self, ids: Tensor) -> list[Tensor]:
        return [level.codes(ids[:, i]) for i, level in enumerate(self.levels) if i < ids.shape[-1]]

    def _each(self, c: Tensor, ids: Tensor) -> Iterator[tuple[Quantizer, Tensor, Tensor, Tensor]]:
        """Level by level: it, what is left for it, its ids, and their codes."""
        for level, part, own in zip(self.levels, self._parts(ids), ids.unbind(-1), strict=True):
            yield level, c, own, part
            c = c - part.detach()

    def shorten(self, q: Float[Tensor, "n d"], ids: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """In some training steps, only the codes of a random prefix of the levels."""
        if not self.prefix:
            return q
        # Drawn in every step and alike in all processes: a step has one prefix.
        chance, length = from_first(torch.rand(2, device=q.device)).tolist()
        kept = 1 + int(length * len(self.levels))
        return self.codes(ids[:, :kept]) if chance < self.prefix else q

    def penalty(self, c: Vectors, ids: Ids, q: Vectors, pull: float) -> Float[Tensor, ""]:
        """Sum of what the levels ask for."""
        parts = (level.penalty(left, own, part, pull) for level, left, own, part in self._each(c, ids))
        return sum(parts, c.new_zeros(()))

    @torch.no_grad()
    def anchor(self, c: Float[Tensor, "n d"]) -> None:
        """Anchor level by level, each on what the earlier ones left."""
        for level in self.levels:
            level.anchor(c)
            c = c - level.codes(level.nearest(c))
        self._tell()

    @torch.no_grad()
    def update(self, c: Float[Tensor, "n d"], ids: Int[Tensor, "n l"], settled: bool = False) -> None:
        """Each level learns from its own residuals."""
        for level, left, own, _ in self._each(c, ids):
            level.update(left, own, settled)
        self._tell()

    def _tell(self) -> None:
        self.usage.copy_(torch.stack([level.usage for level in self.levels]))
        self.initialised.fill_(True)
