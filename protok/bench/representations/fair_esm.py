"""ESM-IF1 and ESM-2 through the package `fair-esm`, as continuous tokenizers.

ESM-IF1 (Hsu et al., ICML 2022) sees N, CA, C; ESM-2 (Lin et al., Science 2023) the sequence only
and stands for what a structure tokenizer must add to it. `fair-esm` was written for packages that
no longer exist in that form: what it misses is put in place while it is imported, and taken away
again. EvolutionaryScale's package has the same module name, `esm`; the two cannot be installed
together.
"""

from __future__ import annotations

import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protok.bench.representations.adapters import embed_chains, fingerprint
from protok.common.extras import Extra, MissingExtra
from protok.errors import FormatError, ProtokError
from protok.structure.backbone import Backbone
from protok.structure.io.interop import as_backbone


def _package() -> Any:
    """The module `esm` of fair-esm."""
    with Extra("bench", "a model of fair-esm"):
        import esm
        import esm.pretrained
    if not hasattr(esm, "ESM2"):
        raise ProtokError(
            "the package esm that is installed is EvolutionaryScale's, not fair-esm",
            "use an environment of its own: both have the same module name",
        )
    return esm


@contextmanager
def _stand_ins() -> Iterator[None]:
    """What `esm.inverse_folding` imports and nobody has: torch_scatter, an old name of biotite."""
    import biotite.structure as structure

    # PyG looks for torch_scatter when it is imported, and must not find this one.
    with Extra("bench", "ESM-IF1"):
        import torch_geometric.nn  # noqa: F401
        from torch_geometric.utils import scatter

    def summed(src: Tensor, index: Tensor, dim: int = -1, out=None, dim_size=None) -> Tensor:
        return scatter(src, index, dim=dim, dim_size=dim_size, reduce="sum")

    absent = "torch_scatter" not in sys.modules
    old = not hasattr(structure, "filter_backbone")
    if absent:
        sys.modules["torch_scatter"] = ModuleType("torch_scatter")
        sys.modules["torch_scatter"].__dict__.update(scatter_add=summed, scatter=scatter)
    if old:
        structure.__dict__["filter_backbone"] = structure.filter_peptide_backbone
    try:
        yield
    finally:
        if absent:
            del sys.modules["torch_scatter"]
        if old:
            del structure.__dict__["filter_backbone"]


def _model(checkpoint: dict[str, Any], family: str) -> tuple[Any, Any]:
    """Model and alphabet of a released checkpoint, with its own loader."""
    esm = _package()
    try:
        with warnings.catch_warnings():
            # Contacts are not predicted here; biotite and PyG warn of what fair-esm does.
            warnings.simplefilter("ignore")
            if family == "esm_if1":
                with _stand_ins(), Extra("bench", "ESM-IF1"):
                    import esm.inverse_folding.gvp_transformer  # noqa: F401
            model, alphabet = esm.pretrained.load_model_and_alphabet_core(family, checkpoint)
    except MissingExtra:
        raise
    except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise FormatError(f"no checkpoint of {family} ({error})", "give the weights as released") from error
    return model.eval(), alphabet


class _Continuous(ABC):
    size = 0

    def __init__(self, network: Any, name: str):
        self.network, self.name = network, name
        state = sorted(network.state_dict().items())
        self.codebook = fingerprint(
            name, (key.encode() + value.float().numpy().tobytes() for key, value in state)
        )

    @torch.no_grad()
    def embed(self, structure: Any) -> np.ndarray:
        """(L, d) float32 states, chain by chain."""
        backbone = as_backbone(structure)
        every = np.ones(len(backbone), bool)
        width = self.network.embed_tokens.embedding_dim
        return embed_chains(backbone, every, width, lambda rows: self._states(backbone, rows))

    @abstractmethod
    def _states(self, backbone: Backbone, rows: np.ndarray) -> np.ndarray:
        """(n, d) float32 states of the residues of one chain, by their row numbers."""


class InverseFolding(_Continuous):
    """The encoder of ESM-IF1: 512 numbers a residue, NaN where N, CA or C is missing.

    Chains are centred on their mean CA first. A checkpoint is as released, a dictionary with `args`
    and `model`; any other is a `FormatError`, and a package that is missing a `ProtokError`.
    """

    def __init__(self, checkpoint: dict[str, Any], *, name: str = "esm-if1"):
        model, _ = _model(checkpoint, "esm_if1")
        super().__init__(model.encoder, name)

    def _states(self, backbone: Backbone, rows: np.ndarray) -> np.ndarray:
        there = backbone.mask[rows]
        # The ends are padded with residues of infinite coordinates, as in training. The network
        # puts these at the origin, so only a centred chain gets states that a shift leaves alone.
        x = np.full((1, len(rows) + 2, 3, 3), np.inf, np.float32)
        atoms = backbone.coords[rows, :3]
        centre = atoms[there, 1].mean(0) if there.any() else np.zeros(3, np.float32)
        x[0, 1:-1] = np.where(there[:, None, None], atoms - centre, np.inf)
        confidence = np.zeros((1, len(rows) + 2), np.float32)
        confidence[0, 1:-1] = there
        padding = torch.zeros(1, len(rows) + 2, dtype=torch.bool)
        outputs = self.network(torch.from_numpy(x), padding, torch.from_numpy(confidence))
        states = outputs["encoder_out"][0][1:-1, 0].numpy().copy()
        states[~there] = np.nan
        return states


class LanguageModel(_Continuous):
    """ESM-2: the last hidden states of the sequence alone.

    A checkpoint is as released, a dictionary with `cfg` and `model`; errors as of `InverseFolding`.
    """

    def __init__(self, checkpoint: dict[str, Any], *, name: str = "esm2"):
        model, alphabet = _model(checkpoint, "esm2")
        self._convert = alphabet.get_batch_converter()
        super().__init__(model, name)

    def _states(self, backbone: Backbone, rows: np.ndarray) -> np.ndarray:
        sequence = "".join(np.array(list(backbone.sequence))[rows])
        _, _, ids = self._convert([("", sequence)])
        last = self.network.num_layers
        states = self.network(ids, repr_layers=[last])["representations"][last]
        return states[0, 1 : len(rows) + 1].numpy()
