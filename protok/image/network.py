"""The network of an image tokenizer: convolutions down, a quantizer, convolutions up.

The shape is that of VQGAN (Esser et al. 2021, arXiv 2012.09841): residual blocks with
group normalisation at each resolution, strided convolutions between them, attention at the
coarsest resolution as a choice. Pixels are in -1..1.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from protok.image.config import ImageConfig
from protok.quantize import Quantized, build_quantizer


def _norm(width: int) -> nn.GroupNorm:
    # At least 8 channels a group: what is normalised alone forgets the image's own level,
    # and with it the colours.
    return nn.GroupNorm(math.gcd(32, max(1, width // 8), width), width)


class Residual(nn.Module):
    """Normalise, activate, convolve, twice, and add the input."""

    def __init__(self, inward: int, width: int):
        super().__init__()
        self.body = nn.Sequential(
            _norm(inward),
            nn.SiLU(),
            nn.Conv2d(inward, width, 3, 1, 1),
            _norm(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, 1, 1),
        )
        self.skip = nn.Conv2d(inward, width, 1) if inward != width else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e h w"]:
        """Same resolution, `width` channels."""
        return self.skip(x) + self.body(x)


class Attention(nn.Module):
    """Every position attends to all others of its image, with one head."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = _norm(width)
        self.into = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The input and what was attended to."""
        all_three = self.into(self.norm(x)).flatten(2).transpose(1, 2)[:, None]
        q, k, v = all_three.chunk(3, dim=-1)
        seen = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self.out(seen.transpose(1, 2).unflatten(2, x.shape[2:]).contiguous())


def _middle(width: int, attention: bool) -> list[nn.Module]:
    parts: list[nn.Module] = [Residual(width, width)]
    return parts + [Attention(width), Residual(width, width)] if attention else parts


class Encoder(nn.Sequential):
    """Pixels (b, 3, h, w) to latents (b, dim, h / factor, w / factor)."""

    def __init__(self, config: ImageConfig):
        widths = [config.width * m for m in config.multiples]
        first = nn.Conv2d(3 * config.patch**2, widths[0], 3, 1, 1)
        parts: list[nn.Module] = [nn.PixelUnshuffle(config.patch), first]
        for i, width in enumerate(widths):
            if i:
                parts.append(nn.Conv2d(widths[i - 1], width, 3, 2, 1))
            parts += [Residual(width, width) for _ in range(config.blocks)]
        parts += _middle(widths[-1], config.attention)
        parts += [_norm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], config.quantizer.dim, 1)]
        super().__init__(*parts)


class Decoder(nn.Sequential):
    """Latents (b, dim, h, w) to pixels (b, 3, h * factor, w * factor)."""

    def __init__(self, config: ImageConfig):
        widths = [config.decoder_width * m for m in reversed(config.multiples)]
        parts: list[nn.Module] = [nn.Conv2d(config.quantizer.dim, widths[0], 3, 1, 1)]
        parts += _middle(widths[0], config.attention)
        for i, width in enumerate(widths):
            if i:
                parts.append(nn.Upsample(scale_factor=2, mode="nearest"))
                parts.append(nn.Conv2d(widths[i - 1], width, 3, 1, 1))
            parts += [Residual(width, width) for _ in range(config.blocks)]
        parts += [_norm(widths[-1]), nn.SiLU()]
        parts += [nn.Conv2d(widths[-1], 3 * config.patch**2, 3, 1, 1)]
        parts += [nn.PixelShuffle(config.patch)]
        super().__init__(*parts)

    @property
    def last(self) -> Tensor:
        """Weights of the last convolution, at which gradients of losses are compared."""
        return cast(nn.Conv2d, self[-2]).weight


@dataclass
class Reconstruction:
    """Pixels in about -1..1, and what the quantizer said; None without a codebook."""

    x: Tensor
    quantized: Quantized | None


class ImageNetwork(nn.Module):
    """Encoder, quantizer and decoder of a configuration."""

    def __init__(self, config: ImageConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = build_quantizer(**asdict(config.quantizer))
        self.decoder = Decoder(config)
        # Convolutions of a CPU in bfloat16 are several times faster on this layout. torch's own
        # annotations of `to` do not have it.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def latents(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b i j d"]:
        """Latents in rows and columns; height and width are multiples of the factor."""
        return self.encoder(x.contiguous(memory_format=torch.channels_last)).movedim(1, -1)

    def pixels(self, z: Float[Tensor, "b i j d"]) -> Float[Tensor, "b 3 h w"]:
        """Pixels of latents or of code vectors."""
        return self.decoder(z.movedim(-1, 1))

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Reconstruction:
        """Encode, quantize as hard as the curriculum says, decode."""
        z = self.latents(x)
        if self.quantizer is None:
            return Reconstruction(self.pixels(z), None)
        quantized = self.quantizer(z)
        return Reconstruction(self.pixels(quantized.z), quantized)
