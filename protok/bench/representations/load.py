"""A name, a tokenizer or any object that embeds as a representation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from protok.bench.representations.representation import VIEWS, KMeans, Subject
from protok.errors import FormatError
from protok.structure.backbone import Backbone
from protok.tokenizers.protocol import Embeds, Tokenizer

#: What can be measured: a tokenizer, what only embeds, or the name of either.
Measurable = str | Path | Subject | Tokenizer | Embeds


def subject(given: Measurable, structures: Sequence[Backbone] = (), *, store: Path | None = None) -> Subject:
    """The subject of a name or an object.

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
    if isinstance(given, Subject):
        return given
    if not isinstance(given, str | Path):
        made = Subject(given)
        made.store = store
        return made
    if "," in str(given) and not Path(given).exists():
        raise FormatError(f"{str(given)!r} is no tokenizer", "give --model once for each")
    name, colon, view = str(given).rpartition(":")
    if not colon or not (view in VIEWS or view.startswith("kmeans")):
        name, view = str(given), "codes"
    kmeans = view.startswith("kmeans")
    made = Subject(_load(name), "continuous" if kmeans else view)
    made.store = store
    if kmeans:
        if not view[6:].isdecimal() or not int(view[6:]):
            raise FormatError(f"{given!r} is no tokenizer", "write NAME:kmeans512")
        made = Subject(KMeans(made, int(view[6:]), structures))
        made.store = store
    return made


def _load(name: str) -> Tokenizer | Embeds:
    from protok.bench.representations import adapters, controls

    if name in controls.CONTROLS:
        return controls.CONTROLS[name]()
    kind, given, path = name.partition("=")
    if kind in adapters.ADAPTERS and (given or kind == "proteinmpnn"):
        return adapters.load(kind, path or None)
    if name.endswith(".npz"):
        from protok.bench.representations.precomputed import Precomputed

        return Precomputed(name)
    if name in adapters.ADAPTERS:
        raise FormatError(f"{name} needs its weights", f"write {name}=FILE")
    from protok.tokenizers.registry import load

    return load(name)
