"""Modules that an extra brings: imported when they are needed, with a remedy where they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from protok.errors import ProtokError


def extra_module(name: str, need: str, remedy: str) -> Any:
    """A module by its name.

    Parameters
    ----------
    name
        As in an import.
    need
        What needs which package, for the message.
    remedy
        How to install the extra of protok that brings it.

    Raises
    ------
    ProtokError
        If it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ProtokError(need, remedy) from error
