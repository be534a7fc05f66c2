"""The design search: what each part of the tokenizer gives, at equal steps, on held-out chains.

    python -m benchmarks.accuracy.design --list
    python -m benchmarks.accuracy.design --run --data ../shared

Every variant of design.toml is trained by `protok train`'s own code and then measured on
chains of the validation store, by length: CA RMSD, TM-score and lDDT of the decoded codes, and the
share of codes that 0.2 Å of noise leaves alone. Variants whose result is there are
not measured again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np

from benchmarks import records
from benchmarks.accuracy.design_parts import built_with, recovered
from benchmarks.accuracy.reconstruction import changed, noisy
from benchmarks.paths import RESULTS, SHARED
from benchmarks.tables.provenance import digest, provenance

RECIPE = Path(__file__).with_suffix(".toml")
#: Lengths in which results are reported, and chains of each.
LENGTHS, CHAINS = ((40, 100), (100, 200), (200, 300), (300, 500)), 16


def flat(table: dict, prefix: str = "") -> dict:
    """Nested tables as dotted keys."""
    dotted = {}
    for key, value in table.items():
        if isinstance(value, dict):
            dotted |= flat(value, f"{prefix}{key}.")
        else:
            dotted[prefix + key] = value
    return dotted


def score(tokenizer, store, seed: int) -> dict:
    """Means by length, and codes kept under 0.2 Å noise."""
    import protok

    rng = np.random.default_rng(seed)
    lengths, drawn = store.lengths(), []
    by_length: dict = {}
    moved = np.zeros(2, int)
    for low, high in LENGTHS:
        fits = np.flatnonzero((lengths >= low) & (lengths < high))
        rows = []
        for i in rng.permutation(fits)[:CHAINS]:
            drawn.append(int(i))
            chain = store.backbone(int(i))
            if tokenizer.network.quantizer is None:
                again = tokenizer.reconstruct(chain)
            else:
                tokens = tokenizer.encode(chain)
                again = tokenizer.decode(tokens)
                moved += changed(tokens, tokenizer.encode(noisy(chain, 0.2, rng)))
            compared = protok.compare(again, chain)
            rows.append((compared.rmsd, compared.tm_score, compared.lddt))
        mean = np.mean(rows, axis=0)
        by_length[f"{low}-{high}"] = {
            "chains": len(rows),
            "rmsd": round(float(mean[0]), 3),
            "tm_score": round(float(mean[1]), 4),
            "lddt": round(float(mean[2]), 4),
        }
    kept = round(1 - moved[0] / moved[1], 4) if moved[1] else None
    scores = {"by_length": by_length, "kept_at_0.2": kept}
    if hasattr(tokenizer.network.decoder, "kind"):
        scores["amino_acids_recovered"] = round(recovered(tokenizer, store, drawn), 4)
    return scores


def measure(overrides: dict, data: Path) -> dict:
    """Train one variant in a temporary folder and score it.

    Two settings are not the recipe's: ``part``, of `design_parts`, and ``relax``, the steps of
    relaxation after decoding.
    """
    from protok.tokenizers.learned import StructureTokenizer

    from protok.structure.store import read_store
    from protok.training.run import run

    overrides = dict(overrides)
    part, relax = overrides.pop("part", None), overrides.pop("relax", 0)
    train, valid = (data / "structures" / f"{name}.parquet" for name in ("train", "valid"))
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder, built_with(part):
        model = run(
            None, out=folder, overrides=overrides | {"data.train": str(train), "data.valid": str(valid)}
        )
        spent = time.process_time() - began
        tokenizer = StructureTokenizer.from_pretrained(model)
    tokenizer.steps = relax
    return {
        "data_sha256": {path.name: digest([path]) for path in (train, valid)},
        "training_cpu_seconds": round(spent),
        **score(tokenizer, read_store(valid), 0),
    }


def main(arguments: list[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="variants; + done, - to do")
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "design.parquet")
    options = parser.parse_args(arguments)
    recipe, there = tomllib.loads(RECIPE.read_text()), records.read(options.out)
    for name, changes in recipe["variants"].items():
        if not options.run:
            print("+" if name in there else "-", name, changes)
        elif name not in there and (options.only is None or name in options.only):
            changes = {k: v for k, v in changes.items() if k != "about"}
            overrides = flat(recipe["base"]) | changes
            measured = measure(overrides, options.data)
            records.put(
                options.out,
                name,
                provenance(
                    "python -m benchmarks.accuracy.design " + " ".join(sys.argv[1:]),
                    name=name,
                    seed=overrides.get("optim.seed", 0),
                    changes=changes,
                    recipe=overrides,
                    **measured,
                ),
            )
            print(name, measured["by_length"], measured["kept_at_0.2"], flush=True)


if __name__ == "__main__":
    main()
