"""Colours of codes: like codes look alike, wherever structures are shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protok.tokenizers.protocol import HasCodeVectors, Tokenizer

#: Of what has no code or no value.
NONE = "#bbbbbb"
#: Of secondary structure, as (red, green, blue).
HELIX, STRAND, COIL = (196, 62, 92), (226, 170, 40), (90, 140, 190)
# Björn Ottosson's OKLab (2020): to the cube roots of cone responses, and from these to linear sRGB.
_CONES = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_SRGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
#: From low to high: five colours of matplotlib's viridis.
_SCALE = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])


def code_colours(tokenizer: Tokenizer) -> np.ndarray:
    """A colour for each code.

    Of a learned codebook the first three principal components become the two axes of hue and
    the lightness, by rank, so that all colours are used and codes that lie close together look
    alike. The letters of an alphabet are spread over the hues.

    Parameters
    ----------
    tokenizer
        A learned one, with `code_vectors`, or an alphabet.

    Returns
    -------
    (size, 3) uint8
        Red, green, blue.
    """
    if not isinstance(tokenizer, HasCodeVectors):
        return spread_colours(tokenizer.size)
    vectors = np.asarray(tokenizer.code_vectors(), np.float64)
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    parts = (centred @ axes[:3].T).argsort(axis=0).argsort(axis=0)
    parts = 2 * parts / max(1, len(vectors) - 1) - 1
    parts = np.pad(parts, ((0, 0), (0, 3 - parts.shape[1])))
    return _rgb(np.stack([0.66 + 0.14 * parts[:, 2], 0.15 * parts[:, 0], 0.15 * parts[:, 1]], 1))


def spread_colours(n: int) -> np.ndarray:
    """Colours (n, 3) of things that have no order, spread over the hues."""
    turn = 2 * np.pi * np.arange(n) / n
    light = np.where(np.arange(n) % 2, 0.76, 0.62)
    return _rgb(np.stack([light, 0.14 * np.cos(turn), 0.14 * np.sin(turn)], axis=1))


def scale_colours(values: np.ndarray, low: float, high: float) -> list[str]:
    """Hex colours of numbers, dark at `low` and bright at `high`; grey where NaN."""
    known = np.isfinite(values)
    at = np.clip((np.where(known, values, low) - low) / (high - low), 0, 1) * (len(_SCALE) - 1)
    stops = np.arange(len(_SCALE))
    rgb = np.stack([np.interp(at, stops, channel) for channel in _SCALE.T], axis=1)
    return [colour if yes else NONE for colour, yes in zip(hexes(rgb), known, strict=True)]


def hexes(rgb: np.ndarray) -> list[str]:
    """Colours (n, 3) in 0..255 as `#rrggbb`."""
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.asarray(rgb).round().astype(int).tolist()]


def residue_colours(ids: Sequence[int] | np.ndarray, colours: np.ndarray) -> list[str]:
    """Hex colours of tokens; grey where a token is missing."""
    known = [*hexes(colours), NONE]
    return [known[i] for i in ids]


def _rgb(lab: np.ndarray) -> np.ndarray:
    linear = np.clip(((lab @ _CONES.T) ** 3) @ _SRGB.T, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (255 * curved).round().astype(np.uint8)
