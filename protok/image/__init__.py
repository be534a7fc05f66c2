"""Images to discrete codes and back, with the quantizers of `protok.quantize` unchanged.

Convolutions take an image to a grid of latents, one for each 4 x 4, 8 x 8 or 16 x 16 pixels;
the quantizer makes codes of them, several a place with a residual quantizer, so that any
prefix of the levels decodes; convolutions lead back. Pixels are uint8, height before width
before colour. Imports nothing of proteins.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from protok.image.config import ImageConfig, ImageRecipe, read_image_recipe
    from protok.image.dataset import open_pictures
    from protok.image.metrics import Scorer
    from protok.image.pixels import as_pixels, contact_sheet
    from protok.image.tokenizer import ImageTokenizer
    from protok.image.tokens import ImageTokens, load_codes, save_codes

# Imported when first used: `protok --help` must not wait for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["ImageConfig", "ImageRecipe", "read_image_recipe"],
        "dataset": ["open_pictures"],
        "metrics": ["Scorer"],
        "pixels": ["as_pixels", "contact_sheet"],
        "tokenizer": ["ImageTokenizer"],
        "tokens": ["ImageTokens", "load_codes", "save_codes"],
    },
)
