"""Environment encoder: what a residue is for, from what lies around it in space."""

from __future__ import annotations

from dataclasses import asdict

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from protok.model.batch import Batch
from protok.model.config import EnvironmentConfig
from protok.model.surroundings import EDGE, NODE, Surroundings, surroundings
from protok.quantize import build_quantizer

#: Residues whose neighbours are listened to at once: their messages stay in a processor's cache.
TOGETHER = 256
#: Letters of the reduced alphabet: as many as tools for amino acids have.
CLASSES = 20


class Gather(nn.Module):
    """One round: each residue sums what its neighbours say, weighed by how they lie.

    Messages are products of a neighbour's state and a filter of its place, as in SchNet (Schütt et al. 2017,
    arXiv 1706.08566): no matrix is multiplied for each of them but the filter's.
    """

    def __init__(self, hidden: int, edge: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.say = nn.Linear(hidden, hidden)
        self.filter = nn.Linear(edge, hidden)
        self.hear = nn.Linear(hidden, hidden)
        self.think = nn.Sequential(
            nn.LayerNorm(hidden), nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden)
        )

    def forward(self, h: Tensor, e: Tensor, around: Surroundings) -> Float[Tensor, "n h"]:
        say = self.say(self.norm(h))
        parts = (part.split(TOGETHER) for part in (around.near, around.there, e))
        heard = [self.listen(say, *part) for part in zip(*parts, strict=True)]
        h = h + self.hear(F.gelu(torch.cat(heard)))
        return h + self.think(h)

    def listen(self, say: Tensor, near: Tensor, there: Tensor, e: Tensor) -> Float[Tensor, "m h"]:
        """Sums of what the neighbours of some residues say."""
        words = say.index_select(0, near.flatten()).view(*near.shape, say.shape[1]) * self.filter(e)
        return (there[:, None].to(words) @ words)[:, 0] / near.shape[1] ** 0.5


class EnvironmentEncoder(nn.Module):
    """Latents of residues from their surroundings.

    Parameters
    ----------
    dim
        Dimension of the latents, which have zero mean and unit variance a residue.
    hidden, edge, layers
        Width of residues and of neighbours, and rounds of messages.
    neighbours
        Nearest residues of the same chain that send any.
    """

    def __init__(self, dim: int, hidden: int, edge: int, layers: int, neighbours: int):
        super().__init__()
        self.neighbours = neighbours
        self.node = nn.Sequential(nn.Linear(NODE, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.edge = nn.Sequential(nn.Linear(EDGE, edge), nn.GELU())
        self.layers = nn.ModuleList(Gather(hidden, edge) for _ in range(layers))
        self.outputs = nn.Sequential(
            nn.LayerNorm(hidden), nn.Linear(hidden, dim), nn.LayerNorm(dim, elementwise_affine=False)
        )

    def forward(self, around: Surroundings) -> Float[Tensor, "n d"]:
        """Latents of all residues; those of incomplete residues mean nothing."""
        return self.outputs(self.states(around))

    def states(self, around: Surroundings) -> Float[Tensor, "n h"]:
        """What residues know before it is projected to latents."""
        h, e = self.node(around.nodes), self.edge(around.edges)
        for layer in self.layers:
            h = layer(h, e, around)
        return h


class EnvironmentNetwork(nn.Module):
    """Encoder and codebook of a configuration."""

    scores: Tensor
    classes: Tensor
    class_scores: Tensor

    def __init__(self, config: EnvironmentConfig):
        super().__init__()
        self.config = config
        self.encoder = EnvironmentEncoder(config.quantizer.dim, **asdict(config.encoder))
        self.quantizer = build_quantizer(**asdict(config.quantizer))
        # What aligned letters score, counted in homologs; of each its class in the reduced alphabet, and what
        # these score. Zeros where nobody counted.
        letters, kind = config.quantizer.size, torch.int16
        self.register_buffer("scores", torch.zeros(letters, letters, dtype=kind))
        self.register_buffer("classes", torch.zeros(letters, dtype=kind))
        self.register_buffer("class_scores", torch.zeros(CLASSES, CLASSES, dtype=kind))

    def latents(self, batch: Batch) -> Float[Tensor, "n d"]:
        """Latents of all residues; those of incomplete residues mean nothing."""
        return self.encoder(surroundings(batch, self.encoder.neighbours))

    def states(self, batch: Batch) -> Float[Tensor, "n h"]:
        """What the encoder knows of all residues, before it is projected to latents."""
        return self.encoder.states(surroundings(batch, self.encoder.neighbours))
