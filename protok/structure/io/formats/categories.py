"""Small categories of mmCIF and BinaryCIF as text."""

from __future__ import annotations

from protok.structure.io.formats import bcif, mmcif


def read_category(data: bytes, kind: str, name: str) -> dict[str, list[str]]:
    """Columns of a category by their item, all values as text; empty if the file has none.

    Parameters
    ----------
    data
        Content of the file.
    kind
        ``"mmcif"`` or ``"bcif"``.
    name
        Such as `_entity_poly`.

    Raises
    ------
    CorruptFile
        If it is damaged.
    """
    columns = mmcif.read_category(data, name) if kind == "mmcif" else bcif.read_category(data, name)
    none = (".", "?")
    return {item: ["" if value in none else value for value in values] for item, values in columns.items()}
