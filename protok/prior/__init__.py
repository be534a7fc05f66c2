"""Autoregressive models over codes: what comes next, and therefore new images and new chains.

A transformer learns sequences of codes, of images or of chains alike, with a class, a length
or a sequence of letters as a condition where wanted. `protok.prior.proteins` makes proteins of
what it samples, `protok.prior.images` pictures; nothing else here knows either.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from protok.prior.config import PriorConfig, PriorRecipe, read_prior_recipe
    from protok.prior.corpus import read_corpus
    from protok.prior.layout import Layout
    from protok.prior.model import Prior
    from protok.prior.sampling import Request, sample

# Imported when first used: `protok --help` must not wait for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["PriorConfig", "PriorRecipe", "read_prior_recipe"],
        "corpus": ["read_corpus"],
        "layout": ["Layout"],
        "model": ["Prior"],
        "sampling": ["Request", "sample"],
    },
)
