"""Autoregressive models over codes: what comes next, and therefore new images and new chains.

A transformer learns sequences of codes, of images or of chains alike, with a class, a length
or a sequence of letters as a condition where wanted. `protok.prior.backbones` makes proteins of
what it samples, `protok.prior.drawing` pictures; nothing else here knows either.
"""

# Names for type checkers look unused:
# ruff: noqa: F401

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Imported when first used: `protok --help` must not wait for torch.
_HOME = {
    "Prior": "model",
    "Layout": "layout",
    "Request": "sampling",
    "sample": "sampling",
    "PriorConfig": "config",
    "PriorRecipe": "config",
    "read_prior_recipe": "config",
    "read_corpus": "corpus",
}
__all__ = [*_HOME]

if TYPE_CHECKING:
    from protok.prior.config import PriorConfig, PriorRecipe, read_prior_recipe
    from protok.prior.corpus import read_corpus
    from protok.prior.layout import Layout
    from protok.prior.model import Prior
    from protok.prior.sampling import Request, sample


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"protok.prior.{_HOME[name]}"), name)
    raise AttributeError(f"module 'protok.prior' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
