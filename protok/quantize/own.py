"""Classes of users, named in a recipe or in a saved model as ``package.module:Class``.

A recipe is its user's word that its modules may be imported. A model is not: its classes are looked
up among the modules that are imported already, so that a folder of weights never runs code by itself.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from protok.errors import RecipeError, Unsupported

Own = TypeVar("Own")


def import_own(names: Iterable[str]) -> None:
    """Import the modules of ``module:Class`` or ``module``; the working folder may have them.

    Raises
    ------
    RecipeError
        If one cannot be imported.
    """
    for name in names:
        module = name.partition(":")[0]
        if (folder := os.getcwd()) not in sys.path:
            sys.path.append(folder)
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever the module does when it is imported
            cause = f"{module!r} cannot be imported ({type(error).__name__}: {error})"
            remedy = "name a module that is installed, or lies in the working folder"
            raise RecipeError(cause, remedy) from error


def make_own(name: str, base: type[Own], *arguments: Any, **options: Any) -> Own:
    """An object of a class that ``module:Class`` names.

    Parameters
    ----------
    base
        Of which it is a subclass.
    arguments, options
        Of its constructor.

    Raises
    ------
    Unsupported
        If the module is not imported.
    RecipeError
        If it has no such class, or the class cannot be called so.
    """
    module, _, attribute = name.partition(":")
    if module not in sys.modules:
        remedy = f"if you trust it: import {module}, or protok --import {module} COMMAND"
        raise Unsupported(f"it has code of its author's in {module!r}, which is not imported", remedy)
    held = vars(sys.modules[module])
    if attribute not in held:
        near = difflib.get_close_matches(attribute, held, n=3)
        remedy = f"did you mean {', '.join(near)}?" if near else "give module:Class"
        raise RecipeError(f"{module} has no {attribute!r}", remedy)
    cls = held[attribute]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise RecipeError(
            f"{name} is no subclass of {base.__module__}.{base.__name__}", "derive it from that"
        )
    try:
        return cls(*arguments, **options)
    except Exception as error:  # whatever a constructor does
        called = [*map(repr, arguments), *(f"{key}={value!r}" for key, value in options.items())]
        cause = f"{name}({', '.join(called)}) fails ({type(error).__name__}: {error})"
        raise RecipeError(
            cause, "see what its constructor takes; options are a table of the recipe"
        ) from error
