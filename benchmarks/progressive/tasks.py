"""The auto-encoders in which arms are compared: data, networks, errors.

A task has networks whose parameters are trained, a batch for each step, and an error of what is decoded
from latents. All that is random in it follows from the seed and the step, so that arms of one seed have
the same initialisation and see the same data. Held-out data are in two halves: rates are tuned on
``tune``, and ``test`` is read once, by the runs that are analysed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from protok.quantize import Quantizer

#: Halves of held-out data.
HALVES = ("tune", "test")


class Task:
    """An auto-encoder and its data."""

    #: Unit of the error.
    unit = ""
    #: Data files it reads.
    files: tuple[Path, ...] = ()

    def __init__(self, parts: nn.Module):
        self.parts = parts

    def batch(self, step: int, steps: int) -> Any:
        """Training examples of a step."""
        raise AttributeError(f"{type(self).__name__} has no batch")

    def held_out(self, half: str) -> list[Any]:
        """Batches that are never trained on."""
        raise AttributeError(f"{type(self).__name__} has no held_out")

    def encode(self, x: Any) -> tuple[Tensor, Tensor | None]:
        """Latents (..., d) and their mask; noisy in training, where a task wants that."""
        raise AttributeError(f"{type(self).__name__} has no encode")

    def errors(self, z: Tensor, x: Any) -> tuple[Tensor, Tensor]:
        """Error of what is decoded from z, of each item of a batch: its sum, and over how many numbers."""
        raise AttributeError(f"{type(self).__name__} has no errors")

    def loss(self, z: Tensor, latents: Tensor, x: Any) -> Tensor:
        """What is minimised, the quantizer's own loss aside; `latents` are those before quantization."""
        wrong, count = self.errors(z, x)
        return wrong.sum() / count.sum()

    def report(self, quantizer: Quantizer, half: str) -> dict[str, float]:
        """What else is measured of a trained model."""
        return {}


class Synthetic(Task):
    """A 12-dimensional Gaussian with falling scales, bent into 48 dimensions."""

    unit = "share of variance"

    def __init__(self, own: Mapping[str, Any], dim: int, data: Path, seed: int):
        g = torch.Generator().manual_seed(20260322)
        self.scales = 0.8 ** torch.arange(12)
        self.mix = [torch.randn(a, b, generator=g) / a**0.5 for a, b in ((12, 64), (64, 48))]
        torch.manual_seed(seed)
        hidden = own["hidden"]
        self.encoder, self.decoder = _mlp(48, hidden, dim), _mlp(dim, hidden, 48)
        super().__init__(nn.ModuleList([self.encoder, self.decoder]))
        self.size, self.seed = own["batch"], seed
        self.drawn = {
            half: self._draw(4096, torch.Generator().manual_seed(7 + i)) for i, half in enumerate(HALVES)
        }
        self.variance = self.drawn["tune"].var(0).mean()

    def _draw(self, n: int, generator: torch.Generator) -> Tensor:
        u = torch.randn(n, 12, generator=generator) * self.scales
        return torch.tanh(1.5 * u @ self.mix[0]) @ self.mix[1]

    def batch(self, step: int, steps: int) -> Tensor:
        return self._draw(self.size, torch.Generator().manual_seed(self.seed * 1_000_003 + step))

    def held_out(self, half: str) -> list[Tensor]:
        return [self.drawn[half]]

    def encode(self, x: Tensor) -> tuple[Tensor, None]:
        return self.encoder(x), None

    def errors(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        wrong = (self.decoder(z) - x).square().mean(-1) / self.variance
        return wrong, torch.ones(len(x))


def _mlp(a: int, hidden: int, b: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(a, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, b)
    )


class Images(Task):
    """64-px images, convolutions down to 8 x 8 latents and up again."""

    unit = "mean squared error of pixels in -1..1"

    def __init__(self, own: Mapping[str, Any], dim: int, data: Path, seed: int):
        self.files = (data / own["file"],)
        self.train = _pixels(self.files[0], "train", None)
        self.valid = _pixels(self.files[0], "valid", own["held_out"])
        w = own["width"]
        torch.manual_seed(seed)
        down = [nn.Conv2d(3, w, 4, 2, 1), nn.GELU(), nn.Conv2d(w, 2 * w, 4, 2, 1), nn.GELU()]
        down += [nn.Conv2d(2 * w, 2 * w, 4, 2, 1), _Residual(2 * w), nn.Conv2d(2 * w, dim, 1)]
        up = [nn.Conv2d(dim, 2 * w, 3, 1, 1), _Residual(2 * w)]
        up += [nn.ConvTranspose2d(2 * w, 2 * w, 4, 2, 1), nn.GELU()]
        up += [nn.ConvTranspose2d(2 * w, w, 4, 2, 1), nn.GELU(), nn.ConvTranspose2d(w, 3, 4, 2, 1)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)
        super().__init__(nn.ModuleList([self.encoder, self.decoder]))
        self.size, self.seed = own["batch"], seed

    def batch(self, step: int, steps: int) -> Tensor:
        rng = np.random.default_rng((self.seed, step))
        x = _unit(self.train[rng.integers(len(self.train), size=self.size)])
        return x.flip(-1) if rng.random() < 0.5 else x

    def held_out(self, half: str) -> list[Tensor]:
        # Classes are in order, so that every second image is a fair half.
        return list(_unit(self.valid[HALVES.index(half) :: 2]).split(64))

    def encode(self, x: Tensor) -> tuple[Tensor, None]:
        return self.encoder(x).movedim(1, -1), None

    def errors(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        wrong = (self.decoder(z.movedim(-1, 1)) - x).square().flatten(1)
        return wrong.sum(1), torch.full((len(x),), wrong.shape[1])


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.GroupNorm(8, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _unit(x: np.ndarray) -> Tensor:
    return torch.from_numpy(x).movedim(-1, 1).float() / 127.5 - 1


@lru_cache
def _pixels(file: Path, part: str, n: int | None) -> np.ndarray:
    from PIL import Image

    with np.load(file) as arrays:
        raw, ends = arrays[f"{part}_bytes"].tobytes(), arrays[f"{part}_off"]
    pairs = list(zip(ends[:-1], ends[1:], strict=True))
    if n is not None:
        # Classes are in order in the file.
        pairs = [pairs[i] for i in np.linspace(0, len(pairs) - 1, n).astype(int)]
    return np.stack([np.asarray(Image.open(io.BytesIO(raw[a:b])).convert("RGB")) for a, b in pairs])


def build_task(name: str, own: Mapping[str, Any], dim: int, data: Path, seed: int) -> Task:
    """A task by name, with what the registration says of it."""
    from benchmarks.progressive.letters import Letters

    kinds: dict[str, Callable[..., Task]] = {"synthetic": Synthetic, "images": Images, "letters": Letters}
    return kinds[name](own, dim, data, seed)
