"""Runs of the experiment on progressive quantization (`registration.md`), cell by cell.

    python -m benchmarks.progressive.run --list
    python -m benchmarks.progressive.run --tune first --jobs 2    # learning rates, on the half for tuning
    python -m benchmarks.progressive.run --rates                  # writes what they say into rates.toml
    python -m benchmarks.progressive.run --stage first --jobs 2   # reads the test half at the last step

A cell is one arm with one seed at one setting; it is written into the result file when it is done, so a run
that was stopped goes on where it was. Scores of the test half are not printed: `analysis` reads them when
all cells of a stage are there.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.paths import RESULTS, SHARED

HERE = Path(__file__).resolve().parent
RATES = HERE / "rates.toml"
OUT = RESULTS / "progressive.parquet"
#: Latents that a codebook is placed on anew, and share of the steps that the rate rises over.
RESERVOIR, WARM = 32768, 0.02


@dataclass(frozen=True)
class Cell:
    """One training: an arm at a setting with a seed and a learning rate."""

    part: str
    task: str
    arm: str
    dim: int
    size: int
    steps: int
    seed: int
    rate: float

    @property
    def setting(self) -> str:
        """What rates are tuned for."""
        return f"{self.task}-{self.arm}-d{self.dim}"

    @property
    def name(self) -> str:
        """Of its result."""
        name = f"{self.part}-{self.setting}-k{self.size}-t{self.steps}-{self.seed}"
        return f"{name}-r{self.rate:g}" if self.part == "tune" else name


def registration() -> dict[str, Any]:
    """The numbers of the registration."""
    return tomllib.loads((HERE / "registration.toml").read_text())


def rates() -> dict[str, float]:
    """Frozen learning rates by setting; none before they are tuned."""
    return tomllib.loads(RATES.read_text())["rates"] if RATES.exists() else {}


def arms(plan: Mapping[str, Any], stage: Mapping[str, Any]) -> list[str]:
    """Arms of a stage."""
    return [*plan["arms"]] if stage["arms"] == ["all"] else stage["arms"]


def cells(plan: Mapping[str, Any], stage: str) -> Iterator[Cell]:
    """All cells of a stage, seed by seed, so that a stage that is not complete has whole blocks.

    Raises
    ------
    SystemExit
        If the rate of a setting is not tuned.
    """
    own, frozen = plan["stages"][stage], rates()
    for seed in own["seeds"]:
        for dim in own["dims"]:
            for size in own["sizes"]:
                for steps in own["steps"]:
                    for arm in arms(plan, own):
                        setting = f"{own['task']}-{arm}-d{dim}"
                        if setting not in frozen:
                            raise SystemExit(f"no rate for {setting}: run --tune {stage}, then --rates")
                        yield Cell(stage, own["task"], arm, dim, size, steps, seed, frozen[setting])


def tuning(plan: Mapping[str, Any], stage: str, there: Mapping[str, Any]) -> Iterator[Cell]:
    """The grid of rates of the settings that no stage before has; the next rate beyond it where the best
    is the last one."""
    own, tune = plan["stages"][stage], plan["tune"]
    done = set()
    for name, before in plan["stages"].items():
        if name == stage:
            break
        done |= {(before["task"], arm, dim) for arm in arms(plan, before) for dim in before["dims"]}
    for dim, arm in itertools.product(own["dims"], arms(plan, own)):
        if (own["task"], arm, dim) in done:
            continue
        at = ("tune", own["task"], arm, dim, own["sizes"][0], own["steps"][0])
        grid = sorted(tune["rates"])
        while best := best_rate(there, [[Cell(*at, seed, rate) for seed in tune["seeds"]] for rate in grid]):
            if best == grid[-1]:
                grid.append(2 * best)
            elif best == grid[0]:
                grid.insert(0, best / 2)
            else:
                break
        yield from (Cell(*at, seed, rate) for rate in grid for seed in tune["seeds"])


def best_rate(there: Mapping[str, Any], grid: Sequence[Sequence[Cell]]) -> float | None:
    """The rate with the least mean log error; None while cells are missing."""
    scores = {}
    for column in grid:
        if any(cell.name not in there for cell in column):
            return None
        errors = [there[cell.name]["tune"]["quantized"] for cell in column]
        # A training that fails counts as the worst.
        scores[column[0].rate] = sum(math.log(e) if math.isfinite(e) else math.inf for e in errors)
    return min(scores, key=scores.__getitem__)


def freeze(plan: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """`rates.toml`, from the tuning of all settings that is complete."""
    grids: dict[str, dict[float, list[Cell]]] = {}
    for stage in plan["stages"]:
        for cell in tuning(plan, stage, there):
            grids.setdefault(cell.setting, {}).setdefault(cell.rate, []).append(cell)
    best = {setting: best_rate(there, [*grid.values()]) for setting, grid in grids.items()}
    lines = [f"{setting} = {rate}" for setting, rate in best.items() if rate]
    return "\n".join(["# Written by python -m benchmarks.progressive.run --rates", "[rates]", *lines, ""])


def measure(cell: Cell, plan: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """Train one cell; what it reached, and its curve on the half for tuning."""
    import torch

    from benchmarks.progressive.tasks import build_task
    from benchmarks.tables.provenance import digest
    from protok.quantize import ProVQ, build_quantizer

    torch.set_num_threads(1)
    began = time.process_time()
    task = build_task(cell.task, plan["tasks"][cell.task], cell.dim, data, cell.seed)
    settings = dict(plan["arms"][cell.arm])
    again = settings.pop("placed_again", None)
    # Another arm draws other numbers for its table, but the networks are made before it.
    torch.manual_seed(cell.seed)
    quantizer = build_quantizer(**{"kind": "provq", "size": cell.size, "dim": cell.dim, **settings})
    parameters = [*task.parts.parameters()]
    if quantizer is not None:
        parameters += quantizer.train().parameters()
    optimiser = torch.optim.AdamW(parameters, cell.rate, weight_decay=plan["weight_decay"])
    rows, recent, steps = [], [], cell.steps
    for step in range(steps):
        torch.manual_seed(cell.seed * 1_000_003 + step)
        for group in optimiser.param_groups:
            group["lr"] = cell.rate * rate_at(step / steps)
        if isinstance(quantizer, ProVQ):
            quantizer.progress(step / steps)
        x = task.batch(step, steps)
        z, mask = task.encode(x)
        fed, extra = z, 0.0
        if quantizer is not None:
            if again is not None and step < again * steps:
                with torch.no_grad():
                    recent.append(quantizer.enter(z.detach(), mask)[0])
                if sum(map(len, recent[1:])) >= RESERVOIR:
                    recent.pop(0)
            elif again is not None and recent:
                quantizer.anchor(torch.cat(recent)[-RESERVOIR:])
                recent = []
            out = quantizer(z, mask)
            fed, extra = out.z, out.loss
        loss = task.loss(fed, z, x) + extra
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, plan["clip"])
        optimiser.step()
        if (step + 1) % max(1, steps // plan["looks"]) == 0 and step + 1 < steps:
            rows.append({"step": step + 1, **evaluate(task, quantizer, "tune")})
    result: dict[str, Any] = {"tune": evaluate(task, quantizer, "tune"), "rows": rows}
    if cell.part != "tune":
        result["test"] = evaluate(task, quantizer, "test")
        if quantizer is not None:
            result["test"] |= task.report(quantizer, "test")
    return result | {
        "cell": asdict(cell),
        "arm": plan["arms"][cell.arm],
        "data_sha256": {file.name: digest([file]) for file in task.files},
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def rate_at(progress: float) -> float:
    """Share of the learning rate: it rises over the first steps, and falls to zero as a cosine."""
    return min((progress + 1e-6) / WARM, 0.5 * (1 + math.cos(math.pi * progress)))


def evaluate(task: Any, quantizer: Any, half: str) -> dict[str, float]:
    """Held-out error from hard codes and from latents as they are, and the state of the codebook."""
    import torch

    from protok.quantize import diagnose, effective_dimension

    task.parts.eval()
    sums, latents = {"continuous": [0.0, 0.0], "quantized": [0.0, 0.0]}, []
    with torch.no_grad():
        for x in task.held_out(half):
            z, mask = task.encode(x)
            latents.append(z.reshape(-1, z.shape[-1]) if mask is None else z[mask])
            hard = z if quantizer is None else quantizer.eval()(z, mask).z
            for name, fed in (("continuous", z), ("quantized", hard)):
                for i, part in enumerate(task.errors(fed, x)):
                    sums[name][i] += float(part)
    task.parts.train()
    means = {name: total / count for name, (total, count) in sums.items()}
    all_latents = torch.cat(latents)
    if quantizer is None:
        return means | {"latent_dimension": effective_dimension(all_latents)}
    state = asdict(diagnose(quantizer, all_latents))
    quantizer.train()
    return means | state


def work(cell: Cell, command: str, data: Path) -> dict[str, Any]:
    """One cell in a process of its own, with where its numbers come from."""
    from benchmarks.tables.provenance import provenance

    return provenance(command, ("torch", "numpy"), seed=cell.seed, **measure(cell, registration(), data))


def run(todo: Sequence[Cell], out: Path, data: Path, jobs: int, minutes: float) -> None:
    """Measure cells, several at a time; no cell begins after so many minutes."""
    command = "python -m benchmarks.progressive.run " + " ".join(sys.argv[1:])
    began, waiting = time.monotonic(), list(todo)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {}
        while waiting or running:
            while waiting and len(running) < jobs and time.monotonic() - began < 60 * minutes:
                cell = waiting.pop(0)
                running[pool.submit(work, cell, command, data)] = cell
            if not running:
                break
            future = next(as_completed(running))
            cell, result = running.pop(future), future.result()
            records.put(out, cell.name, result)
            shown = {key: round(value, 5) for key, value in result["tune"].items()}
            print(f"{cell.name} {result['cpu_seconds']} s, half for tuning: {shown}", flush=True)
    print(f"{len(waiting)} of {len(todo)} cells are still to be measured")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    plan = registration()
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="how many cells are done")
    what.add_argument("--tune", choices=plan["stages"], metavar="STAGE")
    what.add_argument("--rates", action="store_true", help="write rates.toml")
    what.add_argument("--stage", choices=plan["stages"], metavar="STAGE")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no cell after this time")
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    there = records.read(options.out)
    if options.rates:
        RATES.write_text(freeze(plan, there))
        print(f"wrote {RATES.name}")
    elif options.list:
        for stage in plan["stages"]:
            grid = [*tuning(plan, stage, there)]
            print(f"{stage}: tuning {sum(c.name in there for c in grid)} of {len(grid)} cells", end="; ")
            try:
                runs = [*cells(plan, stage)]
                print(f"{sum(c.name in there for c in runs)} of {len(runs)} runs")
            except SystemExit as error:
                print(error)
    else:
        while True:
            of = cells(plan, options.stage) if options.stage else tuning(plan, options.tune, there)
            todo = [cell for cell in of if cell.name not in there]
            if not todo:
                break
            run(todo, options.out, options.data, options.jobs, options.minutes)
            before, there = len(there), records.read(options.out)
            # A tuned rate may ask for the next one; without time, or after all runs, it ends here.
            if len(there) - before < len(todo):
                break


if __name__ == "__main__":
    main()
