"""The network of an image tokenizer: convolutions down, a quantizer, convolutions up.

The shape is that of VQGAN (Esser et al. 2021, arXiv 2012.09841): residual blocks with
normalisation at each resolution, strided convolutions between them, attention at the coarsest resolution as
a choice. What is normalised is the whole image, as there, or each place alone, which makes the network local:
then codes of a large image are those of its parts (see `protok.image.windows`). Pixels are in -1..1.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from protok.image.coding import ContextModel
from protok.image.config import ImageConfig
from protok.quantize import Quantized, build_quantizer


class PlaceNorm(nn.LayerNorm):
    """Normalise the channels of each place alone: the same whatever lies around."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Same shape."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def _norm(width: int, kind: str = "group") -> nn.Module:
    if kind == "place":
        return PlaceNorm(width)
    # At least 8 channels a group: what is normalised alone forgets the image's own level,
    # and with it the colours.
    return nn.GroupNorm(math.gcd(32, max(1, width // 8), width), width)


class Residual(nn.Module):
    """Normalise the image, activate, convolve, twice, and add the input."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            _norm(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, 1, 1),
            _norm(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, 1, 1),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Same shape."""
        return x + self.body(x)


class Bottleneck(nn.Module):
    """Normalise each place, and convolve at half the width, with a narrow way in and out; add the input."""

    def __init__(self, width: int):
        super().__init__()
        half = max(1, width // 2)
        self.body = nn.Sequential(
            PlaceNorm(width),
            nn.Conv2d(width, half, 1),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(half, width, 1),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Same shape."""
        return x + self.body(x)


class Attention(nn.Module):
    """Every position attends to all others of its image, with one head."""

    def __init__(self, width: int, norm: str):
        super().__init__()
        self.norm = _norm(width, norm)
        self.into = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The input and what was attended to."""
        all_three = self.into(self.norm(x)).flatten(2).transpose(1, 2)[:, None]
        q, k, v = all_three.chunk(3, dim=-1)
        seen = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self.out(seen.transpose(1, 2).unflatten(2, x.shape[2:]).contiguous())


def _blocks(width: int, n: int, config: ImageConfig) -> list[nn.Module]:
    return [Bottleneck(width) if config.norm == "place" else Residual(width) for _ in range(n)]


def _middle(width: int, config: ImageConfig) -> list[nn.Module]:
    first = _blocks(width, 1, config)
    return [*first, Attention(width, config.norm), *_blocks(width, 1, config)] if config.attention else first


class Encoder(nn.Sequential):
    """Pixels (b, 3, h, w) to latents (b, dim, h / factor, w / factor)."""

    def __init__(self, config: ImageConfig):
        widths = [config.width * m for m in config.multiples]
        first = nn.Conv2d(3 * config.patch**2, widths[0], 3, 1, 1)
        parts: list[nn.Module] = [nn.PixelUnshuffle(config.patch), first]
        for i, width in enumerate(widths):
            if i:
                parts.append(nn.Conv2d(widths[i - 1], width, 3, 2, 1))
            parts += _blocks(width, config.blocks, config)
        parts += _middle(widths[-1], config)
        parts += [_norm(widths[-1], config.norm), nn.SiLU(), nn.Conv2d(widths[-1], config.quantizer.dim, 1)]
        super().__init__(*parts)


class Decoder(nn.Sequential):
    """Latents (b, dim, h, w) to pixels (b, 3, h * factor, w * factor)."""

    def __init__(self, config: ImageConfig):
        widths = [config.decoder_width * m for m in reversed(config.multiples)]
        parts: list[nn.Module] = [nn.Conv2d(config.quantizer.dim, widths[0], 3, 1, 1)]
        parts += _middle(widths[0], config)
        for i, width in enumerate(widths):
            if i:
                parts.append(nn.Upsample(scale_factor=2, mode="nearest"))
                parts.append(nn.Conv2d(widths[i - 1], width, 3, 1, 1))
            parts += _blocks(width, config.blocks, config)
        parts += [_norm(widths[-1], config.norm), nn.SiLU()]
        parts += [nn.Conv2d(widths[-1], 3 * config.patch**2, 3, 1, 1)]
        parts += [nn.PixelShuffle(config.patch)]
        super().__init__(*parts)

    @property
    def last(self) -> Tensor:
        """Weights of the last convolution, at which gradients of losses are compared."""
        return cast(nn.Conv2d, self[-2]).weight


def _silence(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


@dataclass
class Reconstruction:
    """Pixels in about -1..1, and what the quantizer said; None without a codebook."""

    x: Tensor
    quantized: Quantized | None


class Components(nn.Module):
    """Squares of pixels to their principal components and back: the linear path beside the convolutions."""

    def __init__(self, factor: int, dim: int):
        super().__init__()
        self.factor = factor
        self.into = nn.Conv2d(3 * factor**2, dim, 1)
        self.out = nn.Conv2d(dim, 3 * factor**2, 1)

    @torch.no_grad()
    def begin(self, x: Float[Tensor, "b 3 h w"]) -> None:
        """Take the components of these images."""
        squares = F.pixel_unshuffle(x, self.factor).movedim(1, -1).flatten(0, -2).double()
        mean = squares.mean(0)
        values, vectors = torch.linalg.eigh((squares - mean).T.cov())
        axes = vectors[:, values.argsort(descending=True)[: len(self.into.weight)]]
        self.into.weight.copy_(axes.T[..., None, None])
        self.out.weight.copy_(axes[..., None, None])
        self.into.bias.copy_(-(mean @ axes))  # pyright: ignore[reportOptionalMemberAccess]
        self.out.bias.copy_(mean)  # pyright: ignore[reportOptionalMemberAccess]

    def analyse(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d i j"]:
        """Components of each square."""
        return self.into(F.pixel_unshuffle(x, self.factor))

    def compose(self, z: Float[Tensor, "b d i j"]) -> Float[Tensor, "b 3 h w"]:
        """Pixels of components."""
        return F.pixel_shuffle(self.out(z), self.factor)


class ImageNetwork(nn.Module):
    """Encoder, quantizer and decoder of a configuration."""

    def __init__(self, config: ImageConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = build_quantizer(**asdict(config.quantizer))
        self.decoder = Decoder(config)
        self.components = Components(config.factor, config.quantizer.dim) if config.linear else None
        self.context = ContextModel(config) if config.context else None
        # Convolutions of a CPU in bfloat16 are several times faster on this layout. torch's own
        # annotations of `to` do not have it.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @torch.no_grad()
    def begin(self, x: Float[Tensor, "b 3 h w"]) -> None:
        """Start where the linear path does all, as well as a linear path can on these images."""
        if self.components is None:
            return
        self.components.begin(x)
        for module in self.modules():
            if isinstance(module, Residual | Bottleneck):
                _silence(module.body[-1])
        _silence(self.encoder[-1])
        _silence(self.decoder[-2])

    def latents(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b i j d"]:
        """Latents in rows and columns; height and width are multiples of the factor."""
        z = self.encoder(x.contiguous(memory_format=torch.channels_last))
        if self.components is not None:
            # As exact as float32 is: it carries most of the image.
            with torch.autocast(x.device.type, enabled=False):
                z = z.float() + self.components.analyse(x.float())
        return z.movedim(1, -1)

    def pixels(self, z: Float[Tensor, "b i j d"]) -> Float[Tensor, "b 3 h w"]:
        """Pixels of latents or of code vectors."""
        z = z.movedim(-1, 1)
        x = self.decoder(z)
        if self.components is not None:
            with torch.autocast(z.device.type, enabled=False):
                x = x.float() + self.components.compose(z.float())
        return x

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Reconstruction:
        """Encode, quantize as hard as the curriculum says, decode."""
        z = self.latents(x)
        if self.quantizer is None:
            return Reconstruction(self.pixels(z), None)
        quantized = self.quantizer(z)
        return Reconstruction(self.pixels(quantized.z), quantized)
