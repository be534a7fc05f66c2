"""ProteinMPNN whole: a sequence for a backbone, and how likely that is.

Own code for inference, as of `protok.bench.representations.proteinmpnn`; weights are those of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protok.bench.representations.proteinmpnn import SCALE, ProteinMPNN, _Encoder, _Layer, numbers
from protok.structure.backbone import AMINO_ACIDS
from protok.structure.io.interop import as_backbone


class _Designing(_Encoder):
    """The encoder, and a decoder that writes residue types in a random order."""

    def __init__(self, width: int, layers: int, neighbours: int):
        super().__init__(width, layers, neighbours, edges=True)
        kinds = len(AMINO_ACIDS) + 1
        self.W_s = nn.Embedding(kinds, width)
        self.decoder_layers = nn.ModuleList(_Written(width) for _ in range(layers))
        self.W_out = nn.Linear(width, kinds)

    def write(self, x: Tensor, position: Tensor, order: Sequence[int], choose: Any) -> Tensor:
        """Log-likelihoods of the types chosen, (L,), each of those before it in the order.

        Parameters
        ----------
        order
            In which residues are written.
        choose
            Called with a residue and its log-probabilities (21,); returns the type to write.
        """
        h, e, near = self(x, position)
        # States by layer: of residues that are not written yet, all are those of the encoder.
        states = [h] + [h.clone() for _ in self.decoder_layers]
        kinds, written = torch.zeros_like(h), torch.zeros(len(h), dtype=torch.bool)
        out = h.new_zeros(len(h))
        for i in order:
            there = written[near[i]][:, None]
            for number, layer in enumerate(self.decoder_layers):
                others = torch.where(there, states[number][near[i]], h[near[i]])
                states[number + 1][i] = layer(states[number][i], e[i], kinds[near[i]], others)
            likely = F.log_softmax(self.W_out(states[-1][i]), -1)
            kind = int(choose(i, likely))
            out[i], kinds[i], written[i] = likely[kind], self.W_s.weight[kind], True
        return out


class _Written(_Layer):
    """A layer of the decoder, for one residue at a time: its messages know residue types."""

    def __init__(self, width: int):
        super().__init__(width, last=True)
        self.W1 = nn.Linear(4 * width, width)

    def forward(self, h: Tensor, e: Tensor, kinds: Tensor, others: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]: of one residue
        own = h.expand(len(e), -1)
        message = F.gelu(self.W1(torch.cat([own, e, kinds, others], -1)))
        message = self.W3(F.gelu(self.W2(message)))
        h = self.norm1(h + message.sum(0) / SCALE)
        return self.norm2(h + self.dense["W_out"](F.gelu(self.dense["W_in"](h))))


class Designer(ProteinMPNN):
    """Writes sequences for backbones; parameters and errors are those of `ProteinMPNN`."""

    parts = (*ProteinMPNN.parts, "W_s.", "decoder_layers.", "W_out.")
    built = _Designing
    network: _Designing

    @torch.no_grad()
    def likelihood(self, structure: Any, *, temperature: float = 0.1, seed: int = 0) -> float:
        """Mean log-likelihood in nats of a residue type of a sequence that is drawn for a backbone.

        It is drawn at the temperature, as ProteinMPNN is used, and judged at a temperature of 1: what the
        model thinks of a backbone for which it may choose the sequence. Residues without N, CA, C or O are
        left out; NaN where none is left.
        """
        backbone = as_backbone(structure)
        whole = np.all(np.isfinite(backbone.coords), axis=(1, 2))
        if not whole.any():
            return float("nan")
        draws = np.random.default_rng(seed)

        def choose(i: int, likely: Tensor) -> int:
            # Nobody asks for a residue of unknown type.
            p = (likely[:-1].double() / temperature).softmax(-1).numpy()
            return int(draws.choice(len(p), p=p / p.sum()))

        x = torch.from_numpy(backbone.coords[whole])
        position = torch.from_numpy(numbers(backbone)[whole].astype(np.int64))
        order = draws.permutation(len(x)).tolist()
        return float(self.network.write(x, position, order, choose).mean())
