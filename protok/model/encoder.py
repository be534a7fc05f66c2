"""Encoder: backbones to one invariant latent a residue.

A message-passing network over the k nearest residues in three dimensions. All
inputs are written in the residues' own right-handed frames, so that latents do
not change under rotation and translation and do change under reflection. The
messages are those of ProteinMPNN (Dauparas et al. 2022) with the first layer
factored, so that the matrix products run over residues instead of edges.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from protok.model.features import EDGE, FAR, Batch, Graph, featurize, node_features, row_blocks


class Message(nn.Module):
    """One round of messages and a feed-forward layer, both residual."""

    def __init__(self, hidden: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.here = nn.Linear(hidden, hidden)
        self.there = nn.Linear(hidden, hidden, bias=False)
        self.edge = nn.Linear(EDGE, hidden, bias=False)
        self.separation = nn.Embedding(2 * FAR + 2, hidden)
        self.out = nn.Linear(hidden, hidden)
        self.feed = nn.Sequential(
            nn.LayerNorm(hidden), nn.Linear(hidden, 3 * hidden), nn.GELU(), nn.Linear(3 * hidden, hidden)
        )

    def forward(self, h: Float[Tensor, "n h"], graph: Graph) -> Float[Tensor, "n h"]:
        """Update the residues' states from their neighbours'."""
        if not torch.is_grad_enabled():
            return self._infer(h, graph)
        x = self.norm(h)
        there = self.there(x)
        gathered = there.index_select(0, graph.index.flatten()).view(*graph.index.shape, x.shape[-1])
        edge = self.edge(graph.edge) + self.separation(graph.separation).to(there.dtype)
        message = F.gelu(self.here(x)[:, None] + gathered + edge)
        message = (message * graph.valid[..., None].to(message.dtype)).sum(1)
        return self.update(h, message, graph.index.shape[1])

    def update(self, h: Float[Tensor, "n h"], summed: Float[Tensor, "n h"], k: int) -> Float[Tensor, "n h"]:
        """States after the sums of the messages of `k` neighbours, and the feed-forward layer."""
        h = h + self.out(summed) / k
        return h + self.feed(h)

    def _infer(self, h: Tensor, graph: Graph) -> Tensor:
        """The same in place and in pieces: messages stay in the cache, memory is small."""
        x = self.norm(h)
        here, there = self.here(x), self.there(x)
        separation = self.separation.weight.to(there.dtype)
        complete, step = bool(graph.valid.all()), row_blocks(h)
        summed = []
        for start in range(0, len(h), step):
            rows = slice(start, start + step)
            message = self.edge(graph.edge[rows].flatten(0, 1))
            message += separation.index_select(0, graph.separation[rows].flatten())
            message += there.index_select(0, graph.index[rows].flatten())
            message = message.view(-1, graph.index.shape[1], message.shape[-1])
            message += here[rows, None]
            message = F.gelu(message)
            if not complete:
                message *= graph.valid[rows, :, None]
            summed.append(message.sum(1))
        if not summed:
            return h
        parts = zip(h.split(2 * step), torch.cat(summed).split(2 * step), strict=True)
        return torch.cat([self.update(part, message, graph.index.shape[1]) for part, message in parts])


class Encoder(nn.Module):
    """Local SE(3)-invariant encoder; see the module docstring.

    Parameters
    ----------
    dim
        Dimension of the latents. They are normalised to zero mean and unit
        variance a residue, so that their scale cannot be used to soften a codebook.
    hidden, layers, neighbours
        Width, rounds of messages, neighbours a residue.
    """

    def __init__(
        self,
        dim: int = 32,
        hidden: int = 128,
        layers: int = 3,
        neighbours: int = 16,
        global_frame: bool = False,
    ):
        super().__init__()
        self.neighbours, self.global_frame = neighbours, global_frame
        self.inputs = nn.Linear(node_features(global_frame), hidden)
        self.messages = nn.ModuleList(Message(hidden) for _ in range(layers))
        self.outputs = nn.Sequential(
            nn.LayerNorm(hidden), nn.Linear(hidden, dim), nn.LayerNorm(dim, elementwise_affine=False)
        )

    def forward(self, batch: Batch) -> Float[Tensor, "n d"]:
        """Latents of all residues; those of incomplete residues mean nothing."""
        return self.outputs(self.states(self.graph(batch)))

    def graph(self, batch: Batch) -> Graph:
        """The features that this encoder reads."""
        with torch.autocast(batch.coords.device.type, enabled=False):
            return featurize(batch, self.neighbours, self.global_frame)

    def states(self, graph: Graph) -> Float[Tensor, "n h"]:
        """What residues know after the last message, before it is projected to latents."""
        # The residual stream stays in float32 under autocast.
        h = self.inputs(graph.node).float()
        for message in self.messages:
            h = message(h, graph)
        return h
