"""What tokens may have beside their letters, as columns of a table in which each chain is a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from protok.tokens import environment, keyframes
from protok.tokens.environment import Environment
from protok.tokens.keyframes import Keyframes

if TYPE_CHECKING:
    from protok.tokens.tokens import Tokens

#: Lists of numbers; numbers and texts that there is one of a chain.
LISTS = (*keyframes.LISTS, environment.LETTERS)
NUMBERS = ("spacing", "motions", environment.SIZE)
TEXTS = ("hangs_on", environment.CODEBOOK)
COLUMNS = (*LISTS, *NUMBERS, *TEXTS)


def columns_of(tokens: Tokens) -> dict[str, Any]:
    """A row with the columns of `COLUMNS`."""
    return keyframes.columns_of(tokens.keyframes) | environment.columns_of(tokens.environment)


def from_columns(columns: Mapping[str, Any]) -> dict[str, Keyframes | Environment | None]:
    """Fields of `Tokens` from such a row."""
    made = {"keyframes": Keyframes.from_columns(columns)}
    return {**made, "environment": Environment.from_columns(columns)}
