"""What a prior's samples are worth: validity, diversity and novelty, or likeness, and sheets.

    python -m benchmarks.quantizers.prior_samples PRIOR --tokens TOKENS --structures STORE... # chains
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
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.command import without_traceback
from benchmarks.paths import FIGURES, RESULTS

PACKAGES = ("torch", "numpy", "transformers", "biotite", "tmtools", "torchmetrics")
#: Images on a sheet, at most.
SHOWN = 50


def draw(
    prior: Path, tokenizer: str, setting: Mapping[str, Any], asked: Sequence[Any], first: int
) -> tuple[list[Any], float]:
    """Codes of requests, of which the first has a number, and CPU-seconds: what one process does.

    In one thread: threads of several processes would wait for each other.
    """
    import torch

    from protok.prior import Prior, proteins
    from protok.prior.sampling import Drawing, sample
    from protok.prior.steering import Geometry

    torch.set_num_threads(1)
    began, how = time.process_time(), {**setting}
    loaded = Prior.from_pretrained(prior)
    how.pop("length", None)
    steering = None
    if particles := how.pop("particles", 0):
        steering = Geometry(proteins.decoder(tokenizer, loaded.layout), loaded.layout, particles)
    codes = sample(loaded, asked, Drawing(**how), first=first, steering=steering)
    return codes, time.process_time() - began


def measure(
    prior: Any,
    folder: Path,
    tokenizer: str,
    tokens: str,
    setting: Mapping[str, Any],
    n: int,
    jobs: int,
    **real: Any,
) -> tuple[list, list, dict[str, Any]]:
    """Requests and codes of n samples of one setting, and their scores, of a prior in a folder."""
    from protok.cli.prior import likelihood
    from protok.prior import images, proteins
    from protok.prior.evaluate import score_chains, score_images
    from protok.prior.sampling import requests

    asked = requests(prior, n, lengths=[setting["length"]] if "length" in setting else ())
    firsts = range(0, n, -(-n // jobs))
    calls = [(folder, tokenizer, setting, asked[i : i + firsts.step], i) for i in firsts]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        parts = [*pool.map(draw, *zip(*calls, strict=True))]
    codes, seconds = [c for part, _ in parts for c in part], sum(spent for _, spent in parts)
    natives = real.pop("natives")
    if prior.layout.grid:
        scores = score_images(prior, images.decoder(tokenizer, prior.layout), asked, codes, tokens, **real)
    else:
        own = {"natives": natives, "likelihood": likelihood(None)}
        scores = score_chains(prior, proteins.decoder(tokenizer, prior.layout), asked, codes, tokens, **own)
    return asked, codes, {"codes_per_cpu_second": sum(ids.size for ids in codes) / seconds, **scores}


def experimental(path: str) -> list[Any]:
    """Chains of a folder or store, without those that a manifest beside it calls predicted (tier C)."""
    import pandas as pd

    from protok.cli.prior import natives

    predicted: set[str] = set()
    if (manifest := Path(path).with_name("manifest.csv")).exists():
        table = pd.read_csv(manifest, usecols=["id", "tier"])
        predicted = set(table.id[table.tier == "C"])
    return [chain for chain in natives(path) if chain.name not in predicted]


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
    parser.add_argument(
        "--structures", nargs="+", default=[], help="native chains that it has not learned, stores or folders"
    )
    parser.add_argument("--images", help="real images, their val/ if they have")
    parser.add_argument("--inception", help="Inception weights of torch-fidelity: gFID")
    parser.add_argument("--recipe", type=Path, default=Path(__file__).with_suffix(".toml"))
    parser.add_argument("-n", type=int, default=64, help="samples a setting")
    parser.add_argument("--jobs", type=int, default=1, help="processes that draw; samples are the same")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "prior_samples.parquet")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of sheets of images")
    options = parser.parse_args(arguments)

    from benchmarks.tables.provenance import provenance
    from protok.prior import Prior, images

    prior = Prior.from_pretrained(options.prior)
    layout = prior.layout
    kind = "images" if layout.grid else "chains"
    name = options.tokenizer or layout.codebook.rpartition("@")[0]
    chains = [chain for path in options.structures for chain in experimental(path)]
    real = {"images": options.images, "inception": options.inception, "natives": chains}
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
        own = (prior, options.prior, name, options.tokens, setting, options.n, options.jobs)
        asked, codes, scores = measure(*own, **real)
        if layout.grid:
            path = options.figures / f"{prior.config.name}-{key}.png"
            sheet(prior, images.decoder(name, layout), asked, codes, path)
        result["settings"][key] = {"sampling": setting, **scores}
        records.put(options.out, prior.config.name, about | {"settings": result["settings"]})


if __name__ == "__main__":
    without_traceback(main)
