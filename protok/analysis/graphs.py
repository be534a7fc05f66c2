"""Tokenized structures as a data set of PyTorch Geometric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from protok.common.extras import Extra
from protok.errors import NoProtein
from protok.structure.io.interop import as_backbone, to_pyg
from protok.tokenizers.protocol import Tokenizer
from protok.tokenizers.registry import as_tokenizer

with Extra("interop", "a data set of PyTorch Geometric"):
    from torch_geometric.data import InMemoryDataset


class TokenGraphs(InMemoryDataset):
    """Structures with their codes as node features and their nearest residues as edges.

    Each entry has `x` (L, 1) int64, the code or -1; `pos` (L, 4, 3), `mask`, `bfactor`,
    `sequence`, `chain`, `index`, `icode` and `name` as of `protok.structure.io.interop.to_pyg`; `edge_index`
    (2, E), from each neighbour to the residue; and `y` if labels are given. All is in memory and
    nothing is written.

    Parameters
    ----------
    structures
        Backbones, or whatever `protok.as_backbone` takes.
    tokenizer
        A tokenizer, or the name or folder of one.
    labels
        One a structure: a number or an array.
    neighbours
        Residues by CA distance that each residue has edges from; 0 for no edges.
    transform
        Of the entries when they are taken, as in PyG.

    Attributes
    ----------
    codebook, size
        Of the tokenizer.

    Raises
    ------
    NoProtein
        If there are no structures.
    """

    def __init__(
        self,
        structures: Iterable[Any],
        tokenizer: Tokenizer | str | Path = "protok-1",
        labels: Sequence[Any] | None = None,
        neighbours: int = 16,
        transform: Callable | None = None,
    ):
        super().__init__(None, transform)
        tokenizer = as_tokenizer(tokenizer)
        self.codebook, self.size = tokenizer.codebook, tokenizer.size
        entries = []
        for structure in structures:
            backbone = as_backbone(structure)
            entry = to_pyg(backbone)
            entry.x = torch.from_numpy(tokenizer.encode(backbone).ids.astype(np.int64))[:, None]
            entry.edge_index = _edges(backbone.coords[:, 1], neighbours)
            entries.append(entry)
        if not entries:
            raise NoProtein("no structures", "give at least one")
        if labels is not None:
            for entry, label in zip(entries, labels, strict=True):
                entry.y = torch.as_tensor(label).reshape(1, -1).squeeze(-1)
        self.data, self.slices = self.collate(entries)


def _edges(ca: np.ndarray, neighbours: int) -> torch.Tensor:
    """Edges from the nearest residues to each residue that has a CA, (2, E)."""
    rows = np.flatnonzero(np.isfinite(ca).all(1))
    k = min(neighbours, len(rows) - 1)
    if k < 1:
        return torch.empty((2, 0), dtype=torch.long)
    x = torch.from_numpy(ca[rows].astype(np.float32))
    # In blocks, so that memory stays linear in the length.
    near = [torch.cdist(block, x).topk(k + 1, largest=False).indices for block in x.split(1024)]
    source = torch.cat(near)
    target = torch.arange(len(rows))[:, None].expand_as(source)
    other = source != target
    # Atoms on one point may push a residue out of its own list: then there are k + 1 others.
    kept = torch.from_numpy(rows)
    return torch.stack([kept[source[other]], kept[target[other]]])
