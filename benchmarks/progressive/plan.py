"""What is registered as cells: arms with their settings, learning rates, seeds and stages."""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RATES = HERE / "rates.toml"
#: The part of cells that rates are tuned with.
TUNE = "tune"


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
        """What a rate is tuned for."""
        return f"{self.task}-{self.arm}-d{self.dim}"

    @property
    def name(self) -> str:
        """Of its result."""
        name = f"{self.part}-{self.setting}-k{self.size}-t{self.steps}-{self.seed}"
        return f"{name}-r{self.rate:g}" if self.part == TUNE else name

    def of(self, result: Mapping[str, Any] | None, plan: Mapping[str, Any]) -> bool:
        """Whether a result is of this cell, made with the arm, the task and the rate of this plan."""
        same = {"cell": asdict(self), "arm": plan["arms"][self.arm], "task": plan["tasks"][self.task]}
        return result is not None and all(result.get(key) == value for key, value in same.items())


def registration() -> dict[str, Any]:
    """The numbers of the registration."""
    return tomllib.loads((HERE / "registration.toml").read_text())


def rates() -> dict[str, float]:
    """Frozen learning rates by setting; none before they are tuned."""
    return tomllib.loads(RATES.read_text())["rates"] if RATES.exists() else {}


def cells(plan: Mapping[str, Any], stage: str) -> Iterator[Cell]:
    """All cells of a stage, seed by seed, so that a stage that is not complete has whole blocks.

    Raises
    ------
    SystemExit
        If the rate of a setting is not tuned.
    """
    own, frozen = plan["stages"][stage], rates()
    every = itertools.product(own["seeds"], own["dims"], own["sizes"], own["steps"], own["arms"])
    for seed, dim, size, steps, arm in every:
        cell = Cell(stage, own["task"], arm, dim, size, steps, seed, math.nan)
        if cell.setting not in frozen:
            raise SystemExit(
                f"no rate for {cell.setting}: run --tune with the first stage that has it, then --rates"
            )
        yield Cell(**asdict(cell) | {"rate": frozen[cell.setting]})


def tuning(plan: Mapping[str, Any], stage: str, there: Mapping[str, Any]) -> Iterator[Cell]:
    """The grid of rates of the settings that no stage before has; the next rate beyond it where the best
    is the last one."""
    own, tune = plan["stages"][stage], plan["tune"]
    done = set()
    for name, before in plan["stages"].items():
        if name == stage:
            break
        done |= {(before["task"], arm, dim) for arm in before["arms"] for dim in before["dims"]}
    for dim, arm in itertools.product(own["dims"], own["arms"]):
        if (own["task"], arm, dim) in done:
            continue
        at = (TUNE, own["task"], arm, dim, tune["sizes"][own["task"]], tune["steps"])
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
        errors = [there[cell.name][TUNE]["quantized"] for cell in column]
        scores[column[0].rate] = sum(math.log(error) for error in errors)
    return min(scores, key=scores.__getitem__)


def freeze(plan: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """`rates.toml`: what is frozen stays, and settings whose tuning is complete are added."""
    grids: dict[str, dict[float, list[Cell]]] = {}
    for stage in plan["stages"]:
        for cell in tuning(plan, stage, there):
            grids.setdefault(cell.setting, {}).setdefault(cell.rate, []).append(cell)
    best = {setting: best_rate(there, [*grid.values()]) for setting, grid in grids.items()}
    frozen = {setting: rate for setting, rate in best.items() if rate} | rates()
    lines = [f"{setting} = {rate}" for setting, rate in frozen.items()]
    return "\n".join(["# Written by python -m benchmarks.progressive.run --rates", "[rates]", *lines, ""])
