"""Cards of the shipped models: the README.md of their folders, from their configurations and results.

`benchmarks.tables.write` writes and checks them.
"""

from __future__ import annotations

import configparser
import json
from collections.abc import Callable
from pathlib import Path

from benchmarks import records
from benchmarks.paths import RESULTS, ROOT
from benchmarks.tables.images import levels_of
from benchmarks.tables.shapes import SETS, rebuilt, rows
from protok.common.card import PROTEIN_TAGS, Measured, front_matter, model_index

WEIGHTS = ROOT / "protok" / "weights"
#: The part below the front matter, which the site shows too.
PART = "<!-- --8<-- [start:card] -->\n{}<!-- --8<-- [end:card] -->\n"
PROTEIN = """\
# {codebook}

A tokenizer of protein backbones: one of {letters} shape letters and one of {around[letters]} environment
letters a residue, a keyframe each {spacings} residues as asked, and a decoder of shapes and keyframes to
N, CA, C and O, of complexes too.

- **Use**: `protok.load("{name}")` of the Python package protok{repository}, which holds the weights.
- **Data**: {chains:,} chains: those of Debian's [`promod3-data`](https://packages.debian.org/promod3-data)
  and the older store of the project, without homologs of what protok is tested on
  (`recipes/protein/chains.tsv.gz` lists all), drawn with weight 1 / size of their cluster at 30 % sequence
  identity. sha256 of the store: `{sha256}`.
- **Command**: `protok train recipes/protein/{name}.toml --out runs/{name}`; seed {seed}, {steps} steps of
  {residues} residues. The recipe as resolved is in `config.json`.
- **Hardware and time**: {hardware}, other work beside it; {hours:.1f} hours. torch {torch}.
- **Network**: encoder of {encoder[layers]} layers (width {encoder[hidden]}) over {encoder[window]} positions
  either side, to {dim} dimensions; step network of {trunk[layers]} gated convolutions (width {trunk[width]},
  {reach} positions either side in all); refiner of {refiner[layers]} of width {refiner[width]}. What codes
  follow from is in float32, the refiner in float16.
- **Keyframes**: {motions}.
- **Environments**: `protok.load("{name}:environment")`, made by
  `python -m recipes.environments.train recipes/environments/{name}.toml` and `recipes.environments.join` of
  the same chains, seed {around[seed]}, {around[steps]} steps, {around[hours]:.1f} hours ({around[hardware]}).
  Encoder of {around[layers]} layers (width {around[hidden]}) over the {around[neighbours]} nearest residues
  of the chain, to {around[dim]} dimensions. What aligned letters score: {around[scores]}.
- **Quantizer** of letters and keyframes: an independent implementation of
  [ProVQ](https://arxiv.org/abs/2603.22304).
- **Tuned on** the validation store alone, environments also on validation sides of site tables and on half
  A of the search folds. [CASP14](https://predictioncenter.org/casp14/),
  [CAMEO2022](https://www.cameo3d.org) and the complexes were read with the finished model, on the dates
  below.

Rebuilt from codes alone, means over chains (`python -m benchmarks.accuracy.shapes --test`; `python -m
benchmarks.targets` fetches the two test sets). Bits count all that is stored; the *reference codec* codes
whole frames one after the other, without a network:

{tables}

**Licence**: Apache-2.0.

**Limits**: a wrong letter or keyframe turns all that follows as one piece; residues without N, CA or C
have no letter; codes do not see amino acid types.
"""
IMAGE = """\
# {codebook}

An image tokenizer: {levels} levels of {size} codes for each {factor} x {factor} pixels, coarse to fine, and a
decoder from any prefix of the levels to pixels. The quantizer is the class that the protein tokenizers use.

- **Use**: `protok.image.ImageTokenizer.from_pretrained("{name}")` of the Python package
  protok{repository}, which holds the weights.
- **Data**: [Imagenette](https://github.com/fastai/imagenette) at {side} px ({images:,} images
  of ten ImageNet classes; no image is in this package).
  sha256 of what was read: `{data}`.
- **Command**: `protok image train recipes/image/imagenette-64.toml --out runs/{name}`; seed {seed},
  {steps} steps. The recipe as resolved is in `config.json`.
- **Hardware and time**: {hardware}, other work beside it; {hours:.1f} hours. torch {torch}.
- **Network**: pixels folded {patch} x {patch}, convolutions of width {width} (decoder {decoder_width}),
  {dim} dimensions; [`{kind}`](https://arxiv.org/abs/2603.22304) around `{inner}`,
  {schedule} schedule, continuous share {continuous_share},
  ramp {ramp}. Encoder and codebook are kept in float32, the decoder in float16.

Scores by levels on {side} px (`python -m benchmarks.quantizers.image_model protok/weights/{name}`):

{scores}

`frechet_gist` is a Fréchet distance of the features of `protok.image.metrics.Gist`, not an FID; it compares
models with each other on the same images and with nothing published.

**Licence**: Apache-2.0.

**Limits**: trained for squared errors on {side} px images of ten classes, without perceptual or adversarial
losses: fine texture is smoothed, and images of other sizes go through overlapping windows of {side} px.
It is made to run offline in examples and tests; for good images train one of the recipes for ImageNet.
"""
PRIOR = """\
# {name}

A prior over shape letters and keyframes of `{codebook}`: a {architecture} of {layers} layers (width {width},
{parameters:,} parameters in float16), which draws new chains of a wanted length and kind.

- **Use**: `protok prior sample {name} -o new/ --length 100 --particles 64` of the Python package
  protok{repository}, which holds the weights; in Python
  `protok.prior.Prior.from_pretrained("{name}")`. The folder is one of `transformers` too:
  `AutoModelForCausalLM`, `AutoTokenizer`.
- **Data**: {train_records:,} chains of the training store of `protok-1`, of up to {longest} residues, with
  keyframes each {spacing} residues; a twentieth of the store is held out. sha256 of the token file:
  `{train_sha256}`.
- **Command**: those of `recipes/prior/protok-1.toml`; seed {seed}, {steps} steps of {batch:,} ids. The
  recipe as resolved is in `config.json`.
- **Hardware and time**: {hardware}, other work beside it; {hours:.1f} hours. torch {torch}.
- **Held out**: {valid_bits:.2f} bits an id, letters and keyframes together, over {valid_records} chains.

What samples are worth, beside native chains and other controls: `docs/priors.md` of the repository.

**Licence**: Apache-2.0.

**Limits**: backbones alone, without amino acid types; no folding model has judged them. Without particles
chains run into themselves and are wider than proteins.
"""


def cards() -> dict[Path, str]:
    """The card of each shipped model, by its file."""
    of: dict[str, Callable[[dict], str]] = {"": protein, "image-tokenizer": image, "prior": prior}
    return {
        path.with_name("README.md"): of[config.get("kind", "")](config)
        for path in sorted(WEIGHTS.glob("*/config.json"))
        for config in [json.loads(path.read_text("utf-8"))]
    }


def repository() -> str:
    """` (address)` of the repository, which `setup.cfg` knows once there is one."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    address = config["metadata"].get("url", "")
    return address and f" ({address})"


def protein(config: dict) -> str:
    """Of a tokenizer of proteins."""
    made, model = config["provenance"], config["model"]
    name = model["name"]
    measures = {"rmsd": ("CA RMSD, Å", 2), "tm_score": ("TM-score", 3), "lddt": ("lDDT", 3)}
    results = [
        Measured(SETS[of], key, f"{title}, keyframes each {spacing}", round(scores[key], digits))
        for codebook, of, result in rows(f"{name}@")
        if codebook == config["codebook"] and of != "valid"
        for spacing, scores in result["reconstruction"].items()
        for key, (title, digits) in measures.items()
    ]
    head = {
        "license": "apache-2.0",
        "tags": PROTEIN_TAGS,
        "metrics": list(measures),
        "model-index": model_index(name, "Reconstruction from codes", results),
    }
    text = PROTEIN.format(
        codebook=config["codebook"],
        repository=repository(),
        letters=model["quantizer"]["size"],
        spacings=", ".join(map(str, sorted(model["keyframes"]["spacings"], reverse=True))),
        chains=made["train_chains"],
        sha256=made["train_sha256"],
        name=name,
        residues=made["recipe"]["data"]["residues"],
        hours=made["seconds_of_last_start"] / 3600,
        encoder=model["encoder"],
        dim=model["quantizer"]["dim"],
        trunk=model["steps"],
        reach=model["steps"]["window"] + model["steps"]["layers"] * model["steps"]["kernel"],
        motions=", ".join(
            f"each {spacing} residues one of {size:,} motions"
            for spacing, size in zip(*(model["keyframes"][key] for key in ("spacings", "sizes")), strict=True)
        ),
        refiner=model["refiner"],
        around=around(config),
        tables=rebuilt(),
        **{key: made[key] for key in ("seed", "steps", "hardware", "torch")},
    )
    return f"{front_matter(head)}\n\n{PART.format(text)}"


def around(config: dict) -> dict:
    """What the card says of the second alphabet."""
    made, model = config["provenance"]["environment"], config["model"]["environment"]
    return {
        "letters": model["quantizer"]["size"],
        "dim": model["quantizer"]["dim"],
        "hours": made["seconds_of_last_start"] / 3600,
        **model["encoder"],
        **{key: made[key] for key in ("seed", "steps", "hardware", "scores")},
    }


def image(config: dict) -> str:
    """Of a tokenizer of images."""
    made, model = config["provenance"], config["model"]
    name = model["name"]
    result = records.read(RESULTS / "images.parquet")[name]
    if result["codebook"] != config["codebook"]:
        raise SystemExit(f"the result is of {result['codebook']}, the model is {config['codebook']}")
    measures = {"psnr": ("PSNR, dB", 2), "ssim": ("SSIM", 3)}
    results = [
        Measured(of, key, f"{title}, levels: {row['levels']}", round(row[key], digits))
        for of, levels in result["sets"].items()
        for row in levels
        for key, (title, digits) in measures.items()
    ]
    head = {
        "license": "apache-2.0",
        "tags": ["image", "tokenizer", "vector-quantization"],
        "datasets": ["frgfm/imagenette"],
        "metrics": list(measures),
        "model-index": model_index(name, "Reconstruction from codes", results),
    }
    text = IMAGE.format(
        codebook=config["codebook"],
        repository=repository(),
        **model["quantizer"],
        images=made["train_images"],
        data=made["train_sha256"],
        hours=made["seconds_of_last_start"] / 3600,
        scores=levels_of(result),
        side=made["recipe"]["data"]["size"],
        **{key: made[key] for key in ("seed", "steps", "hardware", "torch")},
        **{key: model[key] for key in ("name", "factor", "patch", "width", "decoder_width")},
    )
    return f"{front_matter(head)}\n\n{PART.format(text)}"


def prior(config: dict) -> str:
    """Of a prior over chains."""
    made, model = config["provenance"], config["model"]
    text = PRIOR.format(
        repository=repository(),
        hours=made["seconds_of_last_start"] / 3600,
        batch=made["recipe"]["optim"]["batch"],
        codebook=config["codebook"],
        **{key: model[key] for key in ("name", "architecture", "layers", "width")},
        **{key: config["layout"][key] for key in ("longest", "spacing")},
        **{key: made[key] for key in ("seed", "steps", "hardware", "torch", "parameters")},
        **{key: made[key] for key in ("train_records", "train_sha256", "valid_records", "valid_bits")},
    )
    held = round(made["valid_bits"], 2)
    results = [Measured("held-out chains of the training store", "bits", "bits an id", held)]
    head = {
        "license": "apache-2.0",
        "tags": [*PROTEIN_TAGS, "text-generation"],
        "metrics": ["bits"],
        "model-index": model_index(model["name"], "Next code", results),
    }
    return f"{front_matter(head)}\n\n{PART.format(text)}"
