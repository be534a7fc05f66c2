"""Discrete codes and the files they travel in: Parquet, FASTA, CSV, npz, corpora for language models."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from protok.tokens.files import load, save, scan
    from protok.tokens.tokens import Tokens
    from protok.tokens.vocabulary import Vocabulary

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"files": ["load", "save", "scan"], "tokens": ["Tokens"], "vocabulary": ["Vocabulary"]},
)
