"""Images as users have them, to and from uint8 pixels of shape (height, width, 3)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from protok.common.extras import Extra
from protok.common.files import atomic
from protok.errors import CorruptFile, FormatError, ProtokError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
#: Pixels of the largest image that is read whole; as numbers in and out it takes about 4 GB.
LARGEST = 1 << 26


def pillow() -> Any:
    """The module ``PIL.Image``.

    Raises
    ------
    MissingExtra
        If Pillow is not installed.
    """
    with Extra("image", "reading and writing images"):
        from PIL import Image

    return Image


def read_pixels(
    source: str | Path | bytes, *, size: int | None = None, name: str = "", notes: list[str] | None = None
) -> np.ndarray:
    """Pixels of an image file, (h, w, 3) uint8.

    Turned as its orientation tag says, transparency over white, 16 bits a channel scaled to 8;
    of an animation the first frame.

    Parameters
    ----------
    source
        A path, or the bytes of a file.
    size
        Scale so that the shorter side has so many pixels.
    name
        Of the bytes, for errors.
    notes
        Gets a line for each thing in the file that the pixels do not have: transparency, 16 bits, frames.

    Raises
    ------
    FormatError
        If it is no image, or too large to be read whole.
    CorruptFile
        If it is damaged or cut off.
    """
    pil = pillow()
    where = name or (str(source) if isinstance(source, str | Path) else "image")
    try:
        with pil.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if size is None and image.width * image.height > LARGEST:
                raise FormatError(
                    f"{image.width} x {image.height} pixels are more than {LARGEST:,}",
                    "scale it: --size, or size=",
                    file=where,
                )
            if size is not None:
                # Decodes a JPEG at a half, a quarter, an eighth where that is enough.
                image.draft("RGB", (2 * size, 2 * size))
            return _array(image, size, where, notes)
    except pil.UnidentifiedImageError as error:
        raise FormatError(
            "is not an image that can be read", f"give one of {' '.join(SUFFIXES)}", file=where
        ) from error
    except pil.DecompressionBombError as error:
        raise FormatError(f"is too large ({error})", "scale it first", file=where) from error
    except FileNotFoundError as error:
        raise FormatError("no such file", "check the path", file=where) from error
    except ProtokError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow raises all of these for damaged files.
        raise CorruptFile(f"the image is damaged ({error})", "replace or remove it", file=where) from error


def _array(image: Any, size: int | None, where: str, notes: list[str] | None = None) -> np.ndarray:
    pil = pillow()
    with Extra("image", "reading images"):
        from PIL import ImageOps

    seen = [] if notes is None else notes
    if (frames := getattr(image, "n_frames", 1)) > 1:
        seen.append(f"the first of {frames} frames was taken")
    # Pillow gives 8 bits of colours that the file has with 16, and tells of it in the way it unpacks them.
    if ";16" in f"{image.mode} {getattr(image, 'tile', '')}":
        seen.append("16 bits a channel were scaled to 8")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = pil.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise FormatError(f"pixels of mode {image.mode} have no range", "save it with 8 bits", file=where)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            seen.append("transparent parts were laid over white")
        image = pil.alpha_composite(pil.new("RGBA", image.size, "white"), image)
    return np.asarray(scaled(image.convert("RGB"), size))


def scaled(image: Any, size: int | None) -> Any:
    """A Pillow image whose shorter side has so many pixels; as it is for None."""
    short = min(image.size)
    if size is None or short == size:
        return image
    shape = tuple(max(size, round(side * size / short)) for side in image.size)
    return image.resize(shape, pillow().Resampling.LANCZOS)


def fitted(pixels: np.ndarray, longest: int) -> np.ndarray:
    """Pixels (h, w, 3) of an image whose longer side has so many, or nearly where it is small."""
    side = max(pixels.shape[:2])
    if side <= longest:
        return pixels.repeat(longest // side, 0).repeat(longest // side, 1)
    image = pillow().fromarray(pixels)
    image.thumbnail((longest, longest), pillow().Resampling.LANCZOS)
    return np.asarray(image)


def as_pixels(image: Any, *, size: int | None = None, notes: list[str] | None = None) -> np.ndarray:
    """Pixels of whatever holds one image, (h, w, 3) uint8.

    Parameters
    ----------
    image
        A path, the bytes of a file, a Pillow image, an array (h, w), (h, w, 1) or (h, w, 3) of
        uint8 or of floats in 0..1, or a tensor (3, h, w) of the same.
    size
        Scale so that the shorter side has so many pixels.
    notes
        Of files and Pillow images as for `read_pixels`.

    Raises
    ------
    FormatError
        If it is none of these.
    """
    if isinstance(image, str | Path | bytes):
        return read_pixels(image, size=size, notes=notes)
    if hasattr(image, "getexif") and hasattr(image, "convert"):
        return _array(image, size, "image", notes)
    if hasattr(image, "detach"):
        image = image.detach().cpu()
        image = image.movedim(0, -1) if image.ndim == 3 else image
        image = image.float().numpy() if image.is_floating_point() else image.numpy()
    x = np.asarray(image)
    if x.ndim == 2:
        x = x[..., None]
    if x.ndim != 3 or x.shape[-1] not in (1, 3) or 0 in x.shape:
        raise FormatError(
            f"an array of shape {np.shape(image)} is not one image",
            "give (height, width, 3), or a tensor of (3, height, width)",
        )
    if np.issubdtype(x.dtype, np.floating):
        if not (np.isfinite(x).all() and x.min() >= 0 and x.max() <= 1):
            raise FormatError("floats of an image lie in 0..1", "scale them, or give uint8")
        x = np.rint(x * 255).astype(np.uint8)
    if x.dtype != np.uint8:
        raise FormatError(f"pixels are of type {x.dtype}", "give uint8, or floats in 0..1")
    x = np.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x
    if size is not None and min(x.shape[:2]) != size:
        x = np.asarray(scaled(pillow().fromarray(x), size))
    return x


def middle(pixels: np.ndarray, size: int) -> np.ndarray:
    """The square of `size` pixels in the middle of an image."""
    top, left = (np.array(pixels.shape[:2]) - size) // 2
    return pixels[top : top + size, left : left + size]


def write_pixels(pixels: np.ndarray, path: str | Path) -> Path:
    """Write pixels (h, w, 3) uint8 to a file; the suffix says the format."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pil = pillow()
    kind = pil.registered_extensions().get(path.suffix.lower())
    if kind is None:
        raise FormatError(f"no format of images is called {path.suffix!r}", "use .png", file=str(path))
    with atomic(path, "wb") as handle:
        pil.fromarray(pixels).save(handle, kind)
    return path


def inside(folder: str | Path, name: str) -> Path:
    """A path below a folder, whatever the name in a file of codes says."""
    parts = [part for part in Path(name).parts if part not in ("..", "/", "\\")]
    return Path(folder).joinpath(*parts)


def contact_sheet(rows: Sequence[Sequence[np.ndarray]], gap: int = 2, zoom: int = 1) -> np.ndarray:
    """Images side by side, row below row, on white, each in the middle of its place; (h, w, 3) uint8."""
    if not rows or not rows[0]:
        raise ValueError("a sheet needs images")
    h, w = (zoom * max(image.shape[axis] for row in rows for image in row) for axis in (0, 1))
    across = max(map(len, rows))
    sheet = np.full((len(rows) * (h + gap) - gap, across * (w + gap) - gap, 3), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            image = image.repeat(zoom, 0).repeat(zoom, 1)
            high, wide = image.shape[:2]
            y, x = i * (h + gap) + (h - high) // 2, j * (w + gap) + (w - wide) // 2
            sheet[y : y + high, x : x + wide] = image
    return sheet
