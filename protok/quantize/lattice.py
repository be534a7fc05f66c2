"""Quantizers whose codes are fixed points of a lattice: `FSQ` and `LFQ`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from protok.quantize.base import Ids, Quantizer, commitment
from protok.quantize.curriculum import Vectors
from protok.quantize.distributed import processes, total

#: Bits whose joint entropy `LFQ` computes; longer codes are split into groups.
GROUP = 9
#: Largest codebook whose usage is kept.
LARGEST = 1 << 24


class _Lattice(Quantizer):
    """Codes that never change; linear maps lead there and back where the dimensions differ."""

    def __init__(self, size: int, dim: int | None, width: int, beta: float):
        if size > LARGEST:
            raise ValueError(f"{size} codes are more than the {LARGEST} whose usage can be kept")
        super().__init__(size, dim or width, width, beta)
        mapped = self.dim != width
        self.into = nn.Linear(self.dim, width) if mapped else nn.Identity()
        self.out_of = nn.Linear(width, self.dim) if mapped else nn.Identity()

    def outward(self, c: Float[Tensor, "n e"]) -> Float[Tensor, "n d"]:
        """Linear map to the latents' dimension, if it differs."""
        return self.out_of(c)


class FSQ(_Lattice):
    """Each coordinate is squashed and rounded to one of a few levels; no codebook to update.

    Source: Mentzer et al. 2023, finite scalar quantization (arXiv 2309.15505). Inside
    `ProVQ` the squashing is always there and the rounding comes in with hardness.

    Parameters
    ----------
    levels
        Number of levels of each coordinate, each at least 3; their product is the size.
    dim
        Dimension of the latents; a linear map leads to and from ``len(levels)``
        coordinates if it differs.
    """

    count_of: Tensor
    middle: Tensor
    stride: Tensor
    reach: Tensor
    offset: Tensor
    shift: Tensor
    remedy = "use fewer levels, or scale the latents to about unit variance"

    def __init__(self, levels: Sequence[int], dim: int | None = None):
        if len(levels) == 0 or min(levels) < 3:
            raise ValueError(f"levels {list(levels)} must be at least 3 each")
        super().__init__(math.prod(levels), dim, len(levels), 0.0)
        self.levels = tuple(levels)
        count = torch.tensor(self.levels)
        stride = torch.tensor([1, *self.levels[:-1]]).cumprod(0)
        reach = (count - 1) * (1 + 1e-3) / 2
        offset = torch.where(count % 2 == 0, 0.5, 0.0)
        fixed = {"count_of": count, "middle": count // 2, "stride": stride, "reach": reach, "offset": offset}
        for name, value in {**fixed, "shift": torch.atanh(offset / reach)}.items():
            self.register_buffer(name, value, persistent=False)

    def inward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """Coordinates between the outermost levels, which lie near -1 and 1."""
        bounded = torch.tanh(self.into(z) + self.shift) * self.reach - self.offset
        return bounded / self.middle

    def nearest(self, c: Float[Tensor, "n e"]) -> Int[Tensor, "n"]:
        """The rounded coordinates as one number, the first coordinate counting fastest."""
        digits = (c * self.middle).round().long() + self.middle
        return (digits * self.stride).sum(-1)

    def codes(self, ids: Int[Tensor, "n"]) -> Float[Tensor, "n e"]:
        """Coordinates of the levels."""
        digits = ids[:, None] // self.stride % self.count_of
        return (digits - self.middle) / self.middle


def fsq_levels(size: int) -> list[int]:
    """Levels of 8 and 4 whose product is a size, which must be a power of two from 4 on.

    Raises
    ------
    ValueError
        For another size.
    """
    bits = size.bit_length() - 1
    if bits < 2 or size != 1 << bits:
        raise ValueError(f"FSQ and LFQ have a power of two of codes, at least 4, not {size}")
    fours = {0: 0, 1: 2, 2: 1}[bits % 3]
    return [8] * ((bits - 2 * fours) // 3) + [4] * fours


class LFQ(_Lattice):
    """The signs of the coordinates are the code; there is no codebook to update.

    The optimiser moves the latents alone, by commitment and an entropy loss that makes
    each vector sure of its code and the codes evenly used. Source: Yu et al. 2023,
    lookup-free quantization (arXiv 2310.05737); ``spherical`` is the binary spherical
    quantization of Zhao et al. 2024 (arXiv 2406.07548). Codes of more than 9 bits
    have their entropy summed over groups of bits, as in Open-MAGVIT2 (arXiv 2409.04410).

    Parameters
    ----------
    bits
        Number of coordinates; the size is 2 to that power.
    dim
        Dimension of the latents; a linear map leads to and from `bits` if it differs.
    beta
        Weight of the commitment loss.
    entropy
        Weight of the entropy loss.
    temperature
        Of the soft assignment in the entropy loss.
    spherical
        Latents and codes have unit length.
    """

    powers: Tensor
    remedy = "raise the entropy weight, or use fewer bits"

    def __init__(
        self,
        bits: int,
        dim: int | None = None,
        beta: float = 0.25,
        entropy: float = 0.1,
        temperature: float = 0.01,
        spherical: bool = False,
    ):
        super().__init__(1 << bits, dim, bits, beta)
        self.bits, self.entropy, self.temperature, self.spherical = bits, entropy, temperature, spherical
        #: Coordinates of the codes are plus or minus this.
        self.unit = bits**-0.5 if spherical else 1.0
        self.register_buffer("powers", 2 ** torch.arange(bits - 1, -1, -1), persistent=False)

    def inward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """The coordinates; of unit length if ``spherical``."""
        c = self.into(z)
        return F.normalize(c, dim=-1) if self.spherical else c

    def nearest(self, c: Float[Tensor, "n e"]) -> Int[Tensor, "n"]:
        """The signs as a binary number, the first coordinate counting most."""
        return ((c > 0) * self.powers).sum(-1)

    def codes(self, ids: Int[Tensor, "n"]) -> Float[Tensor, "n e"]:
        """Signs of the coordinates."""
        return self._signs(ids, self.powers)

    def _signs(self, ids: Tensor, powers: Tensor) -> Tensor:
        return ((ids[:, None] & powers) != 0) * (2 * self.unit) - self.unit

    def penalty(self, c: Vectors, ids: Ids, q: Vectors, pull: float) -> Float[Tensor, ""]:
        """Commitment and mean entropy of a vector less entropy of the mean."""
        loss = commitment(c, q, self.beta * pull)
        if self.entropy:
            loss = loss + self.entropy * pull * self._entropies(c)
        return loss

    def _entropies(self, c: Tensor) -> Tensor:
        n = c.new_tensor(float(len(c)))
        (everywhere,) = total(n)
        loss = c.new_zeros(())
        for part in c.split(GROUP, dim=-1):
            width = part.shape[-1]
            every = torch.arange(1 << width, device=c.device)
            signs = self._signs(every, 2 ** torch.arange(width - 1, -1, -1, device=c.device))
            log_p = (2 * part @ signs.T / self.temperature).log_softmax(dim=-1)
            p = log_p.exp()
            mean = p.sum(0) / n.clamp(min=1)
            if processes() > 1:
                # The value is that of the joined batch; the processes' gradients are averaged
                # by whoever trains them, so that of the own share is the right part of it.
                (joined,) = total(p.detach().sum(0))
                mean = mean + (joined / everywhere.clamp(min=1) - mean.detach())
            each = (p * log_p).sum() / n.clamp(min=1)
            # The gradient of p log p is infinite at 0.
            loss = loss - each + (mean * mean.clamp(min=1e-5).log()).sum()
        return loss
