"""Names of tokenizers: the shipped weights, the alphabets, and folders on disk."""

from __future__ import annotations

from pathlib import Path

from protok.common import checkpoint
from protok.tokenizers.protocol import Tokenizer


def named_in(codebook: str, file: str | Path = "") -> str:
    """The tokenizer that a file names, as `protok.common.checkpoint.named_in`, of alphabets too."""
    from protok.tokenizers.alphabets import ALPHABETS

    return checkpoint.named_in(codebook, others=[*ALPHABETS], file=file)


def load(name: str | Path) -> Tokenizer:
    """A tokenizer by name.

    Parameters
    ----------
    name
        A model that protok ships (``protok-1``), an alphabet (``3di``,
        ``protein-blocks``), a folder with ``config.json`` and ``model.safetensors`` (a path, or
        text with a separator, as in ``./mine``), or
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
    from protok.tokenizers.shapes import ShapeTokenizer

    return ShapeTokenizer.from_pretrained(name)


def as_tokenizer(tokenizer: Tokenizer | str | Path) -> Tokenizer:
    """A tokenizer, from itself or from its name or folder."""
    return load(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
