"""Pictures of backbones and codes for papers and notebooks; they need matplotlib.

Each function draws into axes that the caller made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from protok.common.extras import Extra
from protok.common.files import atomic
from protok.structure.backbone import Backbone
from protok.structure.descriptors import laid_flat
from protok.tokens.tokens import Tokens
from protok.viz.colours import residue_colours

with Extra("train", "a picture for papers"):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba_array
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

#: CA atoms of neighbouring residues are joined up to this distance in Å.
JOINED = 4.5
#: Points of the curve between two residues.
POINTS = 6


def draw_trace(
    axes: Any,
    structure: Backbone,
    colours: str | Sequence[str] = "0.6",
    *,
    frame: tuple[np.ndarray, np.ndarray] | None = None,
    width: float = 3.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the CA trace of a structure as a curve, nearer parts over farther and paler ones.

    Parameters
    ----------
    axes
        Of matplotlib.
    structure
        Missing residues and bonds are gaps.
    colours
        One for all, or one a residue.
    frame
        Seen like this: what drawing another structure returned. By default so that the
        longest side lies across and the thinnest in depth.
    width
        Of the line, in points.

    Returns
    -------
    frame
        For drawing another structure, superposed on this one, in the same axes.
    """
    frame = frame or laid_flat(structure)
    ca = (structure.coords[:, 1].astype(np.float64) - frame[0]) @ frame[1].T
    rgb = to_rgba_array([colours] * len(ca) if isinstance(colours, str) else colours)[:, :3]
    pieces, owner = [], []
    for run in _runs(structure):
        curve, residue = _curve(ca[run])
        for begin in range(len(curve) - 1):
            pieces.append(curve[begin : begin + 3])  # each overlaps the next: no seams
            owner.append(run[residue[begin]])
    depth = np.array([piece[:, 2].mean() for piece in pieces])
    far = 0.55 * (depth.max() - depth) / max(float(np.ptp(depth)), 1e-9)
    rgb = rgb[owner] * (1 - far[:, None]) + far[:, None]
    lines, shades, widths = [], [], []
    for i in np.argsort(depth, kind="stable").tolist():
        line = pieces[i][:, :2]
        # A dark rim, shorter so that its ends lie under the line, then the line itself.
        rim = line.copy()
        rim[0], rim[-1] = 0.7 * line[0] + 0.3 * line[1], 0.7 * line[-1] + 0.3 * line[-2]
        lines += [rim, line]
        shades += [0.55 * rgb[i], rgb[i]]
        widths += [width + 1.2, width]
    axes.add_collection(
        LineCollection(lines, colors=shades, linewidths=widths, capstyle="butt", joinstyle="round")
    )
    axes.autoscale()
    axes.set_aspect("equal")
    axes.set_axis_off()
    return frame


def _runs(structure: Backbone) -> list[np.ndarray]:
    """Rows of the stretches that hang together, of two residues and more."""
    ca = structure.coords[:, 1]
    apart = np.linalg.norm(np.diff(ca, axis=0), axis=1)
    ends = ~(apart < JOINED) | (structure.chain[1:] != structure.chain[:-1])
    runs = np.split(np.arange(len(ca)), np.flatnonzero(ends) + 1)
    return [run for run in runs if len(run) > 1]


def _curve(ca: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A Catmull-Rom curve through points, and which of them each of its points is nearest to."""
    padded = np.concatenate([ca[:1], ca, ca[-1:]])
    a, b, c, d = (padded[k : k + len(ca) - 1, None] for k in range(4))
    t = (np.arange(POINTS) / POINTS)[:, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    nearest = np.arange(len(ca) - 1)[:, None] + (np.arange(POINTS) >= POINTS / 2)
    return (np.concatenate([curve.reshape(-1, 3), ca[-1:]]), np.append(nearest.ravel(), len(ca) - 1))


def draw_codes(axes: Any, tokens: Tokens, colours: np.ndarray, *, across: int = 30) -> None:
    """Draw residues in lines, each with its code under its letter.

    Parameters
    ----------
    axes
        Of matplotlib.
    tokens
        Of one structure.
    colours
        (size, 3) of `protok.viz.colours.code_colours`.
    across
        Residues a line.
    """
    shades = residue_colours(tokens.ids, colours)
    names = list(tokens.letters) if tokens.alphabet else ["" if i < 0 else i for i in tokens.ids]
    for i, (letter, name) in enumerate(zip(tokens.sequence, names, strict=True)):
        x, y = i % across, -2.2 * (i // across)
        axes.add_patch(Rectangle((x, y), 1, 0.9, color=shades[i], linewidth=0))
        axes.text(x + 0.5, y + 0.45, name, ha="center", va="center", fontsize=6)
        axes.text(x + 0.5, y + 1.3, letter, ha="center", va="center", fontsize=8)
        if i % across == 0:
            number = f"{tokens.index[i]}{tokens.icode[i]}"
            axes.text(x - 0.3, y + 0.9, number, ha="right", va="center", fontsize=7, color="0.4")
    axes.set(xlim=(-1.5, across), ylim=(-2.2 * ((len(tokens) - 1) // across) - 0.2, 2.0))
    axes.set_axis_off()


def draw_usage(axes: Any, counts: np.ndarray, label: str = "") -> None:
    """Draw how evenly codes are used: frequency times number of codes, most frequent first.

    Parameters
    ----------
    axes
        Of matplotlib.
    counts
        (size,) occurrences of each code.
    label
        For a legend.
    """
    share = np.sort(counts / max(1, counts.sum()))[::-1]
    place = np.arange(1, len(share) + 1) / len(share)
    axes.plot(place, np.where(share > 0, share * len(share), np.nan), label=label)
    axes.set(
        xlabel="codes, most frequent first (share of the codebook)",
        ylabel="frequency × number of codes (even: 1)",
        yscale="log",
        xlim=(0, 1),
    )


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
        Those of a report (see `protok.training.report`).
    path
        SVG to write.
    """
    if not sets:
        return
    figure = Figure(figsize=(4.2 * len(sets), 4.2), layout="constrained")
    grid = figure.subplots(1, len(sets), squeeze=False)[0]
    for axes, scored in zip(grid, sets, strict=True):
        before, after = ([chain[when]["rmsd"] for chain in scored["chains"]] for when in ("before", "after"))
        top = 1.05 * max(before + after)
        axes.plot([0, top], [0, top], color="0.7", linewidth=1)
        axes.scatter(before, after, s=14, color="C0")
        axes.set(
            title=f"{scored['name']}: {len(before)} chains",
            xlabel="CA RMSD before, Å",
            ylabel="CA RMSD after, Å (below the line: better)",
            xlim=(0, top),
            ylim=(0, top),
            aspect="equal",
        )
    _save(figure, path)


def _save(figure: Figure, path: str | Path) -> None:
    FigureCanvasAgg(figure)
    with atomic(path, "wb") as handle:
        figure.savefig(handle, format="svg")
