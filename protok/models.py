"""Names of tokenizers: the shipped weights, the alphabets, and folders on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: Alphabets with rules instead of weights.
ALPHABETS = {"3di": "ThreeDi", "protein-blocks": "ProteinBlocks"}


def load(name: str | Path) -> Any:
    """A tokenizer by name.

    Parameters
    ----------
    name
        A model that protok ships (``protok-512``), an alphabet (``3di``,
        ``protein-blocks``), or a folder with ``config.json`` and ``model.safetensors``.

    Returns
    -------
    A tokenizer: `encode`, `decode`, `embed`, `name`, `size`, `codebook`.

    Raises
    ------
    FormatError
        If there is no such tokenizer; the message lists those there are.
    """
    if str(name) in ALPHABETS:
        from protok import baselines

        return getattr(baselines, ALPHABETS[str(name)])()
    from protok.tokenizer import StructureTokenizer

    return StructureTokenizer.from_pretrained(name)
