"""Many images at once: folders of photographs to one file of codes, by the same job as structures."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protok.errors import FormatError, as_error
from protok.image.dataset import Found, find_images, spread
from protok.image.evaluate import SHOWN, draw_levels
from protok.image.pixels import as_pixels, middle
from protok.image.tokenizer import ImageTokenizer
from protok.image.tokens import MIRRORED, ImageTokens, load_codes, made_of, save_codes
from protok.pipeline.batches import Encoded, in_workers, shared_out
from protok.pipeline.encode import Form, Summary, carry_out
from protok.pipeline.inputs import Source

if TYPE_CHECKING:
    import pyarrow as pa

#: Images that are encoded together, as many times as many files are.
MORE = 2


@dataclass(frozen=True)
class ImageOptions:
    """How image files are read and encoded.

    Attributes
    ----------
    size
        Scale images so that the shorter side has so many pixels; None for as they are.
    square
        Cut the middle square out.
    mirror
        Encode the mirror image too, under the name with ``-mirrored``.
    levels
        Keep the first levels only; None for all.
    """

    size: int | None = None
    square: bool = False
    mirror: bool = False
    levels: int | None = None

    def pixels(self, image: Any, notes: list[str] | None = None) -> np.ndarray:
        """Pixels (h, w, 3) of an image, unmirrored; parameters and errors are those of `as_pixels`."""
        x = as_pixels(image, size=self.size, notes=notes)
        return middle(x, min(x.shape[:2])) if self.square else x


@dataclass(frozen=True)
class ImageRecord:
    """Codes of an image, as a job counts them."""

    codes: ImageTokens
    uncoded: bool = False

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class _Input:
    """What a worker gets of an image: where it lies, and what it is named."""

    source: Source
    image: Path | bytes | np.ndarray


def encode_images(
    paths: str | Path | Iterable[str | Path],
    tokenizer: ImageTokenizer | str | Path,
    out: str | Path,
    *,
    part: str = "train",
    jobs: int = 1,
    timeout: float | None = None,
    options: ImageOptions | None = None,
    **settings: Any,
) -> Summary:
    """Encode image files into one file of codes: the job of `protok.pipeline.encode.encode_all` in all else.

    The output appears at the end, after a kill the same call goes on, and a file that cannot be read is a row
    of the error table. Of a summary, chains are images and residues their codes.

    Parameters
    ----------
    paths
        Image files, folders, .npz files (see `protok.image.dataset.find_images`).
    tokenizer
        One with codes, or its name or folder.
    out
        An .npz file (see `protok.image.save_codes`).
    part
        Which images of an .npz file that holds both: ``train`` or ``valid``.
    jobs, timeout, **settings
        As for `encode_all`: ``on_error``, ``errors``, ``overwrite``, ``progress``.
    options
        How images are read.

    Raises
    ------
    FormatError
        If `out` is no .npz file, or an input does not exist or holds no image.
    Unsupported
        If the model is continuous.
    ProtokError, Stopped
        As for `encode_all`.
    """
    out, options = Path(out), options or ImageOptions()
    if out.suffix.lower() != ".npz":
        raise FormatError("codes of images are written to .npz files", "name one", file=str(out))
    entries = {source_of(image): image.image for image in find_images(_listed(paths), part)}
    if not isinstance(tokenizer, ImageTokenizer):
        tokenizer = ImageTokenizer.from_pretrained(tokenizer)
    if options.levels is not None:
        tokenizer.check_levels(options.levels)

    def stream(todo: Sequence[Source]) -> Generator[tuple[Source, Encoded[ImageRecord]]]:
        queue = shared_out((_Input(source, entries[source]) for source in todo), len(todo), jobs, MORE)
        return in_workers(_encoder, (tokenizer, options), queue, jobs=jobs, timeout=timeout)

    job = {"codebook": tokenizer.codebook, **asdict(options)}
    form = Form(write_records, _schema, convert=_convert, stored=made_of)
    return carry_out([*entries], job, stream, out, form, **settings)


def _listed(paths: str | Path | Iterable[str | Path]) -> list[str | Path]:
    return [paths] if isinstance(paths, str | Path) else list(paths)


def source_of(image: Found) -> Source:
    """What a job knows an image by: a file that was changed is another one."""
    status = Path(image.file).stat()
    if isinstance(image.image, Path):
        return Source(image.file, image.name, status.st_size, status.st_mtime_ns)
    path = f"{image.file}[{image.number}]"
    size = len(image.image) if isinstance(image.image, bytes) else image.image.nbytes
    return Source(path, image.name, size, status.st_mtime_ns, image.file)


def _encoder(
    tokenizer: ImageTokenizer, options: ImageOptions
) -> Callable[[Sequence[_Input]], list[Encoded[ImageRecord]]]:
    """Make the function that a worker applies to its batches."""
    return partial(encode_pictures, tokenizer=tokenizer, options=options)


def encode_pictures(
    batch: Sequence[_Input], tokenizer: ImageTokenizer, options: ImageOptions
) -> list[Encoded[ImageRecord]]:
    """Codes of what can be read of a batch, an `Encoded` for each of its inputs."""
    names: list[list[str]] = []
    pixels: list[np.ndarray] = []
    rest: list[dict[str, Any]] = []
    for entry in batch:
        notes: list[str] = []
        names.append([])
        try:
            x = options.pixels(entry.image, notes)
        except Exception as error:
            rest.append({"errors": (as_error(error, entry.source.path),)})
            continue
        rest.append({"notes": tuple(notes)})
        names[-1].append(entry.source.name)
        pixels.append(x)
        if options.mirror:
            names[-1].append(f"{entry.source.name}{MIRRORED}")
            pixels.append(x[:, ::-1])
    codes = iter(tokenizer.encode_batch(pixels, names=[name for own in names for name in own]))
    return [
        Encoded(
            entry.source.path, tuple(ImageRecord(next(codes).prefix(options.levels)) for _ in own), **other
        )
        for entry, own, other in zip(batch, names, rest, strict=True)
    ]


def _schema() -> pa.Schema:
    import pyarrow as pa

    numbers = dict.fromkeys(("size", "factor", "height", "width", "levels"), pa.int32())
    fields = {"name": pa.string(), "codebook": pa.string(), **numbers, "ids": pa.list_(pa.int32())}
    return pa.schema(fields, metadata={"protok": "codes of images 1"})


def write_records(records: Iterable[ImageRecord], path: Path) -> None:
    """Write codes into a Parquet file, of which a job makes its output; `levels` is 0 for ids (h, w)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for record in records:
        codes = record.codes
        row = {key: getattr(codes, key) for key in ("name", "codebook", "size", "factor", "height", "width")}
        rows.append(
            row | {"levels": codes.ids.shape[2] if codes.ids.ndim == 3 else 0, "ids": codes.ids.ravel()}
        )
    pq.write_table(pa.Table.from_pylist(rows, _schema()), path, compression="zstd")


def _convert(joined: Path, out: Path, stored: Mapping[str, Any]) -> None:
    import pyarrow.parquet as pq

    images = []
    for batch in pq.ParquetFile(joined).iter_batches():
        for row in batch.to_pylist():
            levels, ids = row.pop("levels"), np.array(row.pop("ids"), np.int32)
            grid = (-(-row["height"] // row["factor"]), -(-row["width"] // row["factor"]))
            images.append(ImageTokens(ids.reshape(*grid, *[levels] * bool(levels)), **row))
    save_codes(images, out, made_of=json.dumps(stored))


def draw_codes(
    paths: str | Path | Iterable[str | Path],
    tokenizer: ImageTokenizer,
    codes: str | Path,
    sheet: str | Path,
    part: str = "train",
    options: ImageOptions | None = None,
) -> Path:
    """Draw originals above what each number of levels makes of them: `SHOWN`, evenly spread over the codes.

    Parameters are those of `encode_images`, which wrote `codes`.
    """
    options = options or ImageOptions()
    there = {image.name: image for image in load_codes(codes)}
    images = [image for image in find_images(_listed(paths), part) if image.name in there]
    images = [images[i] for i in spread(len(images), SHOWN)]
    originals = [options.pixels(image.image) for image in images]
    return draw_levels(tokenizer, originals, [there[image.name] for image in images], sheet)
