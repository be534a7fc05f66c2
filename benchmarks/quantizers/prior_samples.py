"""What a prior's samples are worth: validity, diversity and novelty, or likeness, and sheets.

    python -m benchmarks.quantizers.prior_samples PRIOR --tokens TOKENS --structures STORE... # chains
    python -m benchmarks.quantizers.prior_samples PRIOR --tokens CODES.npz --images DIR      # images

The settings of sampling (length, temperature, top-p, guidance) are those of `prior_samples.toml`, of
the kind that fits the prior; each has its entry in the prior's result, which is written anew after
each, and with ``-o`` of an earlier call only missing ones are measured. With ``--drawn`` codes are kept as
they are drawn, so that a call that was stopped loses few.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.command import without_traceback
from benchmarks.paths import FIGURES, RESULTS
from benchmarks.tables.provenance import digest, provenance
from protok.common.files import atomic

PACKAGES = ("torch", "numpy", "transformers", "biotite", "tmtools", "torchmetrics")
#: Images on a sheet, at most.
SHOWN = 50
#: Samples that a process draws at once.
PART = 10


def draw(
    prior: Path, tokenizer: str, setting: Mapping[str, Any], kept: Path | None, part: tuple[int, list[Any]]
) -> list[Any]:
    """Codes of some requests, of which the first has a number; what was kept in a folder is read."""
    import numpy as np

    from protok.prior import Prior, proteins
    from protok.prior.sampling import Drawing, sample
    from protok.prior.steering import Geometry

    (first, asked), how = part, {**setting}
    if kept is not None:
        of = [how, [asdict(request) for request in asked], first]
        kept /= f"{hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]}.npz"
        if kept.exists():
            with np.load(kept) as file:
                return [file[str(i)] for i in range(len(asked))]
    loaded = Prior.from_pretrained(prior)
    how.pop("length", None)
    steering = None
    if particles := how.pop("particles", 0):
        steering = Geometry(proteins.decoder(tokenizer, loaded.layout), loaded.layout, particles)
    codes = sample(loaded, asked, Drawing(**how), first=first, steering=steering)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic(kept, "wb") as file:
            np.savez_compressed(file, **{str(i): ids for i, ids in enumerate(codes)})
    return codes


def made_by(prior: Path, tokenizer: str) -> str:
    """A name for all that codes follow from beside the setting: both models, and the package."""
    import protok
    from protok.common.hub import folder_of

    models = [path for folder in (prior, folder_of(tokenizer)) for path in Path(folder).iterdir()]
    source = sorted(Path(protok.__file__).parent.rglob("*.py"))
    return digest([*filter(Path.is_file, models), *source])[:16]


def measure(
    prior: Any,
    tokenizer: str,
    setting: Mapping[str, Any],
    options: argparse.Namespace,
    natives: Sequence[Any],
    measured: Mapping[str, Any] | None,
) -> tuple[list, list, dict[str, Any]]:
    """Requests and codes of samples of one setting, and their scores; controls may be measured before."""
    from protok.cli.prior import likelihood
    from protok.common.workers import each
    from protok.prior import images, proteins
    from protok.prior.evaluate import score_chains, score_images
    from protok.prior.sampling import requests

    lengths = [setting["length"]] if "length" in setting else ()
    asked, jobs = requests(prior, options.n, lengths=lengths), options.jobs
    parts = [(first, asked[first : first + PART]) for first in range(0, len(asked), PART)]
    kept = options.drawn and options.drawn / made_by(options.prior, tokenizer)
    drawn = each(partial(draw, options.prior, tokenizer, setting, kept), parts, jobs)
    codes = [ids for part in drawn for ids in part]
    if prior.layout.grid:
        own = {"images": options.images, "inception": options.inception}
        shown = images.decoder(tokenizer, prior.layout)
        return asked, codes, score_images(prior, shown, asked, codes, options.tokens, **own)
    own = {"natives": natives, "likelihood": likelihood(None), "measured": measured, "jobs": jobs}
    built = proteins.decoder(tokenizer, prior.layout)
    return asked, codes, score_chains(prior, built, asked, codes, options.tokens, **own)


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
    parser.add_argument("--jobs", type=int, default=1, help="processes; samples are the same")
    parser.add_argument("--drawn", type=Path, metavar="FOLDER", help="keeps codes as they are drawn")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "prior_samples.parquet")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of sheets of images")
    options = parser.parse_args(arguments)

    from protok.prior import Prior, images

    prior = Prior.from_pretrained(options.prior)
    layout = prior.layout
    kind = "images" if layout.grid else "chains"
    name = options.tokenizer or layout.codebook.rpartition("@")[0]
    chains = [chain for path in options.structures for chain in experimental(path)]
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
    controls: dict[int, Any] = {}
    for key, setting in tomllib.loads(options.recipe.read_text())[kind].items():
        if key in result["settings"]:
            continue
        length = setting.get("length")
        asked, codes, scores = measure(prior, name, setting, options, chains, controls.get(length))
        if length is not None:
            controls[length] = scores["sets"]
        if layout.grid:
            path = options.figures / f"{prior.config.name}-{key}.png"
            sheet(prior, images.decoder(name, layout), asked, codes, path)
        result["settings"][key] = {"sampling": setting, **scores}
        records.put(options.out, prior.config.name, about | {"settings": result["settings"]})


if __name__ == "__main__":
    without_traceback(main)
