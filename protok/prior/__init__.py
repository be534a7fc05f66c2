"""Autoregressive models over codes: what comes next, and therefore new images and new chains.

A transformer learns sequences of codes, of images or of chains alike, with a class, a length
or a sequence of letters as a condition where wanted. `protok.prior.proteins` makes proteins of
what it samples, `protok.prior.images` pictures; nothing else here knows either.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
