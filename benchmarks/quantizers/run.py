"""Which quantizer, which schedule: the evidence behind the defaults of protok.quantize.

    python -m benchmarks.quantizers.run --list
    python -m benchmarks.quantizers.run --run synthetic                    # minutes on one core
    python -m benchmarks.quantizers.run --run images --data ../shared
    python -m benchmarks.quantizers.run --run speed

A cell is one setting with one seed; it is written into the result file when it is done, so a run
that was stopped goes on where it was. When all cells of a task are there, the summary with paired
differences is written beside them, and the figures are drawn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
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
from benchmarks.paths import FIGURES, RESULTS, SHARED
from benchmarks.progressive.analysis import Contrast

HERE = Path(__file__).resolve().parent
TASKS = ("synthetic", "images", "speed")
#: What every setting is compared with, where these have several seeds.
CONTROLS = ("step-w20", "step-w40", "step-w60", "plain-tuned")
PACKAGES = ("torch", "numpy", "vector-quantize-pytorch")


@dataclass(frozen=True)
class Cell:
    """One setting of one task with one seed."""

    task: str
    setting: str
    seed: int

    @property
    def name(self) -> str:
        """Of its result."""
        return f"{self.task}-{self.setting}-{self.seed}"


def recipe_of(task: str) -> dict[str, Any]:
    """The recipe of a task, the grid written out as settings."""
    recipe = tomllib.loads((HERE / f"sweep-{task}.toml").read_text())
    settings = recipe.setdefault("settings", {})
    grid = recipe.pop("grid", {})
    for values in itertools.product(*grid.values()) if grid else ():
        setting = dict(zip(grid, values, strict=True))
        w, r = round(100 * setting["continuous_share"]), round(100 * setting["ramp"])
        settings[f"{setting['schedule']}-{setting['estimator']}-w{w}-r{r}"] = setting
    return recipe


def cells(task: str, recipe: Mapping[str, Any]) -> Iterator[Cell]:
    """All cells of a task; rows without a claim have one seed."""
    if task == "speed":
        for size in recipe["sizes"]:
            for what in ("assign", "forward", "step"):
                yield Cell(task, f"{what}-{size}", 0)
        return
    # Seed by seed, so that an unfinished sweep can be read too.
    for seed in recipe["seeds"]:
        for name in recipe["settings"]:
            if seed == recipe["seeds"][0] or name in recipe["claims"]:
                yield Cell(task, name, seed)


def measure(cell: Cell, recipe: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """Train one cell; what it reached and how."""
    import torch

    from benchmarks.progressive.tasks import build_task
    from benchmarks.progressive.train import evaluate
    from benchmarks.tables.provenance import digest
    from protok.quantize import ProVQ, build_quantizer

    setting = recipe["settings"][cell.setting]
    began = time.process_time()
    own = recipe["task"] | {"batch": recipe["batch"]}
    task = build_task(cell.task, own, recipe["dim"], data, cell.seed)
    torch.manual_seed(cell.seed)
    quantizer = build_quantizer(
        **{"kind": "provq", "size": recipe["size"], "dim": recipe["dim"], **setting}
    ).train()
    parameters = [*task.parts.parameters(), *quantizer.parameters()]
    optimiser = torch.optim.AdamW(parameters, recipe["lr"], weight_decay=0.0)
    steps, rows = recipe["steps"], []
    warm = max(1, steps // 50)
    for step in range(steps):
        torch.manual_seed(cell.seed * 1_000_003 + step)
        rate = min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = recipe["lr"] * rate
        if isinstance(quantizer, ProVQ):
            quantizer.progress(step / steps)
        x = task.batch(step, steps)
        # Assignment stays in float32 under autocast; held-out errors are float32 throughout.
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.get("bf16", False)):
            z, mask = task.encode(x)
            out = quantizer(z, mask)
            loss = task.loss(out.z, z, x) + out.loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if (step + 1) % recipe["every"] == 0 or step + 1 == steps:
            rows.append({"step": step + 1, **evaluate(task, quantizer, recipe["held_out"])})
    final = dict(rows[-1])
    return {
        "setting": setting,
        "unit": task.unit,
        "final": final,
        "rows": rows,
        "data_sha256": {file.name: digest([file]) for file in task.files},
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def timed(cell: Cell, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Milliseconds of protok and of vector-quantize-pytorch, interleaved, medians."""
    import multiprocessing
    import warnings

    import torch

    what, _, size = cell.setting.partition("-")
    size, dim = int(size), recipe["dim"]
    if what == "assign":
        # Memory has a high-water mark, so a process of its own.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, before, after = pool.apply(_assign, (recipe["vectors"], dim, size))
        return {
            "vectors": recipe["vectors"],
            "seconds": seconds,
            "extra_mebibytes": round((after - before) / 1024, 1),
        }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vector_quantize_pytorch import VectorQuantize

    from protok.quantize import VQ

    torch.manual_seed(0)
    theirs = VectorQuantize(
        dim, size, decay=0.99, commitment_weight=0.25, rotation_trick=False, threshold_ema_dead_code=0
    )
    ours = VQ(size, dim, beta=0.25, decay=0.99, init_and_revive="none")
    ours.codebook.copy_(theirs._codebook.embed[0])
    ours.sums.copy_(ours.codebook)
    z = torch.randn(1, recipe["batch"], dim)

    def once(module) -> tuple[float, torch.Tensor]:
        began = time.perf_counter()
        if what == "forward":
            with torch.no_grad():
                out = module.eval()(z)
        else:
            x = z.clone().requires_grad_()
            out = module.train()(x)
            vectors, loss = (out.z, out.loss) if module is ours else (out[0], out[2].sum())
            (vectors.square().mean() + loss).backward()
        took = time.perf_counter() - began
        return 1000 * took, (out.ids if module is ours else out[1])

    took: dict[str, list[float]] = {"protok": [], "vector-quantize-pytorch": []}
    agree = 1.0
    for turn in range(recipe["repeats"] + 1):
        a, ids = once(ours)
        b, other = once(theirs)
        if turn == 0:
            # The codebooks part later: theirs is smoothed.
            agree = float((ids == other).float().mean())
            continue
        took["protok"].append(a)
        took["vector-quantize-pytorch"].append(b)
    return {
        "vectors": recipe["batch"],
        "threads": torch.get_num_threads(),
        "same_ids_in_first_call": agree,
        "milliseconds": {k: statistics.median(v) for k, v in took.items()},
        "all_milliseconds": took,
    }


def _assign(n: int, dim: int, size: int) -> tuple[float, int, int]:
    import resource

    import torch

    from protok.quantize import VQ

    torch.manual_seed(0)
    quantizer, z = VQ(size, dim).eval(), torch.randn(n, dim)
    quantizer.assign(z[:10])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    quantizer.assign(z)
    seconds = time.perf_counter() - began
    return seconds, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run(task: str, recipe: Mapping[str, Any], out: Path, figures: Path, data: Path, only: str) -> None:
    """Measure the cells that are not there yet, then summarize if none is missing."""
    from benchmarks.tables.provenance import provenance

    plan, done = list(cells(task, recipe)), set(records.read(out))
    for cell in plan:
        if cell.name in done or only not in cell.setting:
            continue
        measured = timed(cell, recipe) if task == "speed" else measure(cell, recipe, data)
        result = provenance(
            "python -m benchmarks.quantizers.run " + " ".join(sys.argv[1:]),
            PACKAGES,
            task=task,
            name=cell.setting,
            seed=cell.seed,
            recipe={k: v for k, v in recipe.items() if k not in ("settings", "claims")},
            **measured,
        )
        records.put(out, cell.name, result)
        done.add(cell.name)
        shown = measured.get("final") or {k: v for k, v in measured.items() if not k.startswith("all")}
        print(cell.setting, cell.seed, {k: v for k, v in shown.items() if k != "step"}, flush=True)
    missing = [cell for cell in plan if cell.name not in done]
    if missing:
        print(f"{len(missing)} of {len(plan)} cells are still to be measured")
    elif task != "speed":
        summarize(task, recipe, out, figures)


def paired(ours: Mapping[int, float], other: Mapping[int, float]) -> dict[str, float] | None:
    """Mean difference over shared seeds and its 95 % confidence interval; None without two."""
    seeds = sorted(set(ours) & set(other))
    if len(seeds) < 2:
        return None
    gap = Contrast("", tuple(ours[seed] - other[seed] for seed in seeds))
    low, high = gap.interval(0.05)
    return {"seeds": len(seeds), "mean": gap.mean, "low": low, "high": high}


def summarize(task: str, recipe: Mapping[str, Any], out: Path, figures: Path) -> dict[str, Any]:
    """Means over seeds, paired differences to the controls, and two figures."""
    from protok.quantize import draw

    results: dict[str, dict[int, dict]] = {name: {} for name in recipe["settings"]}
    there = records.read(out)
    for cell in cells(task, recipe):
        results[cell.setting][cell.seed] = there[cell.name]
    errors = {name: {seed: r["final"]["quantized"] for seed, r in of.items()} for name, of in results.items()}
    rows = []
    for name, by_seed in results.items():
        finals = [r["final"] for r in by_seed.values()]
        keys = [k for k in finals[0] if k not in ("step", "hardness")]
        rows.append(
            {
                "setting": name,
                "seeds": len(finals),
                **{k: statistics.mean(f[k] for f in finals) for k in keys},
                "less_error_than": {
                    control: paired(errors[control], errors[name])
                    for control in CONTROLS
                    if control != name and control in recipe["claims"]
                },
            }
        )
    rows.sort(key=lambda row: row["quantized"])
    unit = next(iter(next(iter(results.values())).values()))["unit"]
    summary = {"task": task, "error": f"held out, hard codes, {unit}", "rows": rows}
    records.put(out, f"{task}-summary", summary)
    first = recipe["seeds"][0]
    shown = {n: results[n][first]["rows"] for n in results if n in recipe["claims"]}
    figures.mkdir(parents=True, exist_ok=True)
    for name, panels in PANELS.items():
        draw(shown, figures / f"quantizers-{task}-{name}.svg", panels)
    return summary


PANELS = {
    "error": (("held-out error, hard codes", {"quantized": ""}), ("continuous latents", {"continuous": ""})),
    "dimension": (
        ("effective dimension of latents", {"latent_dimension": ""}),
        ("of their codes", {"code_dimension": ""}),
    ),
}


def listing(out: Path) -> None:
    """Tasks, their settings and which cells are done."""
    there = records.read(out)
    for task in TASKS:
        recipe = recipe_of(task)
        plan = list(cells(task, recipe))
        done = sum(cell.name in there for cell in plan)
        print(f"{task}: {done} of {len(plan)} cells done")
        for name in dict.fromkeys(cell.setting for cell in plan):
            seeds = [c for c in plan if c.setting == name]
            marks = " ".join(f"{c.seed}{'+' if c.name in there else '-'}" for c in seeds)
            print(f"  {name:32} {marks}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="cells; + done, - to do")
    parser.add_argument("--run", choices=TASKS)
    parser.add_argument("--only", default="", help="settings whose name holds this")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "quantizers.parquet")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of the curves")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the recipe, e.g. steps=20; give another --out then",
    )
    options = parser.parse_args(arguments)
    if not options.run:
        return listing(options.out)
    recipe = recipe_of(options.run)
    for change in options.set:
        key, _, value = change.partition("=")
        if key not in recipe:
            parser.error(f"{key} is not one of {', '.join(recipe)}")
        recipe[key] = json.loads(value)
    run(options.run, recipe, options.out, options.figures, options.data, options.only)


if __name__ == "__main__":
    without_traceback(main)
