from . import (
    coding as coding,
    config as config,
    dataset as dataset,
    evaluate as evaluate,
    losses as losses,
    metrics as metrics,
    network as network,
    pixels as pixels,
    tokenizer as tokenizer,
    tokens as tokens,
    training as training,
    windows as windows,
)
from .coding import compress as compress, decompress as decompress
from .config import (
    ImageConfig as ImageConfig,
    ImageRecipe as ImageRecipe,
    read_image_recipe as read_image_recipe,
)
from .dataset import open_pictures as open_pictures
from .metrics import Scorer as Scorer
from .pixels import as_pixels as as_pixels, contact_sheet as contact_sheet
from .tokenizer import ImageTokenizer as ImageTokenizer
from .tokens import ImageTokens as ImageTokens, load_codes as load_codes, save_codes as save_codes
