"""What a prior's samples are worth: validity, diversity and novelty, or likeness, and sheets.

    python -m benchmarks.quantizers.prior_samples PRIOR --tokens TOKENS --structures STORE    # chains
    python -m benchmarks.quantizers.prior_samples PRIOR --tokens CODES.npz --images DIR      # images

The settings of sampling (length, temperature, top-p, guidance) are those of `prior_samples.toml`, of
the kind that fits the prior; each has its entry in the prior's result, which is written anew after
each, and with ``-o`` of an earlier call only missing ones are measured.
"""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.command import without_traceback
from benchmarks.paths import FIGURES, RESULTS

PACKAGES = ("torch", "numpy", "transformers", "biotite", "tmtools", "torchmetrics")
#: Images on a sheet, at most.
SHOWN = 50


def measure(
    prior: Any, tokenizer: Any, tokens: str, setting: dict, n: int, **real: Any
) -> tuple[list, list, dict[str, Any]]:
    """Requests and codes of n samples of one setting, and their scores."""
    from protok.cli.prior import likelihood, natives
    from protok.prior.evaluate import score_chains, score_images
    from protok.prior.sampling import Drawing, requests, sample
    from protok.prior.steering import Geometry

    began = time.process_time()
    how = {**setting}
    lengths = [how.pop("length")] if "length" in how else ()
    particles = how.pop("particles", 0)
    steering = Geometry(tokenizer, prior.layout, particles) if particles else None
    asked = requests(prior, n, lengths=lengths)
    codes = sample(prior, asked, Drawing(**how), steering=steering)
    seconds = time.process_time() - began
    structures = real.pop("structures")
    if prior.layout.grid:
        scores = score_images(prior, tokenizer, asked, codes, tokens, **real)
    else:
        own = {"natives": natives(structures), "likelihood": likelihood(None)}
        scores = score_chains(prior, tokenizer, asked, codes, tokens, **own)
    drawn = sum(sequence.size for sequence in codes)
    return asked, codes, {"codes_per_cpu_second": drawn / seconds, **scores}


def sheet(prior: Any, tokenizer: Any, asked: list, codes: list, path: Path) -> None:
    """Samples of images in rows of ten."""
    from protok.image.pixels import contact_sheet, write_pixels
    from protok.prior.images import as_tokens

    some = as_tokens(prior.layout, codes[:SHOWN], asked[:SHOWN])
    pixels = tokenizer.decode_batch(some)
    rows = [pixels[i : i + 10] for i in range(0, len(pixels), 10)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pixels(contact_sheet(rows), path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prior", type=Path, help="folder of a prior")
    parser.add_argument("--tokens", required=True, help="its training file")
    parser.add_argument("--tokenizer", help="default: the one that the prior names")
    parser.add_argument("--structures", help="native chains that it has not learned, a store or folder")
    parser.add_argument("--images", help="real images, their val/ if they have")
    parser.add_argument("--inception", help="Inception weights of torch-fidelity: gFID")
    parser.add_argument("--recipe", type=Path, default=Path(__file__).with_suffix(".toml"))
    parser.add_argument("-n", type=int, default=64, help="samples a setting")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "prior_samples.parquet")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of sheets of images")
    options = parser.parse_args(arguments)

    from benchmarks.tables.provenance import provenance
    from protok.prior import Prior, images, proteins

    prior = Prior.from_pretrained(options.prior)
    layout = prior.layout
    kind = "images" if layout.grid else "chains"
    name = options.tokenizer or layout.codebook.rpartition("@")[0]
    tokenizer = (images if layout.grid else proteins).decoder(name, layout)
    real = {"images": options.images, "inception": options.inception, "structures": options.structures}
    result: dict[str, Any] = records.read(options.out).get(prior.config.name, {"settings": {}})
    about = provenance(
        "python -m benchmarks.quantizers.prior_samples " + " ".join(arguments or sys.argv[1:]),
        PACKAGES,
        prior=prior.config.name,
        codebook=layout.codebook,
        n=options.n,
        training=prior.provenance,
    )
    # Numbers of samples change the Fréchet distance and the share of novel ones.
    if any(result.get(key) != about[key] for key in ("codebook", "n", "training")):
        result = {"settings": {}}
    for key, setting in tomllib.loads(options.recipe.read_text())[kind].items():
        if key in result["settings"]:
            continue
        asked, codes, scores = measure(prior, tokenizer, options.tokens, setting, options.n, **real)
        if layout.grid:
            sheet(prior, tokenizer, asked, codes, options.figures / f"{prior.config.name}-{key}.png")
        result["settings"][key] = {"sampling": setting, **scores}
        records.put(options.out, prior.config.name, about | {"settings": result["settings"]})


if __name__ == "__main__":
    without_traceback(main)
