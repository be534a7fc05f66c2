"""From TOML to frozen dataclasses, strictly: what all recipes and saved configurations go through.

Knows no recipe in particular; torch is not needed to read one.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from protok.errors import RecipeError


def at_least_one(section: Any, *keys: str) -> None:
    """Raise a `RecipeError` for the first of these numbers of a section that is not positive."""
    for key in keys:
        if getattr(section, key) < 1:
            raise RecipeError(f"{key} {getattr(section, key)} is too small", "give 1 or more")


def heads_divide(width: int, heads: int) -> None:
    """Raise a `RecipeError` unless a width divides into so many heads of an even width."""
    if width % (2 * heads):
        raise RecipeError(f"width {width} does not divide into {heads} heads", "heads have an even width")


@dataclass(frozen=True)
class OptimSettings:
    """What a section ``optim`` says in every recipe.

    ``steps`` of AdamW, at a rate that rises to ``lr`` over ``lr_warmup_steps`` steps and then falls to zero;
    ``clip``: gradients have at most this norm. ``precision``: ``bf16-mixed``, ``32``, or ``auto``,
    the faster of them here.
    """

    steps: int = 6000
    lr: float = 1e-3
    weight_decay: float = 0.0
    lr_warmup_steps: int = 200
    clip: float = 1.0
    precision: str = "auto"
    seed: int = 0
    #: Numbers that are 1 or more.
    positive: ClassVar[tuple[str, ...]] = ("steps",)

    def __post_init__(self) -> None:
        at_least_one(self, *self.positive)


@dataclass(frozen=True)
class ValidSettings:
    """What a section ``valid`` says in every recipe: steps from one validation to the next."""

    every: int = 500
    #: Numbers that are 1 or more.
    positive: ClassVar[tuple[str, ...]] = ("every",)

    def __post_init__(self) -> None:
        at_least_one(self, *self.positive)


def read_settings(
    cls: type,
    path: str | Path | None,
    overrides: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Any:
    """Read a configuration dataclass from TOML and apply ``{"optim.steps": 100}`` overrides.

    Nested tables in `defaults` stand in for what the file does not say.

    Raises
    ------
    RecipeError
        For an unknown key, naming near ones, or a value of the wrong type.
    """
    raw, where = _merged({}, defaults or {}), str(path or "recipe")
    if path is not None:
        try:
            raw = _merged(raw, tomllib.loads(Path(path).read_text("utf-8")))
        except (OSError, ValueError, RecursionError) as error:  # of the system, of TOML, of UTF-8
            raise RecipeError(f"cannot read the recipe ({error})", file=str(path)) from error
    for key, value in (overrides or {}).items():
        table = raw
        *sections, last = key.split(".")
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise RecipeError(f"{section} has no keys, but {key} is given", file=where)
        table[last] = value
    try:
        return from_dict(cls, raw, where)
    except RecipeError as error:
        # Dataclasses that check themselves do not know where they come from.
        error.file = error.file or where
        raise


def _merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables as one; where both have a value, that of `high`, whose tables are copied."""
    out = dict(low)
    for key, value in high.items():
        below = out.get(key, {})
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        out[key] = _merged(below, value) if both else value
    return out


def from_dict(cls: type, raw: Mapping[str, Any], where: str, like: Any = None) -> Any:
    """Build a configuration dataclass from nested dictionaries, strictly (see `read_settings`).

    What a table leaves out is as in `like`: the default of the whole, which may be another than its own.
    """
    like = cls() if like is None else like
    defaults = vars(like)
    values = {}
    for key, value in raw.items():
        if key not in defaults:
            near = difflib.get_close_matches(key, defaults, n=3) or sorted(defaults)
            raise RecipeError(
                f"unknown key {key!r} in {cls.__name__}", f"did you mean {', '.join(near)}?", file=where
            )
        default = defaults[key]
        if dataclasses.is_dataclass(default):
            if not isinstance(value, Mapping):
                raise RecipeError(f"{key} must be a table, not {value!r}", file=where)
            values[key] = from_dict(type(default), value, where, default)
        else:
            values[key] = _coerce(key, value, default, where)
    return dataclasses.replace(like, **values)


def _coerce(key: str, value: Any, default: Any, where: str) -> Any:
    """A value as its default is; a list is of any length, its entries like the default's first."""
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(_entry(key, entry, default[0], where) if default else entry for entry in value)
    if isinstance(default, float | str) and isinstance(value, int) and not isinstance(value, bool):
        # As text: a precision of 32, say, for which a command line has no quotes.
        return type(default)(value)
    if type(value) is not type(default):
        raise RecipeError(
            f"{key} = {value!r} is of type {type(value).__name__}",
            f"it must be of type {type(default).__name__}",
            file=where,
        )
    return value


def _entry(key: str, entry: Any, like: Any, where: str) -> Any:
    if not isinstance(like, tuple):
        return _coerce(key, entry, like, where)
    if not isinstance(entry, list | tuple) or len(entry) != len(like):
        raise RecipeError(f"{key} has the entry {entry!r}", f"each has {len(like)} numbers", file=where)
    return tuple(_coerce(key, part, other, where) for part, other in zip(entry, like, strict=True))
