"""The structure encoder of ESM3 and of its kin, without the package `esm`.

ESM3's own (4096 codes in 128 dimensions, Hayes et al., Science 2025,
https://doi.org/10.1126/science.ads0018) and the two of StructTokenBench, VanillaVQ and AminoAseed
(512 codes in 1024 dimensions, arXiv:2503.00089), share it: each residue and its 15 nearest form
a neighbourhood of frames; blocks of geometric attention work on each neighbourhood by itself,
and the residue's own state is projected and looked up in the codebook. Own code for inference
only; names of parameters are those of the released checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protok.bench.representations.adapters import embed_chains, fingerprint
from protok.errors import FormatError
from protok.structure.io.interop import as_backbone
from protok.tokens.tokens import Tokens

NEIGHBOURS = 16  # with the residue itself
RELATIVE = 32  # residues of sequence separation that are told apart
#: Neighbourhoods computed at once: (128 heads, 16, 16, 3) floats each.
ROWS = 128


class _Attention(nn.Module):
    """Attention whose queries, keys and values are vectors and points in the residues' frames."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.s_norm = nn.LayerNorm(width)
        self.proj = nn.Linear(width, 15 * heads)
        self.out_proj = nn.Linear(3 * heads, width)
        self.distance_scale_per_head = nn.Parameter(torch.zeros(heads))
        self.rotation_scale_per_head = nn.Parameter(torch.zeros(heads))

    def forward(self, s: Tensor, rotation: Tensor, origin: Tensor, queries: int) -> Tensor:
        """Update of the first `queries` residues of each neighbourhood, (n, queries, width).

        `s` is (n, k, width), `origin` (n, k, 3), and `rotation` (n, k, 3, 3): columns are the axes of
        each frame.
        """
        local = self.proj(self.s_norm(s)).unflatten(-1, (5, self.heads, 3))
        # To the common frame: directions are turned, points are moved as well.
        world = torch.einsum("nkij,nkphj->nkphi", rotation, local)
        query, key, value, query_at, key_at = world.unbind(2)
        query_at = query_at + origin[:, :, None]
        key_at = key_at + origin[:, :, None]
        query, query_at = query[:, :queries], query_at[:, :queries]
        along = torch.einsum("nqhi,nkhi->nhqk", query, key)
        apart = (query_at[:, :, None] - key_at[:, None]).square().sum(-1).sqrt().permute(0, 3, 1, 2)
        along_scale, apart_scale = (
            F.softplus(scale)[:, None, None] / 3**0.5
            for scale in (self.rotation_scale_per_head, self.distance_scale_per_head)
        )
        weight = (along_scale * along - apart_scale * apart).softmax(-1)
        out = torch.einsum("nhqk,nkhi->nqhi", weight, value)
        back = torch.einsum("nqij,nqhi->nqhj", rotation[:, :queries], out)
        return self.out_proj(back.flatten(2))


class _Gated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        gate, value = x.chunk(2, dim=-1)
        return F.silu(gate) * value


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.geom_attn = _Attention(width, heads)
        self.ffn = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * hidden), _Gated(), nn.Linear(hidden, width)
        )

    def forward(self, s: Tensor, rotation: Tensor, origin: Tensor, queries: int) -> Tensor:
        s = s[:, :queries] + self.geom_attn(s, rotation, origin, queries)
        return s + self.ffn(s)


class _Encoder(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, layers: int, out: int):
        super().__init__()
        self.transformer = nn.ModuleDict(
            {"blocks": nn.ModuleList(_Block(width, heads, hidden) for _ in range(layers))}
        )
        self.pre_vq_proj = nn.Linear(width, out)
        self.relative_positional_embedding = nn.ModuleDict(
            {"embedding": nn.Embedding(2 * RELATIVE + 2, width)}
        )

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Latents (L, out) of the residues of one chain.

        `x` is (L, 3, 3), N, CA, C in Å, all present; `index` (L,) are residue numbers.
        """
        rotation, origin = frames(x), x[:, 1]
        apart = (origin[:, None] - origin).norm(dim=-1)
        # A stable sort keeps the residue itself first, whatever coincides with it.
        near = apart.sort(dim=1, stable=True).indices[:, :NEIGHBOURS]
        offset = (index[near] - index[near[:, :1]]).clamp(-RELATIVE, RELATIVE) + RELATIVE + 1
        table = self.relative_positional_embedding["embedding"]
        blocks = list(self.transformer["blocks"].children())
        parts = []
        for rows in torch.arange(len(x)).split(ROWS):
            s, hood = table(offset[rows]), near[rows]
            for i, block in enumerate(blocks):
                # Of the last layer only the residue itself is read.
                queries = 1 if i == len(blocks) - 1 else hood.shape[1]
                # Relative to the residue: numbers stay small far from the origin.
                at = origin[hood] - origin[rows, None]
                s = block(s, rotation[hood], at, queries)
            parts.append(s[:, 0])
        return self.pre_vq_proj(torch.cat(parts))


def frames(x: Tensor) -> Tensor:
    """(L, 3, 3) frames with the axes as columns: CA minus C, then N by Gram-Schmidt.

    Parameters
    ----------
    x : (L, 3, 3)
        N, CA, C in Å.
    """
    first = F.normalize(x[:, 1] - x[:, 2], dim=-1)
    second = x[:, 0] - x[:, 1]
    second = F.normalize(second - (second * first).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


class StructureEncoder:
    """ESM3's structure tokenizer, VanillaVQ or AminoAseed: codes and latents; it does not decode.

    Parameters
    ----------
    checkpoint
        A state dict as released: of ESM3's structure encoder, or of a StructTokenBench
        tokenizer, plain or under `module` or `state_dict`. Sizes follow from the tensors.
    name
        As shown in results.

    Raises
    ------
    FormatError
        If it is no such checkpoint.
    """

    def __init__(self, checkpoint: Mapping[str, Any], *, name: str = "esm3"):
        try:
            state, codes = _parts(checkpoint)
            blocks = {int(m[1]) for k in state if (m := re.match(r"transformer.blocks.(\d+)", k))}
            out, width = state["pre_vq_proj.weight"].shape
            heads = len(state["transformer.blocks.0.geom_attn.distance_scale_per_head"])
            hidden = state["transformer.blocks.0.ffn.3.weight"].shape[1]
            self.network = _Encoder(width, heads, hidden, max(blocks) + 1, out).eval()
            self.network.load_state_dict(state)
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise FormatError(
                f"no checkpoint of an ESM3-like structure encoder ({error})", "give the weights as released"
            ) from error
        if codes.shape[1] != out:
            raise FormatError(
                f"codes of {codes.shape[1]} dimensions for latents of {out}",
                "give encoder and codebook of one model",
            )
        self._codes = codes
        self.name = name
        weights = [*(state[key] for key in sorted(state)), codes]
        self.codebook = fingerprint(name, (tensor.numpy().tobytes() for tensor in weights))
        self.size = len(codes)

    def code_vectors(self) -> np.ndarray:
        """(K, d) float32 codebook; of AminoAseed after its linear projection."""
        return self._codes.numpy()

    @torch.no_grad()
    def embed(self, structure: Any) -> np.ndarray:
        """(L, d) float32 latents before quantization, chain by chain; NaN without N, CA or C."""
        backbone = as_backbone(structure)

        def states(rows: np.ndarray) -> np.ndarray:
            x = torch.from_numpy(backbone.coords[rows, :3])
            return self.network(x, torch.from_numpy(backbone.index[rows].astype(np.int64))).numpy()

        return embed_chains(backbone, backbone.mask, self._codes.shape[1], states)

    def encode(self, structure: Any) -> Tokens:
        """The nearest code of each residue."""
        backbone = as_backbone(structure)
        z = self.embed(backbone)
        there = np.isfinite(z).all(1)
        ids = np.full(len(z), -1, np.int32)
        latents = torch.from_numpy(z[there])
        score = latents @ self._codes.T - self._codes.square().sum(1) / 2
        ids[there] = score.argmax(1).numpy()
        return Tokens.like(backbone, ids, self.size, self.codebook)


def _parts(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
    """Weights of the encoder, and code vectors."""
    for key in ("module", "state_dict"):
        if key in checkpoint:
            checkpoint = checkpoint[key]
    plain = {key.removeprefix("model."): value for key, value in checkpoint.items()}
    if "codebook.embeddings" in plain:
        state = {key: v.float() for key, v in plain.items() if not key.startswith("codebook.")}
        return state, plain["codebook.embeddings"].float()
    codes = plain["quantizer.codebook.weight"].float()
    if "quantizer.linear_proj.weight" in plain:
        codes = F.linear(
            codes, plain["quantizer.linear_proj.weight"].float(), plain["quantizer.linear_proj.bias"].float()
        )
    mark = "encoder."
    return {k[len(mark) :]: v.float() for k, v in plain.items() if k.startswith(mark)}, codes
