"""Image models beside JPEG, WebP and AVIF at equal bits.

    python -m benchmarks.quantizers.codecs protok/weights/protok-image

Test: the first 256 images of the ImageNet-1k sample, listed in `codecs.tsv`; nothing is ever trained on them.
Codecs get them as one picture, 16 images across, so that heads are shared as those of codes are. An image
begins where a block of 8, 16 or 64 pixels begins, so no transform lies over two images; prediction and the
filters of WebP and AVIF look across borders, as they do within any picture. Bits of a codec are those of its
file, at the quality whose bits are nearest to the model's: those of its codes with an entropy coder where the
model has one, else nominal. Evaluators are of `benchmarks.quantizers.evaluators`.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.command import without_traceback
from benchmarks.paths import FIGURES, RESULTS, SHARED
from benchmarks.progressive.analysis import Contrast
from benchmarks.quantizers import evaluators
from benchmarks.tables.provenance import provenance

IMAGES = "images/imagenet1k_64.npz"
LIST = Path(__file__).with_suffix(".tsv")
#: Name of a codec here, what Pillow calls it, and how it is told to work; of AVIF as by default, and slower.
CODECS = (
    ("jpeg", "JPEG", {"optimize": True}),
    ("webp", "WEBP", {"method": 6}),
    ("avif", "AVIF", {}),
    ("avif, speed 3", "AVIF", {"speed": 3}),
)
ACROSS, QUALITIES = 16, (1, 95)
#: What is compared image by image, and whether more is better.
PAIRED = {"psnr": True, "stlpips-alex": False}
#: Images on the sheet, evenly spread.
SHOWN = 12
PACKAGES = ("torch", "numpy", "torchmetrics", "pillow", "constriction", *evaluators.PACKAGES)


def originals_of(data: Path) -> np.ndarray:
    """The images of the list, (256, 64, 64, 3) uint8."""
    with LIST.open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    with np.load(data / IMAGES) as held:
        numbers = [int(row["row"]) for row in rows]
        images, names = held["x"][numbers], held["name"][numbers]
    if odd := [row["name"] for row, name in zip(rows, names, strict=True) if row["name"] != name]:
        raise SystemExit(f"{data / IMAGES} is another sample: {odd[0]} is not where {LIST.name} has it")
    return images


@dataclass(frozen=True)
class Made:
    """What a codec or a model made of the images, and bits a pixel."""

    what: str
    images: np.ndarray
    bits: float
    quality: int = 0


def tiled(images: np.ndarray) -> np.ndarray:
    """Images side by side without gaps, as one picture."""
    side = images.shape[1]
    rows = images.reshape(-1, ACROSS, side, side, 3)
    return rows.transpose(0, 2, 1, 3, 4).reshape(len(rows) * side, ACROSS * side, 3)


def apart(picture: np.ndarray, side: int) -> np.ndarray:
    """The images of a picture of `tiled`."""
    rows = picture.reshape(-1, side, ACROSS, side, 3)
    return rows.transpose(0, 2, 1, 3, 4).reshape(-1, side, side, 3)


class Codec:
    """A codec on the images; what it made at a quality is kept."""

    def __init__(self, name: str, kind: str, how: dict[str, Any], images: np.ndarray):
        self.name, self.kind, self.how = name, kind, how
        self.side, self.picture, self.made = images.shape[1], tiled(images), {}

    def at(self, quality: int) -> Made:
        """What comes back at a quality."""
        from PIL import Image

        if quality not in self.made:
            out = io.BytesIO()
            Image.fromarray(self.picture).save(out, self.kind, quality=quality, **self.how)
            bits = 8 * out.tell() / (self.picture.shape[0] * self.picture.shape[1])
            again = np.asarray(Image.open(out).convert("RGB"))
            self.made[quality] = Made(self.name, apart(again, self.side), bits, quality)
        return self.made[quality]

    def near(self, bits: float) -> Made:
        """What comes back at the quality whose bits are nearest."""
        low, high = QUALITIES
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.at(middle).bits < bits else (low, middle)
        return min(self.at(low), self.at(high), key=lambda made: abs(made.bits - bits))


def judged(images: np.ndarray, originals: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """Scores of each image, and of all; `reference` are features of the originals."""
    from protok.image import Scorer

    scores: dict[str, list[float]] = {"psnr": [], "ssim": []}
    for x, y in zip(images, originals, strict=True):
        scorer = Scorer(frechet=False)
        scorer.add(x[None], y[None])
        for key, value in scorer.result().items():
            if key in scores:
                scores[key].append(value)
    scores["stlpips-alex"] = evaluators.perceptual(images, originals)
    distance = evaluators.frechet(evaluators.features(images), reference)
    means = {key: float(np.mean(values)) for key, values in scores.items()}
    return {"each": scores, **means, "frechet-efficientnet-lite0": distance}


def compare(tokenizer, images: np.ndarray) -> tuple[list[dict[str, Any]], dict[str, list[np.ndarray]]]:
    """Rows of the table, level by level, and images for the sheet by what made them."""
    from protok.image.coding import code_lengths

    reference = evaluators.features(images)
    codecs = [Codec(*codec, images) for codec in CODECS]
    tokens = tokenizer.encode_batch(list(images))
    rows, shown = [], {"originals": list(images)}
    for level in range(1, tokenizer.levels + 1):
        prefix = [image.prefix(level) for image in tokens]
        nominal = bits = prefix[0].bits_per_pixel
        if tokenizer.network.context is not None:
            bits = float(np.mean(code_lengths(tokenizer, prefix))) / (images.shape[1] * images.shape[2])
        ours = Made(tokenizer.name, np.stack(tokenizer.decode_batch(prefix)), bits)
        own = judged(ours.images, images, reference)
        levels = {"levels": level, "nominal_bits": nominal, "entropy_coded": bits != nominal}
        rows.append({"what": ours.what, "bits": bits, **levels, **own})
        shown[f"{ours.what}, {bits:.2f} bits"] = list(ours.images)
        for codec in codecs:
            made = codec.near(bits)
            other = judged(made.images, images, reference)
            gaps = {key: gap(own["each"][key], other["each"][key], PAIRED[key]) for key in PAIRED}
            rows.append(
                {"what": made.what, "levels": level, "quality": made.quality, "bits": made.bits, **other}
                | {"better_than_it": gaps}
            )
            shown[f"{made.what}, {made.bits:.2f} bits"] = list(made.images)
            print(f"{made.what}: {made.bits:.3f} bits, PSNR {other['psnr']:.2f}, ours {own['psnr']:.2f}")
    for row in rows:
        del row["each"]
    return rows, shown


def gap(ours: Sequence[float], other: Sequence[float], more_is_better: bool) -> dict[str, float]:
    """By how much we are better, image by image: mean and 95 % interval."""
    sign = 1 if more_is_better else -1
    contrast = Contrast("", tuple(sign * (a - b) for a, b in zip(ours, other, strict=True)))
    low, high = contrast.interval(0.05)
    return {"mean": contrast.mean, "low": low, "high": high}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare a model with the codecs; its result is that of its name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of an image model")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "codecs.parquet")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of the sheet of images")
    options = parser.parse_args(arguments)

    from protok.image import ImageTokenizer, contact_sheet
    from protok.image.pixels import write_pixels

    images = originals_of(options.data)
    tokenizer = ImageTokenizer.from_pretrained(options.model)
    rows, shown = compare(tokenizer, images)
    some = np.linspace(0, len(images) - 1, SHOWN).astype(int)
    sheet = [[made[i] for i in some] for made in shown.values()]
    write_pixels(contact_sheet(sheet), options.figures / f"{tokenizer.name}-codecs.png")
    about = provenance(
        "python -m benchmarks.quantizers.codecs " + " ".join(arguments or sys.argv[1:]),
        PACKAGES,
        codebook=tokenizer.codebook,
        training=tokenizer.provenance,
    )
    records.put(options.out, tokenizer.name, about | {"rows": rows, "sheet": list(shown)})


if __name__ == "__main__":
    without_traceback(main)
