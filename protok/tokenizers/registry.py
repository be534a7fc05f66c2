"""Names of tokenizers: the shipped weights, the alphabets, and folders on disk."""

from __future__ import annotations

from pathlib import Path

from protok.common import checkpoint
from protok.errors import Unsupported
from protok.tokenizers.protocol import Tokenizer


def named_in(codebook: str, file: str | Path = "") -> str:
    """The tokenizer that a file names, as `protok.common.checkpoint.named_in`, of alphabets too."""
    from protok.tokenizers.alphabets import ALPHABETS

    return checkpoint.named_in(codebook, others=[*ALPHABETS], file=file)


def load(name: str | Path, *, compute: str = "auto") -> Tokenizer:
    """A tokenizer by name.

    Parameters
    ----------
    name
        A model that protok ships (``protok-512``), an alphabet (``3di``,
        ``protein-blocks``), a folder with ``config.json`` and ``model.safetensors`` (a path, or
        text with a separator, as in ``./mine``), or
        ``hf:owner/name`` or ``hf:owner/name@revision`` for a model of the Hugging Face Hub,
        which is downloaded (`protok.common.hub`). Nothing is ever downloaded without ``hf:``.
    compute
        How codes of a learned tokenizer are computed on a CPU; they are the same either way:
        ``native`` in C++, in half the time (`protok.tokenizers.native`), ``torch``, or ``auto``
        for ``native`` where there is a C++ compiler and it works, else ``torch``. Embeddings and
        states are computed by torch, and on a GPU everything is.

    Returns
    -------
    A tokenizer; what else it can do, `protok.tokenizers.protocol` tells. A learned one says in
    `compute` which it is, ``native`` or ``torch``.

    Raises
    ------
    FormatError
        If there is no such tokenizer; the message lists those there are.
    ProtokError
        If ``native`` is asked for and impossible, or there is no such way to compute.
    """
    from protok.tokenizers.alphabets import ALPHABETS

    if str(name) in ALPHABETS:
        if compute not in ("auto", "torch"):
            raise Unsupported(f"{name} has no network to compute so", "leave --compute out")
        return ALPHABETS[str(name)]()
    if str(name).startswith("hf:"):
        from protok.common.hub import download

        name = download(str(name))
    if checkpoint.has_keyframes(checkpoint.find_model(name, others=[*ALPHABETS])):
        from protok.tokenizers.shapes import ShapeTokenizer

        if compute == "native":
            raise Unsupported(f"{name} has no native encoder", "leave --compute out")
        return ShapeTokenizer.from_pretrained(name)
    from protok.tokenizers.learned import StructureTokenizer

    return StructureTokenizer.from_pretrained(name, compute=compute)


def as_tokenizer(tokenizer: Tokenizer | str | Path) -> Tokenizer:
    """A tokenizer, from itself or from its name or folder."""
    return load(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
