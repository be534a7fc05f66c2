"""Images to discrete codes and back, with the quantizers of `protok.quantize` unchanged.

Convolutions take an image to a grid of latents, one for each 4 x 4, 8 x 8 or 16 x 16 pixels;
the quantizer makes codes of them, several a place with a residual quantizer, so that any
prefix of the levels decodes; convolutions lead back. Pixels are uint8, height before width
before colour. Imports nothing of proteins.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
