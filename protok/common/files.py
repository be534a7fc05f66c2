"""Files that are whole at any moment, locks, JSON, tables of errors: what every writer shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def finite(value: Any) -> Any:
    """The same value with None for every float that is not finite."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_errors(rows: Sequence[tuple[str, str, str]], path: Path, append: bool = False) -> None:
    """Write the error table; with only its header it says that all went well."""
    how = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
    with open(path, "a" if append else "w", **how) as handle:
        if not append:
            handle.write("file\tchain\treason\n")
        handle.writelines("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)
