"""A name, a tokenizer or any object that embeds as a representation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from protok.bench.representations.kmeans import KMeans
from protok.bench.representations.representation import LAYERS, Representation
from protok.errors import FormatError
from protok.structure.backbone import Backbone
from protok.tokenizers.protocol import Embeds, Tokenizer

#: `kmeans512`, or `kmeans512-8A`.
KMEANS = re.compile(r"kmeans([1-9]\d*)(?:-([1-9]\d*)A)?")
#: What can be measured: a tokenizer, what only embeds, or the name of either.
Measurable = str | Path | Representation | Tokenizer | Embeds


def representation(
    tokenizer: Measurable, structures: Sequence[Backbone] = (), *, store: Path | None = None
) -> Representation:
    """The representation of a name or an object.

    Parameters
    ----------
    structures
        What k-means centres are made from.
    store
        Folder that keeps outputs between runs.

    Raises
    ------
    FormatError
        If the name is not known.
    """
    if isinstance(tokenizer, Representation):
        return tokenizer
    centres = None
    if isinstance(tokenizer, str | Path):
        if "," in str(tokenizer) and not Path(tokenizer).exists():
            raise FormatError(f"{str(tokenizer)!r} is no tokenizer", "give --model once for each")
        name, colon, layer = str(tokenizer).rpartition(":")
        if not colon or not (layer in LAYERS or layer.startswith("kmeans")):
            name, layer = str(tokenizer), "codes"
        if layer.startswith("kmeans"):
            centres, layer = KMEANS.fullmatch(layer), "continuous"
            if centres is None:
                raise FormatError(
                    f"{tokenizer!r} is no tokenizer", "write NAME:kmeans512, or NAME:kmeans512-8A"
                )
        made = Representation(_load(name), layer)
    else:
        made = Representation(tokenizer)
    made.store = store
    if centres:
        made = Representation(KMeans(made, int(centres[1]), structures, float(centres[2] or 0)))
        made.store = store
    return made


def _load(name: str) -> Tokenizer | Embeds:
    from protok.bench.representations import adapters, controls, reference_codec

    if name in controls.CONTROLS:
        return controls.CONTROLS[name]()
    if name in reference_codec.CODECS:
        return reference_codec.ReferenceCodec(reference_codec.CODECS[name])
    kind, equals, path = name.partition("=")
    if kind in adapters.ADAPTERS and (equals or kind == "proteinmpnn"):
        return adapters.load(kind, path or None)
    if name.endswith((".npz", ".parquet", ".fasta", ".csv")):
        from protok.bench.representations.precomputed import Precomputed

        return Precomputed(name)
    if name in adapters.ADAPTERS:
        raise FormatError(f"{name} needs its weights", f"write {name}=FILE")
    from protok.tokenizers.registry import load

    return load(name)
