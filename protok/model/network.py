"""The network of a tokenizer: encoder, quantizer and decoder, and its training loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from protok.model.config import ModelConfig
from protok.model.decoder import Decoder, pad
from protok.model.encoder import Encoder
from protok.model.features import Batch
from protok.model.pair_geometry import ViewDecoder
from protok.quantize import Quantized, build_quantizer
from protok.structure.geometry import linked, torsions


@dataclass
class Losses:
    """The training loss and its parts, all scalars; `quantized` is None without a codebook.

    `activations`: what a side task may ask of the residues.
    """

    total: Tensor
    shape: Tensor
    error: Tensor
    torsion: Tensor
    quantized: Quantized | None
    activations: Activations


class Network(nn.Module):
    """Encoder, quantizer and decoder of a configuration."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        dim = config.quantizer.dim
        self.encoder = Encoder(dim, **asdict(config.encoder))
        self.quantizer = build_quantizer(**asdict(config.quantizer))
        own = config.decoder
        form = (dim, own.width, own.layers, own.heads)
        self.decoder = Decoder(*form) if own.global_frame else ViewDecoder(*form, own.pair)

    def forward(
        self, batch: Batch, rows: int, seen: Batch | None = None, consistency_weight: float = 0.0
    ) -> Losses:
        """Training loss of a batch of crops.

        Parameters
        ----------
        batch
            Crops, one chain each.
        rows
            How many residues a chain, drawn anew each time, whose views are scored:
            memory and time of the pair head grow with rows, not with length squared.
        seen
            What the encoder sees, if that is not the batch itself but the batch with noise.
        consistency_weight
            Weight of the squared difference between latents of `seen` and of `batch`.
        """
        states = self.encoder.states(self.encoder.graph(batch if seen is None else seen))
        z = self.encoder.outputs(states)
        drift = z.new_zeros(())
        if seen is not None and consistency_weight:
            drift = (z - self.encoder(batch))[batch.mask].square().mean()
        quantized = self.quantizer(z, batch.mask) if self.quantizer is not None else None
        flat = z if quantized is None else quantized.z
        padded, keep = pad(flat, batch.sizes)
        present, _ = pad(batch.mask[:, None], batch.sizes)
        present = present[..., 0]
        h = self.decoder.trunk(padded, present, keep)
        coords, _ = pad(batch.coords.flatten(1), batch.sizes)
        coords = coords.unflatten(-1, (4, 3))
        torsion, bond = self._local_loss(h, batch, keep)
        with torch.autocast(h.device.type, enabled=False):
            shape, error = self.decoder.losses(h, coords, present, rows)
            total = shape + torsion + bond + consistency_weight * drift.float()
        if quantized is not None:
            total = total + quantized.loss
        return Losses(total, shape, error, torsion, quantized, Activations(states, flat, h[keep]))

    def _local_loss(self, h: Tensor, batch: Batch, keep: Tensor) -> tuple[Tensor, Tensor]:
        """1 - cos of the angle between predicted and true torsions; cross-entropy of bonds."""
        predicted, bonded = self.decoder.backbone(h[keep])
        bond = linked(batch.coords, batch.mask)
        ends = torch.tensor(batch.sizes, device=bond.device).cumsum(0)[:-1] - 1
        bond[ends] = False
        angles, defined = torsions(batch.coords, bond)
        true = torch.stack([angles.sin(), angles.cos()], dim=-1)
        gap = 1 - (predicted * true).sum(-1)
        inside = batch.mask[:-1].clone()
        inside[ends] = False
        bce = F.binary_cross_entropy_with_logits(bonded[:-1][inside], bond[inside].float())
        return (gap * defined).sum() / defined.sum().clamp(min=1), bce


@dataclass
class Activations:
    """What a network holds of each residue at its three places, chains end to end.

    Attributes
    ----------
    states : (n, h)
        The encoder after its last message.
    codes : (n, d) or None
        Code vectors, as the decoder gets them.
    decoder : (n, w) or None
        The decoder, which has read the codes of the whole chain.
    """

    states: Float[Tensor, "n h"]
    codes: Float[Tensor, "n d"] | None = None
    decoder: Float[Tensor, "n w"] | None = None

    def for_heads(self, heads: nn.ModuleDict) -> Iterator[tuple[str, Tensor, nn.Module]]:
        """Place, what is held there, and its head, where there are both."""
        for place, head in heads.items():
            held = getattr(self, place)
            if held is not None:
                yield place, held, head
