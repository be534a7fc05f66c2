"""Which quantizer for images: the evidence behind the recipe of protok-image.

    python -m benchmarks.quantizers.images                        # cells: + done, - to do
    python -m benchmarks.quantizers.images --run --data ../shared
    python -m benchmarks.quantizers.images --run --only provq-512

A cell is one setting with one size of the codebook and one seed, trained by the trainer of the
package. It is written to one file when it is done, and its run goes on from the last checkpoint,
so that a sweep that was stopped goes on where it was. When all cells are there, the summary with
paired differences, the curves and the reconstructions are written beside them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.command import without_traceback
from benchmarks.paths import FIGURES, RECIPES, RESULTS, RUNS, SHARED
from benchmarks.progressive.analysis import LEVEL, Contrast

#: What every setting is compared with, at the same size.
CONTROLS = ("step", "kmeans-respawn", "plain")
PACKAGES = ("torch", "numpy", "lightning", "torchmetrics", "pillow")
#: Columns of the metrics, as `protok.quantize.draw` calls them.
COLUMNS = {
    "valid_mse": "quantized",
    "valid_continuous_mse": "continuous",
    "valid_usage": "usage",
    "valid_perplexity": "perplexity",
    "valid_latent_dimension": "latent_dimension",
    "valid_code_dimension": "code_dimension",
    "valid_hardness": "hardness",
}
PANELS = (
    ("held-out error, hard codes", {"quantized": ""}),
    ("continuous latents", {"continuous": ""}),
    ("share of codes used", {"usage": ""}),
    ("effective dimension of codes", {"code_dimension": ""}),
)


@dataclass(frozen=True)
class Cell:
    """One setting with one size of the codebook and one seed."""

    setting: str
    size: int
    seed: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.setting}-{self.size}-{self.seed}"


def cells(recipe: Mapping[str, Any]) -> Iterator[Cell]:
    """All cells; seed by seed, so that an unfinished sweep can be read too."""
    for seed in recipe["seeds"]:
        for size in recipe["sizes"]:
            for setting in recipe["settings"]:
                claimed = setting in recipe["claims"] and size in recipe["claimed_sizes"]
                if seed == recipe["seeds"][0] or claimed:
                    yield Cell(setting, size, seed)


def overrides(cell: Cell, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell changes in the base recipe."""
    # One code at a place: levels are not among the things compared.
    codebook = {"kind": "provq", "inner": "vq", "size": cell.size}
    codebook |= recipe["settings"][cell.setting]
    return {
        "model.name": f"image-{cell.setting}-{cell.size}",
        **{f"model.quantizer.{key}": value for key, value in codebook.items()},
        "optim.steps": recipe["steps"],
        "optim.seed": cell.seed,
        "valid.every": max(1, recipe["steps"] // 10),
        **recipe.get("overrides", {}),
    }


def measure(cell: Cell, recipe: Mapping[str, Any], data: Path, runs: Path) -> dict[str, Any]:
    """Train one cell and score what it makes of held-out images."""
    from protok.image.evaluate import score
    from protok.image.tokenizer import ImageTokenizer
    from protok.image.training import run

    began, images = time.process_time(), data / recipe["images"]
    out = runs / cell.name
    model = run(
        RECIPES / recipe["base"], images=images, out=out, overrides=overrides(cell, recipe), resume=True
    )
    tokenizer = ImageTokenizer.from_pretrained(model)
    size = tokenizer.provenance["recipe"]["data"]["size"]
    return {
        "final": score(tokenizer, images, size=size, most=recipe["scored"]),
        "rows": curve(out / "metrics.csv"),
        "train_sha256": tokenizer.provenance["train_sha256"],
        "recipe": tokenizer.provenance["recipe"],
        "cpu_seconds_of_last_start": round(time.process_time() - began, 1),
    }


def curve(file: Path) -> list[dict[str, float]]:
    """What was measured on held-out images during a run."""
    from protok.common.callbacks import read_metrics

    rows = [row for row in read_metrics(file) if "valid_mse" in row]
    names = {"step": "step", **COLUMNS}
    return [{name: row[column] for column, name in names.items() if column in row} for row in rows]


def sweep(recipe: Mapping[str, Any], out: Path, figures: Path, data: Path, runs: Path, only: str) -> None:
    """Measure the cells that are not there yet, then summarize if none is missing."""
    from benchmarks.tables.provenance import provenance

    plan, done = list(cells(recipe)), set(records.read(out))
    for cell in plan:
        if cell.name in done or only not in cell.name:
            continue
        measured = measure(cell, recipe, data, runs)
        result = provenance(
            "python -m benchmarks.quantizers.images " + " ".join(sys.argv[1:]),
            PACKAGES,
            setting=cell.setting,
            size=cell.size,
            seed=cell.seed,
            **measured,
        )
        records.put(out, cell.name, result)
        done.add(cell.name)
        shown = {k: measured["final"][k] for k in ("psnr", "ssim", "mse", "usage")}
        print(cell.name, shown, flush=True)
    missing = [cell for cell in plan if cell.name not in done]
    if missing:
        print(f"{len(missing)} of {len(plan)} cells are still to be measured")
    else:
        summarize(recipe, out, figures, data, runs)


def paired(ours: Mapping[int, float], other: Mapping[int, float]) -> dict[str, float] | None:
    """Mean difference over the seeds of both and its 95 % interval; None without two."""
    seeds = sorted(ours.keys() & other.keys())
    if len(seeds) < 2:
        return None
    gap = Contrast("", tuple(ours[seed] - other[seed] for seed in seeds))
    low, high = gap.interval(LEVEL)
    return {"seeds": len(seeds), "mean": gap.mean, "low": low, "high": high}


def summarize(recipe: Mapping[str, Any], out: Path, figures: Path, data: Path, runs: Path) -> dict[str, Any]:
    """Means over seeds, paired differences of the error to the controls, and the figures."""
    from protok.quantize import draw

    results: dict[tuple[str, int], dict[int, dict]] = {}
    there = records.read(out)
    for cell in cells(recipe):
        results.setdefault((cell.setting, cell.size), {})[cell.seed] = there[cell.name]
    errors = {
        key: {seed: r["final"]["mse"] for seed, r in by_seed.items()} for key, by_seed in results.items()
    }
    rows = []
    for (setting, size), by_seed in results.items():
        finals = [r["final"] for r in by_seed.values()]
        means = [k for k, v in finals[0].items() if isinstance(v, float)]
        rows.append(
            {
                "setting": setting,
                "size": size,
                "seeds": len(finals),
                "n": finals[0]["n"],
                "evaluator": finals[0]["evaluator"],
                **{k: statistics.mean(f[k] for f in finals) for k in means},
                "less_error_than": {
                    control: paired(errors[control, size], errors[setting, size])
                    for control in CONTROLS
                    if control != setting and (control, size) in errors
                },
            }
        )
    rows.sort(key=lambda row: (row["size"], row["mse"]))
    summary = {
        "error": "mean squared error of pixels in 0..1, held out",
        "rows": rows,
        "sheet": ["original", *recipe["settings"]],  # rows of the pictures, from above
    }
    records.put(out, "summary", summary)
    figures.mkdir(parents=True, exist_ok=True)
    for size in recipe["sizes"]:
        first = recipe["seeds"][0]
        shown = {s: results[s, size][first]["rows"] for s in recipe["settings"]}
        draw(shown, figures / f"images-curves-{size}.svg", PANELS)
        reconstructions(recipe, size, figures, data, runs)
    return summary


def reconstructions(
    recipe: Mapping[str, Any], size: int, figures: Path, data: Path, runs: Path
) -> Path | None:
    """Originals, and below them what each setting makes of them; None without the models."""
    import numpy as np

    from protok.image import ImageTokenizer, contact_sheet, open_pictures
    from protok.image.pixels import write_pixels

    cells = [Cell(setting, size, recipe["seeds"][0]) for setting in recipe["settings"]]
    models = [runs / cell.name / "model" for cell in cells]
    if not all((model / "config.json").exists() for model in models):
        print(f"no reconstructions at size {size}: not all models are in {runs}")
        return None
    tokenizers = [ImageTokenizer.from_pretrained(model) for model in models]
    side = tokenizers[0].provenance["recipe"]["data"]["size"]
    x = open_pictures(data / recipe["images"], "valid").squares(side, 12)
    sheet: list[Sequence[np.ndarray]] = [list(x)]
    sheet += [tok.decode_batch(tok.encode_batch(x)) for tok in tokenizers]
    return write_pixels(contact_sheet(sheet), figures / f"images-reconstructions-{size}.png")


def listing(recipe: Mapping[str, Any], out: Path) -> None:
    """Settings and sizes, and which seeds are done."""
    plan, there = list(cells(recipe)), records.read(out)
    print(f"{sum(c.name in there for c in plan)} of {len(plan)} cells done")
    for setting, size in dict.fromkeys((c.setting, c.size) for c in plan):
        mine = [c for c in plan if (c.setting, c.size) == (setting, size)]
        marks = " ".join(f"{c.seed}{'+' if c.name in there else '-'}" for c in mine)
        print(f"  {setting:16} {size:6} {marks}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="measure what is missing")
    parser.add_argument("--only", default="", help="cells whose name holds this")
    parser.add_argument("--recipe", type=Path, default=Path(__file__).with_suffix(".toml"))
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "images.parquet")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of curves and pictures")
    parser.add_argument("--runs", type=Path, default=RUNS / "images", help="where the models go")
    options = parser.parse_args(arguments)
    recipe = tomllib.loads(options.recipe.read_text())
    if options.run:
        sweep(recipe, options.out, options.figures, options.data, options.runs, options.only)
    else:
        listing(recipe, options.out)


if __name__ == "__main__":
    without_traceback(main)
