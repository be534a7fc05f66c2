"""Collections of images: ImageNet's layout, flat folders, lists of classes, .npz files."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from protok.common.arrays import array_names, read_arrays
from protok.common.grouping import numbered
from protok.errors import FormatError, ProtokError
from protok.image.pixels import SUFFIXES, as_pixels, middle, pillow, read_pixels
from protok.image.tokens import DAMAGE

#: Names of the folders that hold the two parts of a data set, and of the parts in .npz files.
PARTS = {"train": ("train",), "valid": ("val", "valid", "validation", "test")}


@dataclass(frozen=True)
class Pictures:
    """Images that are read when asked for.

    Attributes
    ----------
    source
        Of each image a path, the bytes of a file, or its pixels.
    names
        Of each image, for errors and results: its path below the folder, or a number.
    labels : (n,) int
        Class of each image, -1 without classes.
    classes
        Their names.
    """

    source: Sequence[Any]
    names: Sequence[str]
    labels: np.ndarray
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: Any) -> Pictures:
        """Some of them, by slice, mask or numbers."""
        rows = np.arange(len(self))[rows]
        return replace(
            self,
            source=[self.source[i] for i in rows],
            names=[self.names[i] for i in rows],
            labels=self.labels[rows],
        )

    def some(self, most: int | None) -> Pictures:
        """At most so many of them, evenly spread; all for None."""
        return self if most is None else self[spread(len(self), most)]

    def pixels(self, i: int, size: int | None = None) -> np.ndarray:
        """Pixels of one image, (h, w, 3) uint8, the shorter side scaled to `size`.

        Raises
        ------
        ProtokError
            If it cannot be read, naming the file.
        """
        image = self.source[i]
        if isinstance(image, np.ndarray):
            return as_pixels(image, size=size)
        return read_pixels(image, size=size, name="" if isinstance(image, Path) else self.names[i])

    def square(self, i: int, size: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """A square of `size` pixels out of the scaled image: the middle, or a random place."""
        x = self.pixels(i, size)
        if rng is None:
            return middle(x, size)
        top, left = rng.integers(np.array(x.shape[:2]) - size + 1)
        return x[top : top + size, left : left + size]

    def readable(self, size: int | None, failed: list[dict[str, str]]) -> Iterator[np.ndarray]:
        """Pixels of all images that can be read, middle squares if there is a `size`.

        The others become rows of `failed`: file and reason.
        """
        for i in range(len(self)):
            try:
                yield self.square(i, size) if size else self.pixels(i)
            except ProtokError as error:
                image = self.source[i]
                file = str(image) if isinstance(image, Path) else self.names[i]
                failed.append({"file": file, "reason": error.reason})

    def squares(self, size: int, most: int | None = None) -> np.ndarray:
        """Middle squares, (n, size, size, 3); of more than `most` images some, evenly spread."""
        some = self.some(most)
        return np.stack([some.square(i, size) for i in range(len(some))])

    def digest(self) -> str:
        """sha256 over names, and contents or sizes: says whether two runs saw the same files."""
        sha256 = hashlib.sha256()
        for name, image in zip(self.names, self.source, strict=True):
            # Hundreds of gigabytes of files are told apart by their sizes.
            if isinstance(image, Path):
                content = str(image.stat().st_size)
            else:
                raw = image if isinstance(image, bytes) else np.ascontiguousarray(image).tobytes()
                content = hashlib.sha256(raw).hexdigest()
            sha256.update(f"{name}\0{content}\n".encode())
        return sha256.hexdigest()


def spread(n: int, most: int) -> np.ndarray:
    """Numbers of at most so many of `n` things, evenly spread from the first to the last."""
    return np.arange(n) if most >= n else np.linspace(0, n - 1, most).astype(int)


def open_pictures(path: str | Path, part: str = "train", classes: str | Path = "") -> Pictures:
    """Open a collection of images.

    Parameters
    ----------
    path
        A folder of images, or of one folder of images a class, or of both parts as ``train/``
        and ``val/`` of these; an image file; or an .npz file with uint8 pixels ``x`` (n, h, w,
        3), or with the bytes of image files end to end, ``train_bytes`` with ends
        ``train_off``, classes ``train_y`` and their names ``wnids``, ``valid_...`` likewise.
    part
        ``train`` or ``valid``, where both are there.
    classes
        Text file of the classes to keep, the first word of each line; ``#`` starts a comment.

    Raises
    ------
    FormatError
        If there are no images, or a class of the list is not there.
    """
    path = Path(path)
    if part not in PARTS:
        raise ValueError(f"part {part!r} is not one of {', '.join(PARTS)}")
    if path.is_dir():
        pictures = _folder(path, part)
    elif path.suffix == ".npz" and path.exists():
        pictures = _npz(path, part)
    elif path.is_file():
        pictures = Pictures([path], [path.name], np.array([-1]))
    else:
        raise FormatError("no such file or folder", "check the path", file=str(path))
    if not len(pictures):
        raise FormatError("holds no images", f"images end in {' '.join(SUFFIXES)}", file=str(path))
    return _only(pictures, Path(classes)) if str(classes) else pictures


def has_part(path: str | Path, part: str) -> bool:
    """Whether a collection keeps this part apart."""
    path = Path(path)
    if path.is_dir():
        return any((path / name).is_dir() for name in PARTS[part])
    if path.suffix == ".npz" and path.exists():
        with suppress(*DAMAGE):  # who opens it says what is wrong
            return f"{part}_bytes" in array_names(path)
    return False


def held_out(path: str | Path) -> Pictures:
    """The validation part of a collection that keeps one apart, else all of it."""
    return open_pictures(path, "valid" if has_part(path, "valid") else "train")


def _folder(path: Path, part: str) -> Pictures:
    path = next((path / name for name in PARTS[part] if (path / name).is_dir()), path)
    files = _images_in(path)
    names = [file.relative_to(path).as_posix() for file in files]
    parents = [name.split("/")[0] if "/" in name else "" for name in names]
    if "" in parents:
        # Images beside folders: no folder is a class then.
        return Pictures(files, names, np.full(len(files), -1))
    classes, labels = np.unique(parents, return_inverse=True)
    return Pictures(files, names, labels, tuple(map(str, classes)))


def _images_in(path: Path) -> list[Path]:
    return sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


def _npz(path: Path, part: str) -> Pictures:
    try:
        names = array_names(path)
        own = [f"{part}_bytes", f"{part}_off", f"{part}_y", "wnids"]
        held = read_arrays(path, own if own[0] in names else ["x"])
        if own[0] in names:
            raw, ends = held[own[0]].tobytes(), held[own[1]]
            if ends.dtype.kind not in "iu" or ends.ndim != 1 or np.any(ends[1:] < ends[:-1]):
                raise ValueError(f"{own[1]} is no row of whole numbers that only rise")
            source: list[Any] = [raw[a:b] for a, b in itertools.pairwise(ends)]
        elif held:
            source = list(held["x"])
        else:
            raise FormatError(
                f"holds {', '.join(sorted(names)) or 'nothing'}, no images",
                f"give x (n, h, w, 3), or {part}_bytes and {part}_off",
                file=str(path),
            )
        labels = held.get(own[2], np.full(len(source), -1))
        classes = held.get("wnids", np.array([], str))
    except (*DAMAGE, TypeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"cannot be read ({error})", "write it with numpy.savez", file=str(path)) from error
    names = [f"{path.name}[{i}]" for i in range(len(source))]
    return Pictures(source, names, np.asarray(labels).astype(int), tuple(map(str, classes)))


def _only(pictures: Pictures, path: Path) -> Pictures:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(
            f"cannot read the list of classes ({error})", "one class a line", file=str(path)
        ) from error
    wanted = [words[0] for line in lines if (words := line.split("#")[0].split())]
    absent = [name for name in wanted if name not in pictures.classes]
    if absent or not wanted:
        raise FormatError(
            f"{len(absent)} of {len(wanted)} classes are not among the images: {', '.join(absent[:5])}",
            "a class is the name of a folder of images",
            file=str(path),
        )
    # The order of the list, so that labels do not depend on what else is there.
    new = {name: i for i, name in enumerate(wanted)}
    labels = np.array([new.get(pictures.classes[i], -1) if i >= 0 else -1 for i in pictures.labels])
    kept = pictures[labels >= 0]
    return replace(kept, labels=labels[labels >= 0], classes=tuple(wanted))


@dataclass(frozen=True)
class Found:
    """An image as an input of a job: its name, what `as_pixels` takes, and where it lies.

    `number`: which image of an .npz file; None of an image file.
    """

    name: str
    image: Path | bytes | np.ndarray
    file: str
    number: int | None = None


def find_images(inputs: Sequence[str | Path], part: str = "train") -> list[Found]:
    """Images by different names: files, folders searched through, .npz files.

    Names start with the class, ``class/name``, where a folder has one folder a class, or the .npz file
    names classes.

    Parameters
    ----------
    inputs
        Paths.
    part
        ``train`` or ``valid``, of .npz files with both.

    Raises
    ------
    FormatError
        If an input does not exist or holds no image.
    """
    pillow()
    images: list[Found] = []
    for path in map(Path, inputs):
        if path.suffix == ".npz" and path.is_file():
            held = open_pictures(path, part)
            for i, (source, label) in enumerate(zip(held.source, held.labels, strict=True)):
                folder = f"{held.classes[label]}/" if 0 <= label < len(held.classes) else ""
                images.append(Found(f"{folder}{path.stem}-{part}-{i:05d}", source, str(path), i))
        elif path.is_dir():
            inside = _images_in(path)
            if not inside:
                raise FormatError("holds no images", f"images end in {' '.join(SUFFIXES)}", file=str(path))
            images += [Found(p.relative_to(path).with_suffix("").as_posix(), p, str(p)) for p in inside]
        else:
            images += [Found(path.stem, file, str(file)) for file in open_pictures(path).source]
    names = numbered([image.name for image in images], "-")
    return [replace(image, name=name) for name, image in zip(names, images, strict=True)]
