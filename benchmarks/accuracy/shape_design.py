"""The design search of shapes and keyframes: what each part gives, at equal steps, on held-out chains.

    python -m benchmarks.accuracy.shape_design --list
    python -m benchmarks.accuracy.shape_design --run --train runs/data/train.parquet

Every variant of shape_design.toml is trained by `protok train`'s own code and measured on chains of
the validation store by `benchmarks.accuracy.shape_measures`. Variants whose result is there are not
measured again.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np

from benchmarks import records
from benchmarks.accuracy import shape_measures as of
from benchmarks.accuracy.shapes import valid_chains
from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS, ROOT, RUNS, SHARED
from benchmarks.tables.provenance import digest, provenance
from protok.bench.measures import locality
from protok.bench.measures.scores import values
from protok.structure.backbone import Backbone
from protok.structure.metrics import compare
from protok.tokenizers.shapes import ShapeTokenizer

RECIPE = Path(__file__).with_suffix(".toml")
#: Chains of the validation store, and residues of the longest.
CHAINS, LONGEST = 60, 600
#: The chains that shipped models are trained on, with the store that each comes from.
CHAINS_USED = ROOT / "recipes" / "protein" / "chains.tsv.gz"


def flat(table: dict, prefix: str = "") -> dict:
    """Nested tables as dotted keys."""
    dotted = {}
    for key, value in table.items():
        if isinstance(value, dict):
            dotted |= flat(value, f"{prefix}{key}.")
        else:
            dotted[prefix + key] = value
    return dotted


def measure(overrides: dict, chains: list[Backbone]) -> dict:
    """Train one variant in a temporary folder and score it."""
    from protok.training.run import run

    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = ShapeTokenizer.from_pretrained(run(out=folder, overrides=overrides))
    spent = time.process_time() - began
    out: dict = {"training_cpu_seconds": round(spent)}
    began = time.process_time()
    if not tokenizer.size:
        return out | {"reconstruction": {s: continuous(tokenizer, chains, s) for s in tokenizer.spacings}}
    out["reconstruction"] = {s: of.reconstruction(tokenizer, chains, s) for s in tokenizer.spacings}
    out["measuring_cpu_seconds"] = round(time.process_time() - began)
    some = [chain for chain in chains if len(chain) >= 60][::2]
    alone = values(locality.without_keyframes(tokenizer, some))
    return out | of.of_letters(tokenizer, chains, some) | {"without_keyframes": alone}


def continuous(tokenizer: ShapeTokenizer, chains: list[Backbone], spacing: int) -> dict:
    """Mean scores of chains whose latents are not quantized; their keyframes are coded."""
    rows = []
    for chain in chains:
        scores = compare(tokenizer.rebuild(chain, keyframes=spacing), chain)
        rows.append((len(chain), scores.rmsd, scores.tm_score, scores.lddt))
    return {"chains": len(rows), **of.means(np.array(rows))}


def without(store: str, folder: Path) -> Path:
    """A list of the chains that come from a store, which are not to be trained on."""
    with gzip.open(CHAINS_USED, "rt") as file:
        rows = [line.split("\t") for line in file]
    path = folder / f"{store}.txt"
    path.write_text("".join(f"{row[1]}\n" for row in rows if row[0] == store))
    return path


def main(arguments: list[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="variants; + done, - to do")
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants")
    parser.add_argument("--train", type=Path, default=RUNS / "data" / "train.parquet")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "design.parquet")
    options = parser.parse_args(arguments)
    recipe, there = tomllib.loads(RECIPE.read_text()), records.read(options.out)
    valid, chains = options.data / "structures" / "valid.parquet", []
    if options.run:
        chains = [chain for chain in valid_chains(options.data, CHAINS) if len(chain) <= LONGEST]
    for name, changes in recipe["variants"].items():
        changes = {key: value for key, value in changes.items() if key != "about"}
        if not options.run:
            print("+" if name in there else "-", name, changes)
        elif name not in there and (options.only is None or name in options.only):
            overrides = flat(recipe["base"]) | changes
            overrides |= {"data.train": str(options.train), "data.valid": str(valid)}
            if store := overrides.pop("without", None):
                overrides["data.exclude"] = str(without(store, options.train.parent))
            result = provenance(
                "python -m benchmarks.accuracy.shape_design " + " ".join(sys.argv[1:]),
                name=name,
                seed=overrides.get("optim.seed", 0),
                changes=changes,
                recipe=overrides,
                data_sha256={path.name: digest([path]) for path in (options.train, valid)},
                **measure(overrides, chains),
            )
            records.put(options.out, name, result)
            scores = {s: round(part["rmsd"], 3) for s, part in result["reconstruction"].items()}
            print(name, scores, *(result.get(key) for key in ("perplexity", "noise_0.2", "cut")), flush=True)


if __name__ == "__main__":
    without_traceback(main)
