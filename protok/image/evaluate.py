"""A whole collection of images through a tokenizer, and what came of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from protok.errors import FormatError
from protok.image.coding import code_lengths
from protok.image.dataset import Pictures, held_out
from protok.image.metrics import Scorer
from protok.image.pixels import contact_sheet, fitted, write_pixels
from protok.image.tokenizer import ImageTokenizer
from protok.image.tokens import ImageTokens
from protok.quantize.diagnostics import spread
from protok.quantize.usage import perplexity, share_used

#: Images that go through together.
BATCH = 64
#: Images on a sheet.
SHOWN = 12
#: Pixels of the longer side of an image on a sheet of levels, at least and at most.
SIDES = 96, 384


def score(
    tokenizer: ImageTokenizer,
    images: str | Path | Pictures,
    *,
    size: int | None = None,
    levels: int | None = None,
    most: int | None = None,
    inception: str | Path | None = None,
    sheet: str | Path | None = None,
) -> dict[str, Any]:
    """Reconstruct images from their codes and score the result.

    Parameters
    ----------
    tokenizer
        With a codebook.
    images
        A collection (see `protok.image.open_pictures`); of one with parts the held-out one.
    size
        Score squares of so many pixels; without it the images as they are.
    levels
        Decode only the first levels.
    most
        At most so many images, evenly spread over the collection.
    inception
        File of Inception weights, for rFID (see `protok.image.Scorer`).
    sheet
        Where to write the first 12 images above their reconstructions.

    Returns
    -------
    dict
        Of `Scorer.result`, and over all codes ``usage`` (share of the codes), ``perplexity``
        and ``code_dimension``, means over levels; ``bits_per_pixel``, and ``coded_bits_per_pixel`` where the
        model says the chances of its codes (see `protok.image.coding`); ``failed`` has a row, file and
        reason, of each image that cannot be read and is left out.

    Raises
    ------
    FormatError
        If there are no images, none can be read, or they differ in size and `size` is not given.
    """
    if isinstance(images, str | Path):
        images = held_out(images)
    images = images.some(most)
    scorer = Scorer(inception=inception)
    counts = np.zeros((levels or tokenizer.levels, tokenizer.size), np.int64)
    shown: list[list[np.ndarray]] = [[], []]
    bits, coded, scored = 0.0, 0.0, 0
    failed: list[dict[str, str]] = []
    readable = images.readable(size, failed)
    while x := list(itertools.islice(readable, BATCH)):
        scored += len(x)
        if len({image.shape for image in x}) > 1:
            raise FormatError("the images differ in size", "give --size, or size=")
        tokens = [codes.prefix(levels) for codes in tokenizer.encode_batch(x)]
        again = tokenizer.decode_batch(tokens)
        scorer.add(np.stack(again), np.stack(x))
        if tokenizer.network.context is not None:
            lengths = code_lengths(tokenizer, tokens)
            coded += sum(n / (codes.height * codes.width) for n, codes in zip(lengths, tokens, strict=True))
        for codes in tokens:
            bits += codes.bits_per_pixel
            for level, ids in enumerate(codes.ids.reshape(-1, codes.levels).T):
                counts[level] += np.bincount(ids, minlength=tokenizer.size)
        room = max(0, SHOWN - len(shown[0]))
        shown[0] += x[:room]
        shown[1] += again[:room]
    if not scored:
        raise FormatError(f"none of {len(images)} images can be read", failed[0]["reason"])
    if sheet is not None:
        write_pixels(contact_sheet(shown, zoom=max(1, 96 // shown[0][0].shape[0])), sheet)
    return {
        **scorer.result(),
        "codebook": tokenizer.codebook,
        "codes": tokenizer.size,
        "levels": len(counts),
        "bits_per_pixel": bits / scored,
        **({} if tokenizer.network.context is None else {"coded_bits_per_pixel": coded / scored}),
        **usage(tokenizer, counts),
        "failed": failed,
    }


def progressive(
    tokenizer: ImageTokenizer,
    images: str | Path | Pictures,
    *,
    size: int | None = None,
    most: int | None = None,
    inception: str | Path | None = None,
    sheet: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Score every prefix of the levels, coarse to fine: what each more bit buys.

    Parameters are those of `score`; the sheet has originals in its first row and below them
    what one level, two levels and so on make of them.
    """
    scores = [
        score(tokenizer, images, size=size, levels=m, most=most, inception=inception)
        for m in range(1, tokenizer.levels + 1)
    ]
    if sheet is not None:
        pictures = (images if isinstance(images, Pictures) else held_out(images)).some(SHOWN)
        x = list(pictures.readable(size, []))
        draw_levels(tokenizer, x, tokenizer.encode_batch(x), sheet)
    return scores


def draw_levels(
    tokenizer: ImageTokenizer,
    originals: Sequence[np.ndarray],
    tokens: Sequence[ImageTokens],
    path: str | Path,
) -> Path:
    """Write a sheet: originals above what one level of their codes, two levels and so on make of them."""
    levels = min(image.levels for image in tokens)
    rows = [originals] + [tokenizer.decode_batch(tokens, levels=m + 1) for m in range(levels)]
    longest = min(max(SIDES[0], *(max(image.shape) for image in originals)), SIDES[1])
    return write_pixels(contact_sheet([[fitted(image, longest) for image in row] for row in rows]), path)


@torch.no_grad()
def usage(tokenizer: ImageTokenizer, counts: np.ndarray) -> dict[str, float]:
    """Share of the codes in use, their perplexity and effective dimension, means over levels."""
    n = len(counts)
    dimension = 0.0
    # Of fewer levels than there are only the first are counted.
    for table, count in zip(tokenizer.tables, counts, strict=False):
        share = torch.from_numpy(count / count.sum())
        codes = table.lookup(torch.arange(len(count), device=table.usage.device)).cpu().double()
        codes = codes - share @ codes
        dimension += spread(codes.T @ (share[:, None] * codes)) / n
    return {
        "usage": share_used(counts),
        "perplexity": sum(perplexity(count) for count in counts) / n,
        "code_dimension": dimension,
    }
