"""Images to discrete codes and back, with the quantizers of `protok.quantize` unchanged.

Convolutions take an image to a grid of latents, one for each 4 x 4, 8 x 8 or 16 x 16 pixels;
the quantizer makes codes of them, several a place with a residual quantizer, so that any
prefix of the levels decodes; convolutions lead back. Pixels are uint8, height before width
before colour. Imports nothing of proteins.
"""

# Names for type checkers look unused:
# ruff: noqa: F401

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Imported when first used: `protok --help` must not wait for torch.
_HOME = {
    "ImageTokenizer": "tokenizer",
    "ImageTokens": "tokens",
    "load_codes": "tokens",
    "save_codes": "tokens",
    "ImageConfig": "config",
    "ImageRecipe": "config",
    "read_image_recipe": "config",
    "open_pictures": "pictures",
    "as_pixels": "pixels",
    "contact_sheet": "pixels",
    "Scorer": "metrics",
}
__all__ = [*_HOME]

if TYPE_CHECKING:
    from protok.image.config import ImageConfig, ImageRecipe, read_image_recipe
    from protok.image.metrics import Scorer
    from protok.image.pictures import open_pictures
    from protok.image.pixels import as_pixels, contact_sheet
    from protok.image.tokenizer import ImageTokenizer
    from protok.image.tokens import ImageTokens, load_codes, save_codes


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"protok.image.{_HOME[name]}"), name)
    raise AttributeError(f"module 'protok.image' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
