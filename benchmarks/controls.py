"""protok-512 beside its controls: trained alike, compared target by target.

    python benchmarks/controls.py --train protok-512-vq --runs runs     # or all; resumes
    python benchmarks/controls.py --measure --runs runs --data ../shared

Every control of recipes/controls.toml is trained by `protok train`'s own code with the recipe of
protok-512, seed and steps included. Then each is measured on CASP14 and CAMEO 2022, as
reconstruction.py does, and the differences to protok-512 of the same target are averaged, with a
95 % interval from 10,000 bootstrap samples of targets. One seed: the interval says how sure the
difference is over targets, not over trainings.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

import numpy as np
from provenance import digest, provenance, write
from reconstruction import measure

ROOT = Path(__file__).resolve().parent
RECIPES = ROOT / "recipes"
SETS = ("casp14", "cameo2022")
MEASURES = ("rmsd", "tm_score", "lddt")
BASE = "protok-512"


def controls() -> tuple[Path, dict[str, dict]]:
    """The recipe they share, and what each changes in it."""
    table = tomllib.loads((RECIPES / "controls.toml").read_text())
    base = RECIPES / table.pop("base")
    return base, {
        name: {k: v for k, v in changes.items() if k != "about"} for name, changes in table.items()
    }


def train(names: list[str], runs: Path, overrides: dict) -> None:
    """Train controls, or go on with them."""
    from protok.train import run

    base, known = controls()
    for name in known if names == ["all"] else names:
        if (runs / name / "model").exists():
            print(f"{name} is trained already")
            continue
        changes = {"model.name": name, **known[name], **overrides}
        print("the model is in", run(base, out=runs / name, overrides=changes, resume=True))


def scores(tokenizer, folder: Path) -> dict:
    """What reconstruction.py measures; of continuous latents their round trip alone."""
    import protok

    if tokenizer.network.quantizer is not None:
        return measure(tokenizer, folder, 0)
    targets = []
    for file in protok.io.iter_files([folder]):
        for chain in protok.read(file).split():
            found = protok.compare(tokenizer.reconstruct(chain), chain)
            targets.append({
                "name": chain.name, "chain": chain.chains[0], "length": len(chain),
                **{key: round(getattr(found, key), 6) for key in MEASURES},
            })  # fmt: skip
    mean = {key: round(float(np.mean([t[key] for t in targets])), 6) for key in MEASURES}
    return {"targets": targets, "mean": mean}


def paired(ours: list[dict], theirs: list[dict], rng: np.random.Generator) -> dict:
    """Mean of the control's value less ours over the same targets, with its interval."""
    there = {(t["name"], t["chain"]): t for t in theirs}
    pairs = [(t, there[key]) for t in ours if (key := (t["name"], t["chain"])) in there]
    found = {}
    for key in MEASURES:
        gaps = np.array([b[key] - a[key] for a, b in pairs])
        draws = gaps[rng.integers(0, len(gaps), (10_000, len(gaps)))].mean(1)
        low, high = np.quantile(draws, [0.025, 0.975])
        found[key] = {
            "mean": round(float(gaps.mean()), 4),
            "interval": [round(float(low), 4), round(float(high), 4)],
            "control_better_in": int((gaps < 0).sum() if key == "rmsd" else (gaps > 0).sum()),
        }
    return {"targets": len(pairs), **found}


def main(arguments: list[str] | None = None) -> None:
    """Read the command line."""
    import protok

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", nargs="+", default=[], metavar="NAME", help="or all")
    parser.add_argument("--measure", action="store_true", help="those that are trained")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--data", type=Path, default=ROOT.parents[1] / "shared")
    parser.add_argument("--steps", type=int, help="fewer than the recipe's, for a trial")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "results" / "controls.json")
    options = parser.parse_args(arguments)
    stores = {
        f"data.{name}": str(options.data / "structures" / f"{name}.parquet")
        for name in ("train", "valid")
    }
    fewer = {"optim.steps": options.steps} if options.steps else {}
    train(options.train, options.runs, stores | fewer)
    if not options.measure:
        return

    folders = {name: options.data / "files" / name for name in SETS}
    base = protok.load(BASE)
    models = {}
    for name in (BASE, *controls()[1]):
        folder = options.runs / name / "model"
        if name != BASE and not folder.exists():
            print(f"{name} is not trained", file=sys.stderr)
            continue
        tokenizer = base if name == BASE else protok.load(folder)
        models[name] = {
            "codebook": tokenizer.codebook,
            "changes": controls()[1].get(name, {}),
            **{key: tokenizer.provenance[key] for key in ("seed", "steps", "train_sha256")},
            "sets": {key: scores(tokenizer, path) for key, path in folders.items()},
        }
        print(name, {k: s["mean"] for k, s in models[name]["sets"].items()}, flush=True)
    rng = np.random.default_rng(0)
    differences = {
        name: {
            key: paired(models[BASE]["sets"][key]["targets"], found["sets"][key]["targets"], rng)
            for key in SETS
        }
        for name, found in models.items()
        if name != BASE
    }
    data = {name: digest(sorted(path.rglob("*.*"))) for name, path in folders.items()}
    write(options.out, provenance(
        "python benchmarks/controls.py " + " ".join(sys.argv[1:]),
        seed=0, data_sha256=data, models=models, control_less_ours=differences,
    ))  # fmt: skip


if __name__ == "__main__":
    main()
