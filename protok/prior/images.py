"""Pictures out of a prior: tokens of sampled codes, and how like real images they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protok.errors import Unsupported
from protok.image.dataset import Pictures
from protok.image.metrics import frechet
from protok.image.tokens import ImageTokens
from protok.prior.corpus import Corpus
from protok.prior.layout import Layout
from protok.prior.sampling import Request

if TYPE_CHECKING:
    from protok.image.tokenizer import ImageTokenizer


def as_tokens(layout: Layout, codes: Sequence[np.ndarray], wanted: Sequence[Request]) -> list[ImageTokens]:
    """Tokens of sampled codes, named class/sample-0001 and so on.

    Raises
    ------
    Unsupported
        If the codes are of chains.
    """
    if not layout.grid:
        raise Unsupported(f"{layout.codebook} codes chains", "give a prior over images")
    height, width, factor = layout.pixels
    tokens = []
    for i, (ids, request) in enumerate(zip(codes, wanted, strict=True)):
        name = f"sample-{i + 1:04d}"
        name = name if request.condition is None else f"{request.condition}/{name}"
        ids = ids if layout.levels > 1 else ids[..., 0]
        tokens.append(ImageTokens(ids, layout.size, layout.codebook, height, width, factor, name))
    return tokens


def decoder(name: ImageTokenizer | str | Path, layout: Layout) -> ImageTokenizer:
    """The image tokenizer of a prior's codes: a given one, or a name or folder.

    Raises
    ------
    CodebookMismatch
        If it has another codebook.
    """
    from protok.image.tokenizer import ImageTokenizer

    tokenizer = ImageTokenizer.from_pretrained(name) if isinstance(name, str | Path) else name
    layout.check(tokenizer.codebook)
    return tokenizer


def repetition(codes: Sequence[np.ndarray], corpus: Corpus) -> float:
    """Mean over samples of the share of places whose first code is a training image's.

    Of the training image that shares most: 1 for a sample that was learned by heart.
    """
    learned = np.stack([image[..., 0].ravel() for image in corpus.codes])
    return float(np.mean([(learned == image[..., 0].ravel()).mean(1).max() for image in codes]))


def likeness(
    samples: np.ndarray, originals: Pictures, tokenizer: ImageTokenizer, inception: str | Path | None = None
) -> dict[str, Any]:
    """Fréchet distance of samples from real images, and what reconstructions would have.

    Parameters
    ----------
    samples
        (n, h, w, 3) uint8, squares.
    originals
        Real images that were not learned.
    tokenizer
        Through which as many real images go, for comparison: what the codes alone cost.
    inception
        File of Inception weights of torch-fidelity: the distance is gFID then; see
        `protok.image.metrics.frechet`.
    """
    real, some = (originals.squares(samples.shape[1], most) for most in (None, len(samples)))
    again = np.stack(tokenizer.decode_batch(tokenizer.encode_batch(some)))
    result = frechet(samples, real, inception)
    (key,) = (k for k in result if k in ("gfid", "frechet_gist"))
    return {**result, f"{key}_of_reconstructions": frechet(again, real, inception)[key]}
