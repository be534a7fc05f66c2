"""Discrete codes and the files they travel in: Parquet, FASTA, CSV, npz, corpora for language models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
