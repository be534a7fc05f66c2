"""Untrained models, small enough for tests."""

from dataclasses import replace

import torch

from protok.model.config import (
    ConvolutionConfig,
    EnvironmentConfig,
    EnvironmentEncoderConfig,
    KeyframeConfig,
    ShapeEncoderConfig,
    ShapesConfig,
)
from protok.model.network import ShapeNetwork
from protok.quantize.config import QuantizerConfig
from protok.testing import random_backbone
from protok.tokenizers.shapes import ShapeTokenizer

SMALL = ShapesConfig(
    name="small",
    encoder=ShapeEncoderConfig(hidden=16, layers=1, window=4),
    quantizer=QuantizerConfig(size=64, dim=5),
    steps=ConvolutionConfig(width=16, layers=1, kernel=1),
    refiner=ConvolutionConfig(width=16, layers=1, kernel=1),
    keyframes=KeyframeConfig(spacings=(4, 8), sizes=(32, 64)),
)
#: The same with environment letters.
BOTH = replace(
    SMALL,
    environment=EnvironmentConfig(
        encoder=EnvironmentEncoderConfig(hidden=16, edge=8, layers=2, neighbours=8),
        quantizer=QuantizerConfig(size=48, dim=6),
    ),
)


def small(config: ShapesConfig = SMALL) -> ShapeTokenizer:
    """An untrained tokenizer whose letters are latents that chains really take."""
    torch.manual_seed(0)
    network = ShapeNetwork(config).eval()
    for spacing in config.keyframes.spacings:
        network.quantizer_of(spacing).table().mul_(2.0)
    letters = network.quantizer.table()
    latents = ShapeTokenizer(network).embed(random_backbone(len(letters), seed=1))
    letters.copy_(torch.from_numpy(latents))
    tokenizer = ShapeTokenizer(network)
    if tokenizer.environment is not None:
        table = tokenizer.environment.network.quantizer.table()
        table.copy_(torch.from_numpy(tokenizer.environment.embed(random_backbone(len(table), seed=2))))
    return ShapeTokenizer(network)


def vgg(path, width=4):
    from safetensors.torch import save_file

    from protok.image.losses import VGG16

    torch.manual_seed(0)
    state, before = {}, 3
    for number in (n for block in VGG16 for n in block):
        state[f"features.{number}.weight"] = torch.randn(width, before, 3, 3) / (3 * before**0.5)
        state[f"features.{number}.bias"] = torch.zeros(width)
        before = width
    save_file(state, path)
    return path
