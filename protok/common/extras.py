"""Packages that an extra brings: where one is missing, an error says what needs it and how to install it."""

from __future__ import annotations

from protok.errors import ProtokError


class MissingExtra(ProtokError, ImportError):
    """A package is not installed that only some need."""


class Extra:
    """Around the imports of packages that an extra of protok brings.

    Only a package that is missing is an error that names the extra; one that is there and broken says
    itself what is wrong with it.

    Parameters
    ----------
    name
        Of the extra, as in ``setup.cfg``.
    what
        Needs the packages, for the message.
    otherwise
        What to do instead, if there is something.

    Raises
    ------
    MissingExtra
        At the end of the block, if a package is not installed.

    Examples
    --------
    >>> with Extra("train", "a picture"):
    ...     import no_such_package
    Traceback (most recent call last):
    protok.common.extras.MissingExtra: a picture needs no_such_package; pip install 'protok[train]'
    """

    def __init__(self, name: str, what: str, *, otherwise: str = ""):
        self.name, self.what, self.otherwise = name, what, otherwise

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            remedies = filter(None, [f"pip install 'protok[{self.name}]'", self.otherwise])
            raise MissingExtra(f"{self.what} needs {error.name}", ", or ".join(remedies)) from error
