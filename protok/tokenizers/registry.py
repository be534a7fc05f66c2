"""Names of tokenizers: the shipped weights, the alphabets, and folders on disk."""

from __future__ import annotations

from pathlib import Path

from protok.common import checkpoint
from protok.tokenizers.protocol import Tokenizer


def is_shipped(name: str) -> bool:
    """Whether protok brings a tokenizer of this name.

    What a file names is looked up here first, so that no name inside a file becomes a path.
    """
    from protok.tokenizers.alphabets import ALPHABETS

    return name in ALPHABETS or name in checkpoint.shipped()


def load(name: str | Path) -> Tokenizer:
    """A tokenizer by name.

    Parameters
    ----------
    name
        A model that protok ships (``protok-512``), an alphabet (``3di``,
        ``protein-blocks``), a folder with ``config.json`` and ``model.safetensors``, or
        ``hf:owner/name`` or ``hf:owner/name@revision`` for a model of the Hugging Face Hub,
        which is downloaded (`protok.common.hub`). Nothing is ever downloaded without ``hf:``.

    Returns
    -------
    A tokenizer; what else it can do, `protok.tokenizers.protocol` tells.

    Raises
    ------
    FormatError
        If there is no such tokenizer; the message lists those there are.
    """
    from protok.tokenizers.alphabets import ALPHABETS

    if str(name) in ALPHABETS:
        return ALPHABETS[str(name)]()
    from protok.tokenizers.learned import StructureTokenizer

    return StructureTokenizer.from_pretrained(name)


def as_tokenizer(tokenizer: Tokenizer | str | Path) -> Tokenizer:
    """A tokenizer, from itself or from its name or folder."""
    return load(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
