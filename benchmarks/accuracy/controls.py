"""protok-512 beside its controls: trained alike, compared target by target.

    python -m benchmarks.accuracy.controls --train protok-512-vq --runs runs     # or all; resumes
    python -m benchmarks.accuracy.reconstruction --model runs/protok-512-vq/model --set ...
    python -m benchmarks.accuracy.controls --compare

Every control of controls.toml is trained by `protok train`'s own code with the recipe of
protok-512, seed and steps included. Each is measured by reconstruction.py, as protok-512 is, and
the differences to protok-512 of the same target are averaged, with a 95 % interval from 10,000
bootstrap samples of targets. One seed: the interval says how sure the difference is over targets,
not over trainings.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

import numpy as np

from benchmarks import records
from benchmarks.paths import RECIPES, RESULTS, SHARED
from benchmarks.tables.provenance import provenance, write

MEASURES = ("rmsd", "tm_score", "lddt")
BASE = "protok-512"


def controls() -> tuple[Path, dict[str, dict]]:
    """The recipe they share, and what each changes in it."""
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
    base = RECIPES / table.pop("base")
    return base, {name: {k: v for k, v in changes.items() if k != "about"} for name, changes in table.items()}


def train(names: list[str], runs: Path, overrides: dict) -> None:
    """Train controls, or go on with them."""
    from protok.training.run import run

    base, known = controls()
    for name in known if names == ["all"] else names:
        if (runs / name / "model").exists():
            print(f"{name} is trained already")
            continue
        changes = {"model.name": name, **known[name], **overrides}
        print("the model is in", run(base, out=runs / name, overrides=changes, resume=True))


def paired(ours: list[dict], theirs: list[dict], rng: np.random.Generator) -> dict:
    """Mean of the control's value less ours over the same targets, with its interval."""
    there = {(t["name"], t["chain"]): t for t in theirs}
    pairs = [(t, there[key]) for t in ours if (key := (t["name"], t["chain"])) in there]
    differences = {}
    for key in MEASURES:
        gaps = np.array([b[key] - a[key] for a, b in pairs])
        draws = gaps[rng.integers(0, len(gaps), (10_000, len(gaps)))].mean(1)
        low, high = np.quantile(draws, [0.025, 0.975])
        differences[key] = {
            "mean": round(float(gaps.mean()), 4),
            "interval": [round(float(low), 4), round(float(high), 4)],
            "control_better_in": int((gaps < 0).sum() if key == "rmsd" else (gaps > 0).sum()),
        }
    return {"targets": len(pairs), **differences}


def main(arguments: list[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", nargs="+", default=[], metavar="NAME", help="or all")
    parser.add_argument("--compare", action="store_true", help="those that are measured")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--steps", type=int, help="fewer than the recipe's, for a trial")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "controls.json")
    options = parser.parse_args(arguments)
    stores = {
        f"data.{name}": str(options.data / "structures" / f"{name}.parquet") for name in ("train", "valid")
    }
    fewer = {"optim.steps": options.steps} if options.steps else {}
    train(options.train, options.runs, stores | fewer)
    if not options.compare:
        return

    rng = np.random.default_rng(0)
    measured = records.read(RESULTS / "reconstruction.parquet")
    base = measured[BASE]
    gaps = {}
    for name in controls()[1]:
        if name not in measured:
            print(f"{name} is not measured", file=sys.stderr)
            continue
        gaps[name] = {}
        for key, ours in base["sets"].items():
            theirs = measured[name]["sets"][key]
            if theirs["data_sha256"] != ours["data_sha256"]:
                raise SystemExit(f"{name} was measured on other files than {BASE}")
            gaps[name][key] = paired(ours["targets"], theirs["targets"], rng)
            print(name, key, gaps[name][key])
    write(
        options.out,
        provenance(
            "python -m benchmarks.accuracy.controls " + " ".join(sys.argv[1:]),
            seed=0,
            base=base["codebook"],
            control_less_ours=gaps,
        ),
    )


if __name__ == "__main__":
    main()
