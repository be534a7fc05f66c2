"""Verdicts of the experiment on progressive quantization, as registered in `registration.md`.

    python -m benchmarks.progressive.analysis            # verdicts of the complete stages
    python -m benchmarks.progressive.analysis --figure   # and the map of when it helps

A stage with a missing cell is refused.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.paths import FIGURES
from benchmarks.progressive.run import OUT, Cell, cells, registration

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
    once a contrast is not told from 0, neither are those after it (Holm 1979).
    """
    verdicts: dict[str, Verdict] = {}
    going = True
    for rank, contrast in enumerate(sorted(contrasts, key=lambda c: c.p)):
        level = LEVEL / (len(contrasts) - rank)
        low, high = contrast.interval(level)
        going = going and (low > 0 or high < 0)
        narrow = contrast.interval(0.1)
        if going and abs(contrast.mean) >= MARGIN:
            word = "helps" if contrast.mean > 0 else "harms"
        elif -MARGIN < narrow[0] and narrow[1] < MARGIN:
            word = "equivalent"
        else:
            word = "not decided"
        verdicts[contrast.name] = Verdict(contrast, level, low, high, word)
    return [verdicts[contrast.name] for contrast in contrasts]


class Stage:
    """All results of a stage.

    Raises
    ------
    SystemExit
        If cells are missing; says how many, and which is the first.
    """

    def __init__(self, plan: Mapping[str, Any], name: str, there: Mapping[str, Any]):
        of = [*cells(plan, name)]
        missing = [cell.name for cell in of if cell.name not in there]
        if missing:
            raise SystemExit(
                f"{name}: {len(missing)} of {len(of)} cells are missing, the first is {missing[0]}"
            )
        self.name, self.seeds = name, plan["stages"][name]["seeds"]
        self.results = {self._key(cell): there[cell.name] for cell in of}

    @staticmethod
    def _key(cell: Cell) -> tuple[str, int, int, int, int]:
        return cell.arm, cell.dim, cell.size, cell.steps, cell.seed

    @property
    def settings(self) -> list[tuple[int, int, int]]:
        """Dimension, size and steps of its blocks."""
        return sorted({key[1:4] for key in self.results})

    @property
    def arms(self) -> list[str]:
        """In the order of the registration."""
        return list(dict.fromkeys(key[0] for key in self.results))

    def values(self, arm: str, setting: tuple[int, int, int], what: str = "quantized") -> list[float]:
        """A score on the test half, by seed."""
        return [self.results[(arm, *setting, seed)]["test"][what] for seed in self.seeds]

    def gain(self, arm: str, other: str, settings: Iterable[tuple[int, int, int]]) -> tuple[float, ...]:
        """How much less log error an arm has than another, by seed; mean over settings."""
        by_setting = [
            [
                math.log(b) - math.log(a)
                for a, b in zip(self.values(arm, s), self.values(other, s), strict=True)
            ]
            for s in settings
        ]
        return tuple(statistics.mean(column) for column in zip(*by_setting, strict=True))


def registered(first: Stage) -> list[Contrast]:
    """The three contrasts."""
    low, high = first.settings
    narrow, wide = (first.gain("jump", "plain", [s]) for s in (low, high))
    return [
        Contrast("ramp against jump (C - B)", first.gain("published", "jump", first.settings)),
        Contrast("waiting against re-anchoring (B - A')", first.gain("jump", "placed-again", first.settings)),
        Contrast(
            "collapse regime ((A - B at 512) - (A - B at 5))",
            tuple(b - a for a, b in zip(narrow, wide, strict=True)),
        ),
    ]


def of_default(shipped: Stage) -> list[Contrast]:
    """The package's arm against each that could take its place."""
    others = ("plain", "placed-again", "jump", "published", "published-ema")
    return [
        Contrast(f"default against {other}", shipped.gain("default", other, shipped.settings))
        for other in others
    ]


#: Pairs of arms whose differences are drawn: the first, what it is compared with, what that shows.
PAIRS = (
    ("jump", "plain", "waiting, placed on trained latents (B - A)"),
    ("placed-again", "plain", "placed again (A' - A)"),
    ("jump", "placed-again", "waiting alone (B - A')"),
    ("published", "jump", "published recipe against jump (C - B)"),
    ("published-ema", "jump", "ramp alone (C+ - B)"),
    ("default", "jump", "default against jump (D - B)"),
    ("simvq", "plain", "SimVQ against plain (F - A)"),
    ("plain", "random", "k-means, averages, respawn (A - E)"),
)


def differences(stage: Stage) -> list[tuple[str, tuple[int, int, int], Contrast]]:
    """All pairs of a stage, setting by setting."""
    return [
        (about, setting, Contrast(about, stage.gain(arm, other, [setting])))
        for arm, other, about in PAIRS
        if arm in stage.arms and other in stage.arms
        for setting in stage.settings
    ]


def complete(plan: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Stage]:
    """The stages that have all their cells."""
    stages = {}
    for name in plan["stages"]:
        try:
            stages[name] = Stage(plan, name, there)
        except SystemExit:
            continue
    return stages


def draw(stages: Mapping[str, Stage], path: Path) -> None:
    """The map: how much less error, with 95 % intervals, of each pair of arms in each setting."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    rows: dict[str, list[tuple[str, Contrast]]] = {}
    for name, stage in stages.items():
        for about, (dim, size, steps), contrast in differences(stage):
            rows.setdefault(about, []).append((f"{name}: D {dim}, K {size}, {steps:,} steps", contrast))
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
        axis.set_yticks(range(len(of)), [label for label, _ in of], fontsize=6)
        axis.set_ylim(len(of) - 0.4, -0.6)
        axis.set_title(about, fontsize=8, loc="left")
        axis.set_xscale("symlog", linthresh=10)
    axes[-1, 0].set_xlabel("log error less, in hundredths (grey: within 3 %)", fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="the result file")
    parser.add_argument("--figure", action="store_true")
    options = parser.parse_args(arguments)
    plan, there = registration(), records.read(options.out)
    first = Stage(plan, "first", there)
    stages = complete(plan, there)
    families = [registered(first)]
    if "shipped" in stages:
        families.append(of_default(stages["shipped"]))
    for family in families:
        for verdict in holm(family):
            low, high, mean = (100 * x for x in (verdict.low, verdict.high, verdict.contrast.mean))
            interval = f"[{low:+.2f}, {high:+.2f}] at {100 * (1 - verdict.level):.1f} %"
            print(f"{verdict.contrast.name}: {mean:+.2f} {interval}: {verdict.word}")
    for name, stage in stages.items():
        for about, setting, contrast in differences(stage):
            low, high = (100 * x for x in contrast.interval(LEVEL))
            print(f"{name} {setting} {about}: {100 * contrast.mean:+.2f} [{low:+.2f}, {high:+.2f}]")
    if options.figure:
        draw(stages, FIGURES / "progressive.svg")


if __name__ == "__main__":
    main()
