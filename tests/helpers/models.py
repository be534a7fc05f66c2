"""Untrained models, small enough for tests."""

import dataclasses

import torch

from protok.model.config import DecoderConfig, EncoderConfig, ModelConfig, QuantizerConfig
from protok.model.network import Network
from protok.tokenizers.learned import StructureTokenizer


def small(global_frame: bool, compute: str = "torch") -> StructureTokenizer:
    """An untrained tokenizer with a codebook, small enough for tests."""
    torch.manual_seed(0)
    network = Network(
        ModelConfig(
            "small",
            EncoderConfig(hidden=32, layers=2, neighbours=8, global_frame=global_frame),
            QuantizerConfig(kind="simvq", size=64, dim=5),
            DecoderConfig(width=32, layers=1, heads=2, global_frame=True),
        )
    )
    return StructureTokenizer(network.eval(), compute=compute)


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


SMALL = ModelConfig(
    name="small",
    encoder=EncoderConfig(hidden=32, layers=2, neighbours=8),
    quantizer=QuantizerConfig(size=64, dim=8),
    decoder=DecoderConfig(width=32, layers=2, heads=2, pair=16),
)


PLACED = dataclasses.replace(
    SMALL,
    encoder=dataclasses.replace(SMALL.encoder, global_frame=True),
    decoder=dataclasses.replace(SMALL.decoder, global_frame=True),
)
