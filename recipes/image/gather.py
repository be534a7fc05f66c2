"""Images that protok-image learns from: Imagenette, and the ImageNet-1k sample without the test.

    python -m recipes.image.gather ../shared/images -o runs/images/protok-image.npz

Held out stay the validation images of Imagenette, and the images of `benchmarks/quantizers/codecs.tsv`.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.command import without_traceback
from benchmarks.quantizers.codecs import LIST
from protok.common.arrays import write_arrays
from protok.common.files import atomic


def gather(folder: Path) -> dict[str, np.ndarray]:
    """Arrays of an .npz file as `protok.image.open_pictures` reads it."""
    from PIL import Image

    with LIST.open(encoding="utf-8") as handle:
        tested = {row["name"] for row in csv.DictReader(handle, delimiter="\t")}
    with np.load(folder / "imagenette_64_jpeg.npz") as nette, np.load(folder / "imagenet1k_64.npz") as sample:
        arrays = {key: nette[key] for key in nette.files if key.startswith("valid_")}
        files, classes = [nette["train_bytes"].tobytes()], nette["train_y"].tolist()
        wnids, ends = nette["wnids"].tolist(), nette["train_off"].tolist()
        for pixels, name in zip(sample["x"], sample["name"].tolist(), strict=True):
            if name in tested:
                continue
            out = io.BytesIO()
            Image.fromarray(pixels).save(out, "PNG")
            files.append(out.getvalue())
            ends.append(ends[-1] + len(files[-1]))
            wnid = name.partition("_")[0]
            wnids += [] if wnid in wnids else [wnid]
            classes.append(wnids.index(wnid))
    arrays["train_bytes"] = np.frombuffer(b"".join(files), np.uint8)
    return arrays | {"train_off": np.array(ends), "train_y": np.array(classes), "wnids": np.array(wnids)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read both sets and write one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with imagenette_64_jpeg.npz and imagenet1k_64.npz")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.npz")
    options = parser.parse_args(arguments)
    arrays = gather(options.folder)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(options.out, "wb") as handle:
        write_arrays(handle, **arrays)
    print(f"{len(arrays['train_y']):,} images to train on in {options.out}")


if __name__ == "__main__":
    without_traceback(main)
