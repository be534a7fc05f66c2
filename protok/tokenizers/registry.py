"""Names of tokenizers: the shipped weights, the alphabets, and folders on disk."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from protok.common import checkpoint
from protok.errors import FormatError
from protok.tokenizers.protocol import Tokenizer

#: Which model is for which job; those of one job in a row.
USES = {
    ("protok-1",): "the default: local shape, what lies around, chains of any length, complexes",
    ("3di", "protein-blocks"): "search, local shape; they cannot be decoded",
    ("protok-image",): "images, for examples",
    ("prior-protok-1",): "new chains in codes of protok-1, by protok prior sample",
}

#: Behind a model's name and a colon: its shapes with keyframes, its environment letters, classes of these,
#: both alphabets as one.
PARTS = SHAPE, AROUND, REDUCED, BOTH = ("shape", "environment", "environment20", "both")


@dataclass(frozen=True)
class ModelRow:
    """Models of one job: their names, bits that a residue (or place of an image) costs where they code, what
    for."""

    names: tuple[str, ...]
    bits: str
    use: str


def models() -> list[ModelRow]:
    """What protok brings, and for which job."""
    return [ModelRow(names, ", ".join(map(_bits, names)), use) for names, use in USES.items()]


def _bits(name: str) -> str:
    from protok.tokenizers.alphabets import ALPHABETS

    if name in ALPHABETS:
        return f"{math.log2(ALPHABETS[name]().size):.2g}"
    config = json.loads((checkpoint.WEIGHTS / name / "config.json").read_text(encoding="utf-8"))["model"]
    if "quantizer" not in config:
        return "-"
    bits = f"{math.log2(config['quantizer']['size']):.2g}"
    if "levels" in config["quantizer"]:
        return f"{bits} a level"
    frames = config["keyframes"]
    each = sorted(math.log2(n) / s for n, s in zip(frames["sizes"], frames["spacings"], strict=True))
    around = f"{math.log2(config['environment']['quantizer']['size']):.0f} of environments"
    return f"{bits}, about {each[0]:.0f} to {each[-1]:.0f} of keyframes; beside them {around}"


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
        ``:shape`` behind it is the model without its second alphabet, ``:environment`` that
        alphabet alone, ``:environment20`` its letters in twenty classes, for tools that know amino
        acids, ``:both`` a letter for each pair of a shape and an environment.

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
    from protok.model.config import ShapesConfig
    from protok.tokenizers.environments import JointTokenizer
    from protok.tokenizers.shapes import ShapeTokenizer

    whole, _, part = str(name).rpartition(":")
    if part not in PARTS:
        return ShapeTokenizer.from_pretrained(name)
    shapes = ShapeTokenizer.from_pretrained(whole)
    if part == SHAPE:
        bare = replace(shapes.network.config, environment=ShapesConfig().environment)
        shapes.network.config, shapes.network.environment = bare, None
        return shapes
    tokenizer = around = shapes.environment
    if around is not None and part != AROUND:
        tokenizer = around.reduced if part == REDUCED else JointTokenizer(shapes, around)
    if tokenizer is None:
        what = "environment letters" if around is None else "classes of environment letters"
        raise FormatError(f"{whole} has no {what}", f"load {whole}")
    return tokenizer


def as_tokenizer(tokenizer: Tokenizer | str | Path) -> Tokenizer:
    """A tokenizer, from itself or from its name or folder."""
    return load(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
