"""Methods that `torch.compile` leaves as they are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Method = TypeVar("Method", bound=Callable[..., Any])


def uncompiled(method: Method) -> Method:
    """A method between compiled graphs, not in one: `torch.compiler.disable`, asked for when first needed.

    A step of a quantizer changes codes in place that a graph may have kept for its backward pass, and goes
    on as values say, at which graphs end anyway. The compiler takes as long to import as torch itself;
    commands that only encode and decode do without.
    """
    disabled: Callable[..., Any] | None = None

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal disabled
        if disabled is None:
            disabled = torch.compiler.disable(method)
        return disabled(*args, **kwargs)

    return call  # pyright: ignore[reportReturnType]
