from . import (
    batches as batches,
    decode as decode,
    embed as embed,
    encode as encode,
    images as images,
    inputs as inputs,
    journal as journal,
    output as output,
    ray as ray,
)
