"""The auto-encoders in which `benchmarks.quantizers.run` compares quantizers: data, networks, error.

A task gives a network ``parts`` whose parameters are trained, a batch for each step, and
an error for what a decoder makes of latents. Everything random in it follows from the
seed and the step, so that settings of one seed see the same data and initialisation.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


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

    def held_out(self) -> list[Any]:
        """Batches that are never trained on."""
        raise AttributeError(f"{type(self).__name__} has no held_out")

    def encode(self, x: Any) -> tuple[Tensor, Tensor | None]:
        """Latents (..., d) and their mask."""
        raise AttributeError(f"{type(self).__name__} has no encode")

    def losses(self, z: Tensor, x: Any) -> tuple[Tensor, Tensor]:
        """Training loss and error of what is decoded from z."""
        raise AttributeError(f"{type(self).__name__} has no losses")


class Synthetic(Task):
    """A 12-dimensional Gaussian with falling scales, bent into 48 dimensions."""

    unit = "share of variance"

    def __init__(self, recipe: Mapping[str, Any], data: Path, seed: int):
        hidden, dim = recipe["task"]["hidden"], recipe["dim"]
        g = torch.Generator().manual_seed(20260322)
        self.scales = 0.8 ** torch.arange(12)
        self.mix = [torch.randn(a, b, generator=g) / a**0.5 for a, b in ((12, 64), (64, 48))]
        torch.manual_seed(seed)
        super().__init__(nn.ModuleDict({"encoder": _mlp(48, hidden, dim), "decoder": _mlp(dim, hidden, 48)}))
        self.size = recipe["batch"]
        self.seed = seed
        self.test = self._draw(4096, torch.Generator().manual_seed(7))
        self.variance = self.test.var(0).mean()

    def _draw(self, n: int, generator: torch.Generator) -> Tensor:
        u = torch.randn(n, 12, generator=generator) * self.scales
        return torch.tanh(1.5 * u @ self.mix[0]) @ self.mix[1]

    def batch(self, step: int, steps: int) -> Tensor:
        g = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        return self._draw(self.size, g)

    def held_out(self) -> list[Tensor]:
        return [self.test]

    def encode(self, x: Tensor) -> tuple[Tensor, None]:
        return self.parts["encoder"](x), None

    def losses(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        error = (self.parts["decoder"](z) - x).square().mean() / self.variance
        return error, error


def _mlp(a: int, hidden: int, b: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(a, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, b)
    )


class Images(Task):
    """64-px images, convolutions down to 8 x 8 latents and up again."""

    unit = "mean squared error of pixels in -1..1"

    def __init__(self, recipe: Mapping[str, Any], data: Path, seed: int):
        own, dim = recipe["task"], recipe["dim"]
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
        super().__init__(nn.ModuleDict({"encoder": nn.Sequential(*down), "decoder": nn.Sequential(*up)}))
        self.size, self.seed = recipe["batch"], seed

    def batch(self, step: int, steps: int) -> Tensor:
        rng = np.random.default_rng((self.seed, step))
        x = _unit(self.train[rng.integers(len(self.train), size=self.size)])
        return x.flip(-1) if rng.random() < 0.5 else x

    def held_out(self) -> list[Tensor]:
        return list(_unit(self.valid).split(64))

    def encode(self, x: Tensor) -> tuple[Tensor, None]:
        return self.parts["encoder"](x).movedim(1, -1), None

    def losses(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        error = (self.parts["decoder"](z.movedim(-1, 1)) - x).square().mean()
        return error, error


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


TASKS: dict[str, Callable[[Mapping[str, Any], Path, int], Task]] = {"synthetic": Synthetic, "images": Images}


@torch.no_grad()
def evaluate(task: Task, quantizer: nn.Module) -> dict[str, float]:
    """Held-out error, continuous and from hard codes, and the diagnostics of the codebook."""
    from protok.quantize import diagnose

    task.parts.eval()
    quantizer.eval()
    sums = {"continuous": 0.0, "quantized": 0.0}
    latents, batches = [], task.held_out()
    for x in batches:
        z, mask = task.encode(x)
        nothing = torch.zeros(())
        c, _ = quantizer.enter(z, mask)
        ids = quantizer.nearest(c)
        for name, v in (("continuous", c), ("quantized", quantizer.codes(ids))):
            torch.manual_seed(0)
            fed = quantizer.leave(z, mask, v, ids, nothing, nothing).z
            sums[name] += float(task.losses(fed, x)[1]) / len(batches)
        latents.append(z.reshape(-1, z.shape[-1]) if mask is None else z[mask])
    usage = dataclasses.asdict(diagnose(quantizer, torch.cat(latents)))
    task.parts.train()
    quantizer.train()
    return sums | usage
