"""Figures of training and of fine-tuning; they need matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# No pyplot: its windows and global state are not ours to touch.
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Title of each panel, and the columns of the metrics file with their labels.
PANELS = (
    ("training loss", {"loss": "loss"}),
    ("error of views, Å", {"view_error": "training"}),
    ("held-out CA RMSD, Å", {"valid_rmsd": "mean", "valid_rmsd_median": "median"}),
    ("hardness", {"hardness": "hardness"}),
    ("perplexity of codes", {"perplexity": "training", "valid_perplexity": "held out"}),
    ("share of codes used", {"valid_usage": "held out"}),
)


def draw_training(rows: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Draw losses, hardness, codes and held-out RMSD over the steps of a run.

    Parameters
    ----------
    rows
        As `protok.common.callbacks.read_metrics` gives them.
    path
        SVG to write; an older one is replaced at once.
    """
    shown = [(title, c) for title, c in PANELS if any(key in row for row in rows for key in c)]
    if not shown:
        return
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(4 * columns, 2.8 * lines))
    # A layout that is worked out would draw everything twice.
    spaces = {"left": 0.22 / columns, "right": 0.98, "top": 1 - 0.15 / lines, "wspace": 0.3}
    grid = figure.subplots(
        lines, columns, squeeze=False, gridspec_kw=spaces | {"bottom": 0.2 / lines, "hspace": 0.6}
    ).ravel()
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    for axes, (title, keys) in zip(grid, shown, strict=False):
        for colour, (key, label) in enumerate(keys.items()):
            here = [row for row in rows if key in row]
            steps, values = [row["step"] for row in here], [row[key] for row in here]
            marker = "." if key.startswith("valid") else ""
            axes.plot(steps, values, marker=marker, color=f"C{colour}", label=label)
        axes.set(title=title, xlabel="step")
        if "hardness" in keys:
            axes.set_ylim(-0.05, 1.05)
        if len(keys) > 1:
            axes.legend(fontsize=8)
    _save(figure, path)


def draw_change(sets: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draw the RMSD of each chain after fine-tuning over that before, a panel a set.

    Parameters
    ----------
    sets
        Those of a report (see `protok.report`).
    path
        SVG to write.
    """
    if not sets:
        return
    figure = Figure(figsize=(4.2 * len(sets), 4.2), layout="constrained")
    grid = figure.subplots(1, len(sets), squeeze=False)[0]
    for axes, found in zip(grid, sets, strict=True):
        before = [chain["before"]["rmsd"] for chain in found["chains"]]
        after = [chain["after"]["rmsd"] for chain in found["chains"]]
        top = 1.05 * max(before + after)
        axes.plot([0, top], [0, top], color="0.7", linewidth=1)
        axes.scatter(before, after, s=14, color="C0")
        axes.set(
            title=f"{found['name']}: {len(before)} chains", xlabel="CA RMSD before, Å",
            ylabel="CA RMSD after, Å (below the line: better)", xlim=(0, top), ylim=(0, top),
            aspect="equal",
        )  # fmt: skip
    _save(figure, path)


def _save(figure: Figure, path: str | Path) -> None:
    FigureCanvasAgg(figure)
    partial = Path(path).with_suffix(".partial")
    figure.savefig(partial, format="svg")
    partial.replace(path)
