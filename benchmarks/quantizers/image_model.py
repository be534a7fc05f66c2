"""Score an image model at every number of levels, for its card and the page of images.

    python -m benchmarks.quantizers.image_model protok/weights/protok-image

Every prefix of the levels is scored on held-out images of the data it was trained on, and on images of
other classes; two sheets of images are drawn.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import records
from benchmarks.command import without_traceback
from benchmarks.paths import FIGURES, RESULTS, SHARED
from benchmarks.tables.provenance import provenance

PACKAGES = ("torch", "numpy", "lightning", "torchmetrics", "pillow")
#: Held-out images, and one image of each of 1,000 classes.
SETS = {"imagenette": "images/imagenette_64_jpeg.npz", "imagenet-1k": "images/imagenet1k_64.npz"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Score a model on both sets; its result is that of its name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of an image model")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "images.parquet")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of sheets of images")
    parser.add_argument("--most", type=int, default=2000, help="images a set")
    options = parser.parse_args(arguments)

    from protok.image import ImageTokenizer
    from protok.image.evaluate import progressive

    tokenizer = ImageTokenizer.from_pretrained(options.model)
    side = tokenizer.provenance["recipe"]["data"]["size"]
    options.figures.mkdir(parents=True, exist_ok=True)
    sets = {
        name: progressive(
            tokenizer,
            options.data / path,
            size=side,
            most=options.most,
            sheet=options.figures / f"{tokenizer.name}-{name}.png",
        )
        for name, path in SETS.items()
    }
    about = provenance(
        "python -m benchmarks.quantizers.image_model " + " ".join(arguments or sys.argv[1:]),
        PACKAGES,
        codebook=tokenizer.codebook,
        training=tokenizer.provenance,
    )
    records.put(options.out, tokenizer.name, about | {"sets": sets})


if __name__ == "__main__":
    without_traceback(main)
