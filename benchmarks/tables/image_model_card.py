"""Score an image model, and put it into the package with a card.

    python -m benchmarks.tables.image_model_card runs/protok-image/model               # result file and sheet
    python -m benchmarks.tables.image_model_card runs/protok-image/model --ship --hours 0.8 --hardware "..."

Every prefix of the levels is scored on held-out images of the data it was trained on and on
images of other classes; the card is written from that result file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import records
from benchmarks.paths import FIGURES, RESULTS, ROOT, SHARED
from benchmarks.tables.markdown import table
from benchmarks.tables.provenance import provenance

PACKAGES = ("torch", "numpy", "lightning", "torchmetrics", "pillow")
#: Held-out images, and one image of each of 1,000 classes.
SETS = {"imagenette": "images/imagenette_64_jpeg.npz", "imagenet-1k": "images/imagenet1k_64.npz"}
CARD = """# {codebook}

An image tokenizer: {levels} levels of {size} codes for each {factor} x {factor} pixels, coarse to fine, and a decoder from
any prefix of the levels to pixels. The quantizer is the class that the protein tokenizers use.

- **Data**: Imagenette at {side} px ({images} images of ten ImageNet classes; no image is in this package). sha256 of what
  was read: `{data}`.
- **Command**: `protok image train recipes/image/imagenette-64.toml --out runs/{name}`; seed {seed},
  {steps} steps. The recipe as resolved is in `config.json`.
- **Hardware and time**: {hardware}; {hours} hours. torch {torch}.{note}
- **Network**: pixels folded {patch} x {patch}, convolutions of width {width} (decoder {decoder_width}), {dim} dimensions;
  `{kind}` around `{inner}`, {schedule} schedule, continuous share {continuous_share}, ramp {ramp}. {parameters} parameters; encoder and
  codebook are kept in float32, the decoder in float16.

Scores by levels on {side} px (`{command}`):

{scores}

`frechet_gist` is a Fréchet distance of the features of `protok.image.metrics.Gist`, not an FID; it compares models with each
other on the same images and with nothing published.

**Licence**: Apache-2.0.

**Limits**: trained for squared errors on {side} px images of ten classes, without perceptual or adversarial losses: fine
texture is smoothed, and larger images are coded square by square of {factor} pixels as they come. It is made to run
offline in examples and tests; for good images train one of the recipes for ImageNet.
"""


def measure(model: Path, data: Path, out: Path, figures: Path, most: int) -> None:
    """Score a model on both sets; its result is that of its name."""
    from protok.image import ImageTokenizer
    from protok.image.evaluate import progressive

    tokenizer = ImageTokenizer.from_pretrained(model)
    side = tokenizer.provenance["recipe"]["data"]["size"]
    sets = {}
    figures.mkdir(parents=True, exist_ok=True)
    for name, path in SETS.items():
        sheet = figures / f"{tokenizer.name}-{name}.png"
        sets[name] = progressive(tokenizer, data / path, size=side, most=most, sheet=sheet)
    records.put(
        out,
        tokenizer.name,
        provenance(
            "python -m benchmarks.tables.image_model_card " + " ".join(sys.argv[1:]),
            PACKAGES,
            codebook=tokenizer.codebook,
            training=tokenizer.provenance,
            sets=sets,
        ),
    )


def ship(model: Path, result: dict, options: argparse.Namespace) -> Path:
    """Copy a model into the package and write its card."""
    config = json.loads((model / "config.json").read_text())
    if result["codebook"] != config["codebook"]:
        raise SystemExit(f"the result is of {result['codebook']}, the model {config['codebook']}")
    shape, origin = config["model"], config["provenance"]
    folder = options.package / "weights" / shape["name"]
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(model / name, folder / name)
    rows = [
        [
            name,
            str(row["n"]),
            str(row["levels"]),
            f"{row['bits_per_pixel']:.3f}",
            f"{row['psnr']:.2f}",
            f"{row['ssim']:.3f}",
            f"{row['frechet_gist']:.1f}",
            f"{row['usage']:.1%}",
            f"{row['perplexity']:.0f}",
        ]
        for name, levels in result["sets"].items()
        for row in levels
    ]
    head = [
        "set",
        "images",
        "levels",
        "bits per pixel",
        "PSNR, dB",
        "SSIM",
        "frechet_gist",
        "codes used",
        "perplexity",
    ]
    quantizer = shape["quantizer"]
    text = CARD.format(
        codebook=config["codebook"],
        **quantizer,
        images=origin["train_images"],
        data=origin["train_sha256"],
        seed=origin["seed"],
        steps=origin["steps"],
        torch=origin["torch"],
        hardware=options.hardware,
        hours=options.hours,
        command=result["command"],
        note=options.note and f"\n- **The run**: {options.note}",
        scores=table(head, rows),
        side=origin["recipe"]["data"]["size"],
        parameters=_parameters(model),
        **{k: shape[k] for k in ("name", "factor", "patch", "width", "decoder_width")},
    )
    (folder / "README.md").write_text(text)
    return folder


def _parameters(model: Path) -> str:
    from protok.image import ImageTokenizer

    network = ImageTokenizer.from_pretrained(model).network
    return f"{sum(p.numel() for p in network.parameters()):,}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of an image model")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "images.parquet")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of sheets of images")
    parser.add_argument("--most", type=int, default=2000, help="images a set")
    parser.add_argument("--ship", action="store_true", help="put it into the package")
    parser.add_argument("--package", type=Path, default=ROOT / "protok")
    parser.add_argument("--hardware", default="")
    parser.add_argument("--hours", default="")
    parser.add_argument("--note", default="", help="what else happened in the run")
    options = parser.parse_args(arguments)
    if options.ship and not (options.hardware and options.hours):
        parser.error("a card says --hardware and --hours")
    name = json.loads((options.model / "config.json").read_text())["model"]["name"]
    if not options.ship or name not in records.read(options.out):
        measure(options.model, options.data, options.out, options.figures, options.most)
    if options.ship:
        result = records.read(options.out)[name]
        print(f"wrote {ship(options.model, result, options)}")


if __name__ == "__main__":
    main()
