"""One `ProVQ` class is trained in the protein path and in the image path."""

import math

import pytest
import torch

from protok.image.config import CodebookConfig, ImageConfig
from protok.image.network import ImageNetwork
from protok.model.batch import Batch
from protok.model.config import ShapesConfig
from protok.model.loss import losses
from protok.model.network import ShapeNetwork
from protok.quantize import ProVQ
from protok.quantize.config import QuantizerConfig
from protok.testing import random_backbone


def protein():
    """The network, and the loss of a step."""
    torch.manual_seed(0)
    network = ShapeNetwork(ShapesConfig(quantizer=QuantizerConfig(size=16, dim=4)))
    batch = Batch.of([random_backbone(120, seed=1)])

    def step() -> torch.Tensor:
        return losses(network, batch, batch, 4, 0.0).total

    return network, step


def image():
    """The same of images."""
    torch.manual_seed(0)
    network = ImageNetwork(
        ImageConfig(width=8, decoder_width=8, quantizer=CodebookConfig(kind="provq", size=16, dim=4))
    )
    x = torch.rand(4, 3, 32, 32) * 2 - 1

    def step() -> torch.Tensor:
        out = network(x)
        return (out.x - x).square().mean() + out.quantized.loss

    return network, step


@pytest.mark.parametrize("path", [protein, image])
def test_one_class_goes_from_continuous_to_discrete_in_both_paths(path):
    network, step = path()
    quantizer = network.train().quantizer
    assert type(quantizer) is ProVQ
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    codebooks, totals = [], []
    for progress in (0.0, 0.1, 0.4, 0.7, 0.75):
        quantizer.progress(progress)
        total = step()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        codebooks.append(quantizer.table().clone())
        totals.append(total.item())
    assert torch.equal(codebooks[0], codebooks[1]), "continuous: nothing is learnt of the codes"
    assert bool(quantizer.initialised) and not torch.equal(codebooks[1], codebooks[2])
    assert not torch.equal(codebooks[3], codebooks[4]) and float(quantizer.hardness) == 1
    assert all(map(math.isfinite, totals))
