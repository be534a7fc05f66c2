"""Tables as tab-separated text, a row a dataclass."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import fields
from typing import IO, Any
from urllib.parse import quote


def write_table(kind: type, rows: Iterable[Any], handle: IO[str]) -> None:
    """Write instances of a dataclass: a line with the names of its fields, then a line each.

    Floats have four digits, small ones three; NaN is an empty cell.
    """
    names = [field.name for field in fields(kind)]
    handle.write("\t".join(names) + "\n")
    for row in rows:
        handle.write("\t".join(_cell(getattr(row, name)) for name in names) + "\n")


def word(text: str, also: str = "") -> str:
    """The text as one word: blanks, and characters of `also`, are %20 and the like."""
    return re.sub(rf"[\s{re.escape(also)}]", lambda character: quote(character[0], ""), text)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3g}" if abs(value) < 1e-3 else f"{value:.4g}"
    # Names come from files: they must not make cells or rows of their own.
    return re.sub(r"[^\S ]", lambda blank: quote(blank[0]), str(value))
