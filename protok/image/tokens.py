"""Codes of images, and the file that keeps them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from protok.common.arrays import read_arrays, write_arrays
from protok.common.files import atomic
from protok.errors import CorruptFile, FormatError

#: Ends the name of a mirror image.
MIRRORED = "-mirrored"
_COLUMNS = ("name", "codebook", "size", "factor", "shape", "levels")
#: What damaged .npz files raise.
DAMAGE = (OSError, KeyError, ValueError)


@dataclass(frozen=True, eq=False)
class ImageTokens:
    """Codes of one image, one for each square of `factor` x `factor` pixels.

    Attributes
    ----------
    ids : (h, w) or (h, w, levels) int32
        In 0..size-1; the levels of a residual quantizer, coarse first.
    size
        Number of codes (of each level).
    codebook
        ``name@fingerprint``.
    height, width
        Of the image in pixels; the last row and column of codes may reach beyond.
    factor
        Pixels along the side of a code.
    name
        Of the image.
    """

    ids: np.ndarray
    size: int
    codebook: str
    height: int
    width: int
    factor: int
    name: str = ""

    def __post_init__(self) -> None:
        grid = (-(-self.height // self.factor), -(-self.width // self.factor))
        if self.ids.ndim not in (2, 3) or self.ids.shape[:2] != grid:
            raise ValueError(
                f"ids of shape {self.ids.shape} do not cover {self.height} x {self.width} pixels "
                f"in squares of {self.factor}"
            )
        if self.ids.dtype.kind not in "iu":
            raise ValueError(f"ids are of type {self.ids.dtype}, not whole numbers")

    def __len__(self) -> int:
        """How many ids."""
        return self.ids.size

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.ids.shape))
        used = len(np.unique(self.ids))
        return (
            f"ImageTokens({self.name + ', ' if self.name else ''}{self.width} x {self.height} "
            f"pixels, {shape} codes of {self.codebook}, {used} different, "
            f"{self.bits_per_pixel:.3g} bits per pixel)"
        )

    @property
    def levels(self) -> int:
        """Ids at each place."""
        return self.ids.shape[2] if self.ids.ndim == 3 else 1

    @property
    def bits_per_pixel(self) -> float:
        """log2(size) bits an id, without entropy coding, over the pixels of the image."""
        return len(self) * math.log2(self.size) / (self.height * self.width)

    def prefix(self, levels: int | None) -> ImageTokens:
        """The first levels only, a coarser image of fewer bits; all of them for None.

        Raises
        ------
        ValueError
            If there are not so many.
        """
        if levels is None:
            return self
        if not 1 <= levels <= self.levels:
            raise ValueError(f"{levels} of {self.levels} levels")
        return replace(self, ids=self.ids[..., :levels]) if self.ids.ndim == 3 else self


def save_codes(tokens: Iterable[ImageTokens], path: str | Path, *, made_of: str = "") -> Path:
    """Write codes of any images to an .npz file, without pickle.

    It holds ``name``, ``codebook``, ``size``, ``factor``, ``shape`` (n, 2) of the images in
    pixels, ``levels`` (0 where ids have no such dimension) and ``ids``, all images end to end;
    and ``made_of``, what a job says of it as JSON.
    """
    tokens = list(tokens)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "format": np.array("protok-image-codes-1"),
        "name": np.array([image.name for image in tokens], dtype=str),
        "codebook": np.array([image.codebook for image in tokens], dtype=str),
        "size": np.array([image.size for image in tokens], np.int64),
        "factor": np.array([image.factor for image in tokens], np.int64),
        "shape": np.array([(image.height, image.width) for image in tokens], np.int64).reshape(-1, 2),
        "levels": np.array([image.levels if image.ids.ndim == 3 else 0 for image in tokens], np.int64),
        "ids": np.concatenate([np.zeros(0, np.int32), *(image.ids.ravel() for image in tokens)]).astype(
            np.int32
        ),
        **({"made_of": np.array(made_of)} if made_of else {}),
    }
    # A full disk or Ctrl-C leaves an earlier file as it was.
    with atomic(path, "wb") as handle:
        write_arrays(handle, **columns)
    return path


def made_of(path: str | Path) -> dict[str, Any]:
    """What a job said of a file of codes; empty if it was not made by one, or is another file."""
    with suppress(*DAMAGE):
        stored = json.loads(str(read_arrays(path, ["made_of"])["made_of"]))
        return stored if isinstance(stored, dict) and {"job", "inputs", "errors"} <= stored.keys() else {}
    return {}


def load_codes(path: str | Path) -> list[ImageTokens]:
    """Read what `save_codes` wrote.

    Raises
    ------
    FormatError
        If it is another file.
    CorruptFile
        If its parts do not fit together.
    """
    path = Path(path)
    try:
        table = read_arrays(path, ("format", *_COLUMNS, "ids"))
        if str(table["format"]) != "protok-image-codes-1":
            raise KeyError("format")
    except FileNotFoundError as error:
        raise FormatError("no such file", "check the path", file=str(path)) from error
    except DAMAGE as error:
        raise FormatError(
            f"holds no codes of images that can be read ({error})",
            "they are written by protok image encode",
            file=str(path),
        ) from error
    return _split(table, str(path))


def _split(table: dict[str, np.ndarray], where: str) -> list[ImageTokens]:
    out: list[ImageTokens] = []
    at = 0
    try:
        for key in ("size", "factor", "shape", "levels"):
            if table[key].dtype.kind not in "iu":
                raise ValueError(f"{key} is of type {table[key].dtype}, not whole numbers")
        columns = [table[k] for k in _COLUMNS]
        for name, codebook, size, factor, (h, w), levels in zip(*columns, strict=True):
            shape = (-(-int(h) // int(factor)), -(-int(w) // int(factor)))
            shape += (int(levels),) if levels else ()
            ids = table["ids"][at : at + math.prod(shape)].reshape(shape)
            if ids.size and not 0 <= ids.min() <= ids.max() < size:
                raise ValueError(f"ids of {name} are not in 0..{size - 1}")
            at += ids.size
            out.append(ImageTokens(ids, int(size), str(codebook), int(h), int(w), int(factor), str(name)))
        if at != len(table["ids"]):
            raise ValueError(f"{len(table['ids']) - at} ids too many")
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CorruptFile(
            f"the parts do not fit together ({error})", "encode the images again", file=where
        ) from error
    return out
