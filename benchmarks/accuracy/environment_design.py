"""The design search of letters of environments: what each target and size gives, at equal steps.

    python -m benchmarks.accuracy.environment_design --list
    python -m benchmarks.accuracy.environment_design --run --only base without-relatives
    python -m benchmarks.accuracy.environment_design --model protok-1      # one that is trained, beside them

Every variant of environment_design.toml is trained by `recipes.environments.train` and measured on chains
that are not trained on: bits about each target, of chains that are kept aside; letters kept by validation
chains; single letters on the validation sides of the site tables; bits saved by homologs of half A of the
search folds. Variants whose result is there are not measured again.
"""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.command import without_traceback
from benchmarks.leaderboard.search import WHOLE, Chain, chains
from benchmarks.paths import RESULTS, ROOT, RUNS, SHARED
from benchmarks.sites import within
from benchmarks.tables.environments import KEY
from benchmarks.tables.provenance import digest, provenance
from protok.bench.data.folder import Folder
from protok.bench.data.source import Domain
from protok.bench.measures.homologs import homologs
from protok.bench.representations.representation import Representation
from protok.structure.backbone import Backbone
from protok.tokenizers.environments import EnvironmentTokenizer
from protok.tokenizers.shapes import ShapeTokenizer

VARIANTS = Path(__file__).with_suffix(".toml")
RECIPE = ROOT / "recipes" / "environments" / "protok-1.toml"
#: Proteins of a side of a table, at most.
PROTEINS = 250


class Half:
    """Whole domains of a half of the search folds, as `homologs` asks for them."""

    def __init__(self, held: Sequence[Chain]):
        self.held = {chain.backbone.name: chain.backbone for chain in held}
        self.domains = []
        for chain in held:
            family, id = chain.families[0], chain.backbone.name
            above = (family.rsplit(".", 2)[0], family.rsplit(".", 1)[0])
            self.domains.append(Domain(id, (0, len(chain.backbone)), *above, family, id))

    def structure(self, id: str) -> Backbone:
        """A domain."""
        return self.held[id]


def measure(tokenizer: EnvironmentTokenizer, tables: Sequence[str], data: Path) -> dict[str, Any]:
    """What letters are worth on sides that nothing is reported of."""
    began = time.process_time()
    path = data / "structtokenbench"
    scores = {name: within(tokenizer, path, name, PROTEINS) for name in tables}
    half = Half(chains(data / "search" / "scope40_dev.parquet", "A")[WHOLE])
    saved, _ = homologs(Representation(tokenizer), half, half.domains)
    values = [score.value for score in scores.values() if np.isfinite(score.value)]
    return {
        "auroc_within": round(float(np.mean(values)), 4),
        "auroc_within_each": {name: round(score.value, 4) for name, score in scores.items()},
        "homolog_bits": {"value": saved["bits"].value, "se": saved["bits"].se},
        "measuring_cpu_seconds": round(time.process_time() - began),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    from recipes.environments.train import train

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="variants; + done, - to do")
    what.add_argument("--run", action="store_true", help="minutes of a core a variant")
    what.add_argument("--model", help="measure the environment letters of this model")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants")
    parser.add_argument("--train", type=Path, default=RUNS / "data", help="folder of the stores")
    parser.add_argument("--runs", type=Path, default=RUNS / "environment_design", help="for the trainings")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "design.parquet")
    options = parser.parse_args(arguments)
    plan, there = tomllib.loads(VARIANTS.read_text()), records.read(options.out)
    valid = options.data / "structures" / "valid.parquet"
    tables: list[str] = []
    if not options.list:
        folder = Folder(options.data / "structtokenbench")
        tables = [name for name in folder.tables() if folder.table(name).kind == "site"]

    def put(name: str, tokenizer: EnvironmentTokenizer, made: Mapping[str, Any], **more: Any) -> None:
        result = provenance(
            "python -m benchmarks.accuracy.environment_design " + " ".join(sys.argv[1:]),
            name=name,
            seed=made["seed"],
            data_sha256={path.name: digest([path]) for path in (options.train / "train.parquet", valid)},
            letters=tokenizer.size,
            held_out=made["validation"],
            **more,
            **(measure(tokenizer, tables, options.data) if tokenizer.size else {}),
        )
        records.put(options.out, KEY + name, result)
        print(name, {k: result.get(k) for k in ("held_out", "auroc_within", "homolog_bits")}, flush=True)

    if options.model:
        shapes = ShapeTokenizer.from_pretrained(options.model)
        if shapes.environment is None:
            raise SystemExit(f"{shapes.name} has no environment letters")
        made = shapes.provenance["environment"]
        put(shapes.environment.codebook, shapes.environment, made, changes={"optim.steps": made["steps"]})
        return
    for name, changes in plan["variants"].items():
        key = KEY + name
        if options.list:
            print("+" if key in there else "-", name, changes)
        elif key not in there and (options.only is None or name in options.only):
            settings = plan["base"] | changes | {"data.folder": str(options.train), "data.valid": str(valid)}
            began = time.process_time()
            model = train(RECIPE, options.runs / name, settings | {"valid.every": 100_000}, True)
            spent = round(time.process_time() - began)
            tokenizer = EnvironmentTokenizer.from_pretrained(model)
            more = {"changes": changes, "base": plan["base"], "training_cpu_seconds": spent}
            put(name, tokenizer, tokenizer.provenance, **more)


if __name__ == "__main__":
    without_traceback(main)
