"""One HTML page of results that needs nothing else: tables, and plots as inline SVG."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from protok.bench.measures.scores import PARITY_BATCH
from protok.bench.results import ENOUGH_DOMAINS, OK, Results, ScoreInfo
from protok.common.extras import Extra
from protok.viz.html import Page, document, escaped, table

#: Tables beside each other in a figure.
PANELS = 4
#: Marker and line of each ten tokenizers: colours that can be told apart are ten.
MARKERS = "o^sDvPX"
LINES = ("-", "--", ":", "-.")
TITLES = {
    "site": "Functional sites",
    "value": "Flexibility",
    "class": "Remote homology",
    "pairs": "Sensitivity",
    "codes": "Codebook",
    "structures": "Structures",
    "domains": "Retrieval",
}


def write_report(results: Results, path: str | Path) -> None:
    """Write the page.

    Raises
    ------
    MissingExtra
        Without matplotlib.
    """
    parts = ["<h1>Structure tokenizers</h1>", _notes(results), _leaders(results)]
    kinds = {task["kind"] for task in results.tasks().values()}
    for kind, title in TITLES.items():
        if kind in kinds:
            parts += [f"<h2>{title}</h2>", _table(results, kind)]
            if kind in ("site", "value", "class"):
                parts.append(_figure(_bars, results, kind))
    for title, draw in (
        ("Use of codes", _usage),
        ("Similarity of code pairs", _violin),
        ("Change of codes with conformation", _scatter),
        ("Quality against cost", _pareto),
    ):
        if figure := _figure(draw, results):
            parts += [f"<h2>{title}</h2>", figure]
    parts += ["<h2>Failures</h2>", _failures(results), "<h2>Provenance</h2>", _provenance(results)]
    look = {"styles": ("table.css", "bench.css"), "scripts": ("table.js",)}
    Page(document("protok bench", "\n".join(parts), **look)).save(path)


def _cells(texts: Iterable[Any], tag: str = "td", words: int = 1) -> str:
    """Cells of plain texts, of which so many hold words and not numbers."""
    texts = map(escaped, texts)
    return "".join(
        f"<{tag}{' class=text' if i < words else ''}>{text}</{tag}>" for i, text in enumerate(texts)
    )


def _notes(results: Results) -> str:
    probes = sorted({row.settings["name"] for row in results if row.settings and "name" in row.settings})
    probe = f" Probe: {escaped(', '.join(probes))}." if probes else ""
    return (
        "<p class=note>Click on a column to sort by it. ± is the standard error over proteins. "
        "Scores are over all residues of the "
        f"proteins that were scored (<i>pooled</i>){_drawn(results)}. Below them, after ∥, is "
        "<i>parity</i> where there is one: the mean over mini-batches, as the paper's reference "
        f"takes it ({PARITY_BATCH['site']} proteins or {PARITY_BATCH['class']} domains in the "
        f"order of the file).{probe} A mean is of scores over all residues, and shown only where "
        f"every cell of the column is there. A test split of fewer than {ENOUGH_DOMAINS} domains "
        "of a fold classification is shown, but enters no mean and has no ±: so few say next to "
        "nothing.</p>"
    )


def _drawn(results: Results) -> str:
    """On which tables not all test proteins were scored, and how many were."""
    drawn = {}
    for row in results:
        scored = (row.chosen or {}).get("test_proteins", {})
        there = (row.data or {}).get("proteins", {})
        for split, n in scored.items():
            if n < there.get(split, n):
                drawn[row.task["name"], split] = f"{n} of {there[split]}"
    lines = [f"{escaped(name)} ({escaped(split)}) {text}" for (name, split), text in drawn.items()]
    return f", drawn at random where there are many: {', '.join(lines)}" if lines else ""


def _table(results: Results, kind: str) -> str:
    representations = results.representations()
    tasks = results.tasks()
    lines = [line for line in results.lines() if tasks[line[0]]["kind"] == kind]
    rows, mean = [], ""
    for name, split, metric in lines:
        cells = [results.cell(representation, name, split, metric) for representation in representations]
        better = tasks[name].get("beside", {}).get(metric, tasks[name].get("better", ""))
        values = [score["value"] for _, score in cells if score and score["value"] is not None]
        best = (min if better == "lower" else max)(values) if values and better else None
        arrow = {"higher": "&nbsp;↑", "lower": "&nbsp;↓"}.get(better, "")
        tip = escaped(tasks[name].get("labels", ""))
        row = f"<td title='{tip}'>{escaped(name)}</td>"
        few = results.few(name, split)
        size = f" <span class=se>{few} domains: not in the mean</span>" if few else ""
        row += f"<td class=text>{escaped(split)}{size}</td>"
        row += f"<td class=text>{escaped(metric)}{arrow}</td>"
        rows.append(f"<tr>{row}{''.join(_cell(*cell, best) for cell in cells)}</tr>")
    means = results.means().get(kind)
    if means and len(lines) > 1:
        mean = "<th>mean</th><td></td><td></td>" + _cells(
            (_number(means[name]) for name in representations), words=0
        )
    return table(_cells(["task", "split", "metric", *representations], "th", 3), rows, mean)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _leaders(results: Results) -> str:
    """A row a tokenizer: the means that have no hole, best sites first."""
    means, representations = results.means(), results.representations()
    about = {row.tokenizer["name"]: row.tokenizer for row in results}
    done = Counter(row.tokenizer["name"] for row in results if row.status == OK)
    kinds = [kind for kind in TITLES if kind in means]
    head = ["tokenizer", "layer", "bits a letter", *(f"{TITLES[kind]}, mean" for kind in kinds), "tasks done"]
    rows = []
    for name in sorted(representations, key=lambda name: -(means.get("site", {}).get(name) or 0.0)):
        size = about[name]["size"]
        bits = f"{np.log2(size):.1f}" if size else ""
        averages = (_number(means[kind][name]) for kind in kinds)
        rows.append(f"<tr>{_cells([name, about[name]['layer'], bits, *averages, done[name]], words=2)}</tr>")
    return table(_cells(head, "th", 2), rows)


def _cell(status: str, score: ScoreInfo | None, best: float | None) -> str:
    if not score or score["value"] is None:
        text = "" if status in ("absent", OK) else status
        return f"<td class=no>{escaped(text)}</td>"
    error = f" <span class=se>± {score['se']:.3f}</span>" if score.get("se") is not None else ""
    parity = score.get("parity")
    batches = f" <span class=se>∥ {parity:.3f}</span>" if parity is not None else ""
    mark = " class=best" if score["value"] == best else ""
    return f"<td{mark}>{score['value']:.3f}{error}{batches}</td>"


def _failures(results: Results) -> str:
    rows = [row for row in results if row.status != OK]
    if not rows:
        return "<p>None.</p>"
    cells = ((row.tokenizer["name"], row.task["name"], row.status, row.error) for row in rows)
    lines = (f"<tr>{_cells(texts, words=4)}</tr>" for texts in cells)
    return table(_cells(("tokenizer", "task", "status", "reason"), "th", 4), lines)


def _provenance(results: Results) -> str:
    head = "tokenizer|fingerprint|task|version|data|encoding, CPU s|rest, CPU s|protok|licence"
    rows = []
    for row in results:
        spent, data, versions = row.cpu_seconds or {}, row.data or {}, row.versions or {}
        cells = [row.tokenizer["name"], row.tokenizer["fingerprint"], row.task["name"]]
        cells += [row.task.get("version", ""), data.get("sha256", "")[:12]]
        cells += [spent.get("encoding", ""), spent.get("rest", "")]
        cells += [versions.get("protok", ""), row.task.get("licence", "")]
        rows.append(f"<tr>{_cells(cells, words=5)}</tr>")
    summary = f"<summary>{len(results)} results</summary>"
    return f"<details>{summary}{table(_cells(head.split('|'), 'th', 5), rows)}</details>"


def _figure(draw: Callable[..., Any], results: Results, *more: str) -> str:
    """Inline SVG of what `draw` gives; empty if it has nothing to show."""
    with Extra("bench", "a report"):
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

    # Text stays text, and ids are the same every time.
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "protok", "font.size": 9}):
        figure = draw(plt, results, *more)
        if figure is None:
            return ""
        out = io.StringIO()
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    svg = out.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}</figure>"


def _bars(plt: Any, results: Results, kind: str) -> Any:
    """A panel a table: all tokenizers with error bars, and chance as a dotted line."""
    tasks = results.tasks()
    lines = [line for line in results.lines() if tasks[line[0]]["kind"] == kind and line[1]]
    if not lines:
        return None
    representations = results.representations()
    looks = _looks(plt, representations)
    figure, grid = _panels(plt, len(lines), PANELS, sharey=True)
    figure.set_size_inches(11, len(grid) * (0.7 + 0.16 * len(representations)))
    for axes, line in zip(grid.flat, lines, strict=False):
        for j, representation in enumerate(representations):
            score = results.cell(representation, *line)[1]
            if score and score["value"] is not None:
                axes.errorbar(score["value"], j, xerr=score["se"] or 0, ms=4, **looks[representation])
        chance = tasks[line[0]].get("chance")
        if chance is not None:
            axes.axvline(chance, color="grey", lw=0.8, ls=":")
        few = results.few(*line[:2])
        title = line[0] + ("" if line[1] == "test" else f"\n{line[1]}")
        axes.set_title(title + (f", {few} domains" if few else ""), fontsize=8)
        axes.tick_params(labelsize=7)
    grid[0, 0].set_yticks(range(len(representations)), representations)
    grid[0, 0].invert_yaxis()
    figure.supxlabel(lines[0][2])
    return figure


def _panels(plt: Any, n: int, columns: int, **options: Any) -> Any:
    """A figure and the grid of its axes, in rows of `columns` at most; those beyond `n` are not seen."""
    columns = min(columns, n)
    figure, grid = plt.subplots(-(-n // columns), columns, squeeze=False, layout="constrained", **options)
    for axes in grid.flat[n:]:
        axes.set_axis_off()
    return figure, grid


def _looks(plt: Any, representations: list[str]) -> dict[str, dict[str, Any]]:
    """A colour and marker a tokenizer, the same in all figures; no two alike of up to seventy."""
    colours = plt.get_cmap("tab10").colors
    return {
        name: {"color": colours[i % 10], "marker": MARKERS[i // 10 % len(MARKERS)], "ls": ""}
        for i, name in enumerate(representations)
    }


def _legend(figure: Any, handles: dict[str, Any], scale: float = 1) -> None:
    """One legend below all panels, where it hides nothing; `scale` enlarges its markers."""
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=8,
        markerscale=scale,
    )


def _points(results: Results, task: str) -> dict[str, dict[str, Any]]:
    return {
        row.tokenizer["name"]: row.points for row in results if row.task["name"] == task and row.status == OK
    }


def _usage(plt: Any, results: Results) -> Any:
    points = _points(results, "utilization")
    if not points:
        return None
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    looks = _looks(plt, results.representations())
    handles = {}
    for name, sets in points.items():
        total = np.sum([usage["counts"] for usage in sets.values()], axis=0)
        share = np.sort(total / total.sum())[::-1]
        look = looks[name]
        line = LINES[MARKERS.index(look["marker"]) % len(LINES)]
        (handles[name],) = axes.plot(
            np.arange(1, len(share) + 1) / len(share), share * len(share), line, color=look["color"]
        )
    axes.set(xlabel="codes, most frequent first (share of codebook)")
    axes.set(ylabel="frequency x K (1: even use)", yscale="log")
    _legend(figure, handles)
    return figure


def _violin(plt: Any, results: Results) -> Any:
    points = _points(results, "distinctiveness")
    if not points:
        return None
    figure, axes = plt.subplots(figsize=(1 + 1.4 * len(points), 3.5))
    for i, sets in enumerate(points.values()):
        histogram = next(iter(sets.values()))
        for side, key in ((-1, "plain"), (1, "weighted")):
            share = np.array(histogram.get(key) or [])
            if len(share):
                height = np.linspace(-1, 1, len(share))
                # The square root keeps rare pairs visible beside the peak.
                width = side * 0.45 * np.sqrt(share / share.max())
                colour = "tab:blue" if side < 0 else "tab:orange"
                axes.fill_betweenx(height, i, i + width, color=colour, lw=0)
    axes.set_xticks(range(len(points)), list(points), rotation=20)
    axes.set(ylabel="cosine", title="left: all pairs; right: weighted by use")
    return figure


def _scatter(plt: Any, results: Results) -> Any:
    points = _points(results, "sensitivity")
    sets = list(dict.fromkeys(key for pairs in points.values() for key in pairs))
    if not sets:
        return None
    figure, grid = _panels(plt, len(sets), 3)
    figure.set_size_inches(max(6, 4 * grid.shape[1]), 3.7 * len(grid) + 0.05 * len(points))
    looks, handles = _looks(plt, results.representations()), {}
    for axes, key in zip(grid.flat, sets, strict=False):
        for name, pairs in points.items():
            if key in pairs:
                (handles[name],) = axes.plot(
                    pairs[key]["tm"], pairs[key]["per_residue"], ms=3.5, mew=0, **looks[name]
                )
        axes.set(title=key, xlabel="TM-score", ylabel="alignment score a residue")
    _legend(figure, handles, 1.7)
    return figure


def _pareto(plt: Any, results: Results) -> Any:
    """Mean of the site tables that all have, over speed and over bits a letter.

    Only what nothing else beats in both is named in the panel: names of all would cover each other.
    """
    quality = {k: v for k, v in (results.means().get("site") or {}).items() if v is not None}
    if not quality:
        return None
    who = [row.tokenizer for row in results]
    # A cell whose codes were there already knows no speed.
    speeds = {info["name"]: s for info in who if (s := info.get("residues_per_second"))}
    bits = {info["name"]: float(np.log2(info["size"])) for info in who if info["size"]}
    points = [
        {name: (at, quality[name]) for name in quality if (at := cost.get(name))} for cost in (speeds, bits)
    ]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.8 + 0.05 * len(quality)), sharey=True, layout="constrained"
    )
    looks, handles = _looks(plt, results.representations()), {}
    for axes, known in zip((left, right), points, strict=True):
        for name, at in known.items():
            (handles[name],) = axes.plot(*at, **looks[name])
        axes.margins(x=0.25)
    left.set(xscale="log", xlabel="residues a CPU-second", ylabel="mean AUROC of sites")
    right.set(xlabel="bits a letter (what is made from letters only)")
    figure.suptitle("named: those that no other beats in both", fontsize=8)
    _legend(figure, {name: handles[name] for name in quality if name in handles})
    figure.draw_without_rendering()  # places the panels, which tells how large texts are in them
    _name_front(left, points[0], 1)
    _name_front(right, points[1], -1)
    return figure


def _name_front(axes: Any, points: dict[str, tuple[float, float]], side: int) -> None:
    """Name the points that no other beats; `side` is where the cost is better, 1 for right.

    Names lie on that side, where nothing else is, and move up until they cover no other name.
    """
    front = [
        name
        for name, (x, y) in points.items()
        if not any(side * (a - x) >= 0 and b >= y and (a, b) != (x, y) for a, b in points.values())
    ]
    placed: list[Any] = []
    for name in sorted(front, key=lambda name: points[name][1]):
        place = {"xytext": (5 * side, 3), "ha": "left" if side > 0 else "right"}
        text = axes.annotate(name, points[name], fontsize=7, textcoords="offset points", **place)
        while any(text.get_window_extent().overlaps(other) for other in placed):
            text.xyann = text.xyann[0], text.xyann[1] + 2
        placed.append(text.get_window_extent())
