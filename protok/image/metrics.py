"""How good reconstructions are: PSNR, SSIM, MSE, and a distance between distributions.

The Fréchet distance between features of reconstructions and originals is called rFID only
with the Inception weights of its evaluator, which the caller gives. Without them the
features are those of `Gist`, and the number is called ``frechet_gist``: it compares models
with each other on one set of images and with nothing published.
"""

from __future__ import annotations

import hashlib
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from protok.common.extras import Extra
from protok.errors import ProtokError

#: Side of the window of SSIM; smaller images have none.
WINDOW = 11


def torchmetrics(part: str) -> Any:
    """A module of ``torchmetrics``.

    Raises
    ------
    MissingExtra
        If it is not installed.
    """
    with Extra("image", "scoring images"):
        return import_module(f"torchmetrics.{part}")


class Gist(nn.Module):
    """Strength of edges by orientation, scale and place, and colours: 132 features.

    Energies of Gabor filters in six orientations at three scales: of lightness in 2 x 2
    cells, of two opponent colours over the image; mean and deviation of each channel in the
    cells. After the gist of Oliva and Torralba (2001), with fewer cells, so that a few
    hundred images give a covariance. Nothing is learned or random.
    """

    num_features = 132
    #: Of an image, so that the coarsest scale has room for a filter.
    smallest = 20
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", _gabor(), persistent=False)

    def forward(self, x: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 132"]:
        """Features in units of pixel values.

        Raises
        ------
        ValueError
            If a side has less than 20 pixels.
        """
        if min(x.shape[2:]) < self.smallest:
            raise ValueError(f"images of {tuple(x.shape[2:])} pixels; at least 20 are needed")
        r, g, b = x.float().unbind(1)
        x = torch.stack([0.299 * r + 0.587 * g + 0.114 * b, r - g, (r + g) / 2 - b], dim=1)
        mean = F.adaptive_avg_pool2d(x, 2)
        spread = (F.adaptive_avg_pool2d(x.square(), 2) - mean.square()).clamp(min=0).sqrt()
        features = [mean.flatten(1), spread.flatten(1)]
        for _ in range(3):
            energy = self._energy(x)
            features.append(F.adaptive_avg_pool2d(energy[:, 0], 2).flatten(1))
            features.append(energy[:, 1:].mean((-1, -2)).flatten(1))
            x = F.avg_pool2d(x, 2)
        return torch.cat(features, dim=1)

    def _energy(self, x: Tensor) -> Tensor:
        flat = F.pad(x.flatten(0, 1)[:, None], (4, 4, 4, 4), mode="reflect")
        even, odd = F.conv2d(flat, self.filters).unflatten(0, x.shape[:2]).chunk(2, dim=2)
        return (even.square() + odd.square()).sqrt()


def _gabor() -> Tensor:
    """Even and odd filters (12, 1, 9, 9), six orientations, a wavelength of 4 pixels."""
    y, x = torch.meshgrid(torch.arange(-4.0, 5), torch.arange(-4.0, 5), indexing="ij")
    window = torch.exp(-(x.square() + y.square()) / (2 * 2.0**2))
    window = window / window.sum()
    angles = torch.arange(6) * math.pi / 6
    phase = [2 * math.pi / 4 * (x * math.cos(a) + y * math.sin(a)) for a in angles]
    even = [window * p.cos() for p in phase]
    # Flat regions must have no energy.
    even = [f - window * f.sum() for f in even]
    return torch.stack(even + [window * p.sin() for p in phase])[:, None]


class Scorer:
    """Scores of reconstructions, added batch by batch; images may differ in size.

    PSNR (in decibels, 100 for an exact copy) and SSIM (Wang et al. 2004, Gaussian window; of
    images of at least 11 pixels) are means over images, MSE is of pixels in 0..1.

    Parameters
    ----------
    frechet
        Whether to measure a Fréchet distance: of images of at least 20 pixels, nan without.
    inception
        File of the Inception weights of torch-fidelity
        (``weights-inception-2015-12-05-6726825d.pth``): the distance is rFID then.
    """

    def __init__(self, *, frechet: bool = True, inception: str | Path | None = None):
        self._metrics = torchmetrics("functional.image")
        self.n, self.with_ssim, self.with_features = 0, 0, 0
        self.sums = {"psnr": 0.0, "ssim": 0.0, "mse": 0.0}
        self.evaluator, self._distance, self._smallest = "", None, 1
        if frechet or inception is not None:
            self.key, self._distance, self.evaluator, self._smallest = _evaluator(inception)

    @torch.no_grad()
    def add(self, images: np.ndarray, originals: np.ndarray) -> None:
        """Count reconstructions and their originals, (n, h, w, 3) uint8 each.

        Raises
        ------
        ValueError
            If they differ in shape.
        """
        if images.shape != originals.shape or images.ndim != 4:
            raise ValueError(f"shapes {images.shape} and {originals.shape} are not alike")
        x, y = (torch.from_numpy(a).movedim(-1, 1).contiguous() for a in (images, originals))
        self.n += len(x)
        a, b = x.float(), y.float()
        error = (a - b).square().mean((1, 2, 3)) / 255**2
        self.sums["mse"] += float(error.double().sum())
        shared = {"data_range": 255.0, "reduction": "none"}
        psnr = self._metrics.peak_signal_noise_ratio(a, b, dim=(1, 2, 3), **shared)
        self.sums["psnr"] += float(psnr.nan_to_num(100.0).clamp(max=100.0).sum())
        if min(x.shape[2:]) >= WINDOW:
            ssim = self._metrics.structural_similarity_index_measure(a, b, **shared)
            self.sums["ssim"] += float(ssim.sum())
            self.with_ssim += len(x)
        if self._distance is not None and min(x.shape[2:]) >= self._smallest:
            self._distance.update(y, real=True)
            self._distance.update(x, real=False)
            self.with_features += len(x)

    def result(self) -> dict[str, Any]:
        """``n``, ``psnr``, ``ssim``, ``mse``, and the distance by its name with its evaluator.

        Raises
        ------
        ValueError
            Without images.
        """
        if not self.n:
            raise ValueError("no images were added")
        n = {"psnr": self.n, "mse": self.n, "ssim": self.with_ssim}
        scores: dict[str, Any] = {"n": self.n}
        scores |= {k: self.sums[k] / n[k] if n[k] else math.nan for k in n}
        if self._distance is not None:
            scores[self.key] = float(self._distance.compute()) if self.with_features > 1 else math.nan
            scores["evaluator"] = f"{self.evaluator}; reference: {self.with_features} originals"
        return scores


@torch.no_grad()
def frechet(images: np.ndarray, originals: np.ndarray, inception: str | Path | None = None) -> dict[str, Any]:
    """Distance between two sets of images, (n, h, w, 3) uint8 each, as of samples and originals.

    It is called ``gfid`` with Inception weights and ``frechet_gist`` without, as for `Scorer`.
    Both shrink with the number of images: compare equal numbers only.

    Raises
    ------
    ValueError
        If images are too small, or there are fewer than two.
    """
    key, distance, evaluator, smallest = _evaluator(inception)
    for x, real in ((originals, True), (images, False)):
        if len(x) < 2 or min(x.shape[1:3]) < smallest:
            raise ValueError(f"{len(x)} images of {x.shape[1:3]} pixels are too few or too small")
        for start in range(0, len(x), 64):
            part = torch.from_numpy(np.ascontiguousarray(x[start : start + 64])).movedim(-1, 1)
            distance.update(part.contiguous(), real=real)
    return {
        "gfid" if key == "rfid" else key: float(distance.compute()),
        "samples": len(images),
        "evaluator": f"{evaluator}; reference: {len(originals)} originals",
    }


def _evaluator(inception: str | Path | None) -> tuple[str, Any, str, int]:
    """Name of a distance, the distance, what it is called, smallest side of an image."""
    distance = torchmetrics("image.fid").FrechetInceptionDistance
    if inception is None:
        return "frechet_gist", distance(Gist()), "protok.image.metrics.Gist", Gist.smallest
    weights = Path(inception)
    if not weights.is_file():
        raise ProtokError("no such file of Inception weights", "check the path", file=str(weights))
    try:
        inception_distance = distance(2048, feature_extractor_weights_path=str(weights))
    except ModuleNotFoundError as error:
        raise ProtokError("rFID needs torch-fidelity", "pip install torch-fidelity") from error
    except Exception as error:
        # Whatever the reader of the weights stumbles over.
        raise ProtokError(
            f"not the Inception weights of torch-fidelity ({error})",
            "they are called weights-inception-2015-12-05-6726825d.pth",
            file=str(weights),
        ) from error
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    evaluator = f"torch-fidelity InceptionV3, 2048 features, weights sha256 {digest}"
    return "rfid", inception_distance, evaluator, 1
