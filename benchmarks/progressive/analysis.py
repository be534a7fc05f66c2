"""Verdicts of the experiment on progressive quantization, as registered in `registration.md`.

    python -m benchmarks.progressive.analysis            # verdicts, and the map of when it helps as numbers
    python -m benchmarks.progressive.analysis --figure   # and as a figure

A stage with a missing cell is refused: the first one ends the analysis, others are left out by name.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import records
from benchmarks.command import without_traceback
from benchmarks.paths import FIGURES
from benchmarks.progressive.plan import cells, registration
from benchmarks.progressive.run import OUT

#: The smallest effect of interest, in the log of the error: 3 % less.
MARGIN = -math.log(0.97)
#: Level of all contrasts of a family together.
LEVEL = 0.05


@dataclass(frozen=True)
class Contrast:
    """Paired differences of log error by seed: above 0, the first has less error."""

    name: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.mean(self.values)

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return statistics.stdev(self.values) / math.sqrt(len(self.values))

    @property
    def p(self) -> float:
        """Two-sided, of no difference."""
        from scipy.stats import t

        return float(2 * t.sf(abs(self.mean) / self.error, len(self.values) - 1))

    def interval(self, level: float) -> tuple[float, float]:
        """With a confidence of 1 - level."""
        from scipy.stats import t

        half = float(t.ppf(1 - level / 2, len(self.values) - 1)) * self.error
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Verdict:
    """What is said of a contrast: its level of the family, corrected interval, and the word."""

    contrast: Contrast
    level: float
    low: float
    high: float
    word: str


def holm(contrasts: Sequence[Contrast]) -> list[Verdict]:
    """Verdicts of a family, in its order.

    The smallest p has its interval at LEVEL over the number of contrasts, the next at LEVEL over one fewer;
    once a contrast is not told from 0, those after it keep its level, and are not told either (Holm 1979).
    """
    verdicts: dict[str, Verdict] = {}
    going, level = True, LEVEL
    for rank, contrast in enumerate(sorted(contrasts, key=lambda c: c.p)):
        level = LEVEL / (len(contrasts) - rank) if going else level
        low, high = contrast.interval(level)
        going = going and (low > 0 or high < 0)
        verdicts[contrast.name] = Verdict(contrast, level, low, high, word(contrast, going))
    return [verdicts[contrast.name] for contrast in contrasts]


def word(contrast: Contrast, told: bool) -> str:
    """What is said of a contrast that is told from 0 or not."""
    low, high = contrast.interval(0.1)
    if told and abs(contrast.mean) >= MARGIN:
        return "helps" if contrast.mean > 0 else "harms"
    return "equivalent" if -MARGIN < low and high < MARGIN else "not decided"


class Setting(NamedTuple):
    """Where arms are compared."""

    task: str
    dim: int
    size: int
    steps: int

    def __str__(self) -> str:
        return f"{self.task}: D {self.dim}, K {self.size:,}, {self.steps:,} steps"


class Results:
    """Results of the stages that are complete, put together by setting.

    Raises
    ------
    SystemExit
        If an error is not finite; or, asked for a stage, if cells of it are missing: says how many, and the
        first.
    """

    def __init__(self, plan: Mapping[str, Any], there: Mapping[str, Any]):
        self.left_out: dict[str, str] = {}
        self.of: dict[tuple[Setting, str], dict[int, Mapping[str, Any]]] = {}
        for name in plan["stages"]:
            try:
                stage = [*cells(plan, name)]
            except SystemExit as error:
                self.left_out[name] = f"{name}: {error}"
                continue
            missing = [cell.name for cell in stage if not cell.of(there.get(cell.name), plan)]
            if missing:
                of = f"{len(missing)} of {len(stage)} cells are missing, the first is {missing[0]}"
                self.left_out[name] = f"{name}: {of}"
                continue
            for cell in stage:
                scores = there[cell.name]["test"]
                if not math.isfinite(scores["quantized"]):
                    raise SystemExit(f"the error of {cell.name} is {scores['quantized']}")
                setting = Setting(cell.task, cell.dim, cell.size, cell.steps)
                self.of.setdefault((setting, cell.arm), {})[cell.seed] = scores

    def demand(self, stage: str) -> None:
        """Refuse to go on without a stage."""
        if stage in self.left_out:
            raise SystemExit(self.left_out[stage])

    @property
    def settings(self) -> list[Setting]:
        """All of them."""
        return sorted({setting for setting, _ in self.of})

    def gain(self, arm: str, other: str, setting: Setting) -> dict[int, float]:
        """How much less log error an arm has than another, by the seeds of both."""
        ours, theirs = (self.of.get((setting, name), {}) for name in (arm, other))
        return {
            seed: math.log(theirs[seed]["quantized"]) - math.log(ours[seed]["quantized"])
            for seed in sorted(ours.keys() & theirs.keys())
        }

    def contrast(self, about: str, arm: str, other: str, settings: Iterable[Setting]) -> Contrast:
        """Paired by seed; the mean over settings."""
        gains = [self.gain(arm, other, setting) for setting in settings]
        return Contrast(about, tuple(statistics.mean(gain[seed] for gain in gains) for seed in gains[0]))


#: Where the contrasts are decided, and where the shipped letters lie.
FIRST = [Setting("letters", dim, 512, 1500) for dim in (5, 512)]
SHIPPED = Setting("letters", 5, 64, 1500)


def registered(results: Results) -> list[Contrast]:
    """The three contrasts."""
    results.demand("first")
    narrow, wide = (results.gain("jump", "plain", setting) for setting in FIRST)
    return [
        results.contrast("ramp against jump (C - B)", "published", "jump", FIRST),
        results.contrast("waiting against re-anchoring (B - A')", "jump", "placed-again", FIRST),
        Contrast(
            "collapse regime ((A - B at 512) - (A - B at 5))",
            tuple(wide[seed] - narrow[seed] for seed in wide),
        ),
    ]


def of_default(results: Results) -> list[Contrast]:
    """The package's arm against each that could take its place, where the shipped letters lie."""
    results.demand("shipped")
    others = ("plain", "placed-again", "jump", "published", "published-ema")
    return [results.contrast(f"default against {other}", "default", other, [SHIPPED]) for other in others]


#: Pairs of arms whose differences are drawn: the first, what it is compared with, what that shows.
PAIRS = (
    ("jump", "plain", "waiting, and placed on trained latents (B - A)"),
    ("placed-again", "plain", "placed again (A' - A)"),
    ("jump", "placed-again", "waiting alone (B - A')"),
    ("published", "jump", "published recipe against jump (C - B)"),
    ("published-images", "jump", "published recipe for images against jump (C - B)"),
    ("published-ema", "jump", "ramp alone (C+ - B)"),
    ("default", "jump", "default against jump (D - B)"),
    ("recipe", "default", "shares of protok-1 against default"),
    ("simvq", "plain", "SimVQ against plain (F - A)"),
    ("plain", "random", "k-means, averages, respawn (A - E)"),
)


def differences(results: Results) -> dict[str, list[tuple[Setting, Contrast]]]:
    """All pairs, setting by setting, that have two seeds at least."""
    out: dict[str, list[tuple[Setting, Contrast]]] = {}
    for arm, other, about in PAIRS:
        for setting in results.settings:
            if len(results.gain(arm, other, setting)) > 1:
                contrast = results.contrast(about, arm, other, [setting])
                out.setdefault(about, []).append((setting, contrast))
    return out


def draw(results: Results, path: Path) -> None:
    """The map: how much less error, with 95 % intervals, of each pair of arms in each setting."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    rows = differences(results)
    heights = [len(of) for of in rows.values()]
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(8, 0.19 * sum(heights) + 0.6 * len(rows)), sharex=True,
        gridspec_kw={"height_ratios": [h + 1 for h in heights]}, squeeze=False,
    )  # fmt: skip
    for axis, (about, of) in zip(axes[:, 0], rows.items(), strict=True):
        for y, (_, contrast) in enumerate(of):
            low, high = contrast.interval(LEVEL)
            axis.plot([100 * low, 100 * high], [y, y], color="C0", linewidth=1.5)
            axis.plot(100 * contrast.mean, y, "o", color="C0", markersize=4)
        axis.axvspan(-100 * MARGIN, 100 * MARGIN, color="0.9", zorder=0)
        axis.axvline(0, color="0.5", linewidth=0.8, zorder=1)
        axis.set_yticks(range(len(of)), [str(setting) for setting, _ in of], fontsize=6)
        axis.set_ylim(len(of) - 0.4, -0.6)
        axis.set_title(about, fontsize=8, loc="left")
        axis.set_xscale("symlog", linthresh=10)
    axes[-1, 0].xaxis.set_major_formatter("{x:g}")
    axes[-1, 0].set_xlabel("log error less, in hundredths (grey: within 3 %)", fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def say(contrast: Contrast, level: float, verdict: str) -> str:
    """A contrast in hundredths of the log error, with its interval and its verdict."""
    low, high = (100 * x for x in contrast.interval(level))
    interval = f"{100 * contrast.mean:+.2f} [{low:+.2f}, {high:+.2f}] at {100 * (1 - level):.1f} %"
    return f"{contrast.name}: {interval}, {len(contrast.values)} seeds: {verdict}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Verdicts of the experiment on progressive quantization.")
    parser.add_argument("--out", type=Path, default=OUT, help="the result file")
    parser.add_argument("--figure", action="store_true")
    options = parser.parse_args(arguments)
    results = Results(registration(), records.read(options.out))
    for family in [registered(results), *([] if "shipped" in results.left_out else [of_default(results)])]:
        for verdict in holm(family):
            print(say(verdict.contrast, verdict.level, verdict.word))
    print("\nEach setting by itself, not corrected:")
    for of in differences(results).values():
        for setting, contrast in of:
            low, high = contrast.interval(LEVEL)
            print(f"{setting}: {say(contrast, LEVEL, word(contrast, low > 0 or high < 0))}")
    for reason in results.left_out.values():
        print(f"left out: {reason}")
    if options.figure:
        draw(results, FIGURES / "progressive.svg")


if __name__ == "__main__":
    without_traceback(main)
