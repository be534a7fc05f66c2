"""One HTML page of results that needs nothing else: tables, and plots as inline SVG."""

from __future__ import annotations

import html
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from protok.bench.results import OK, Results
from protok.errors import ProtokError

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } caption { text-align: left; font-weight: 600 }
td, th { padding: .2em .7em; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child, td.text { text-align: left } .best { font-weight: 700 }
.no { color: #a33 } .se, .note { color: #666; font-size: 85% } figure { margin: 1em 0 }
svg { max-width: 100%; height: auto }
"""
TITLES = {
    "site": "Functional sites", "value": "Flexibility", "class": "Remote homology",
    "pairs": "Sensitivity", "codes": "Codebook", "structures": "Structures",
    "domains": "Retrieval",
}  # fmt: skip


def write(results: Results, path: str | Path) -> None:
    """Write the page.

    Raises
    ------
    ProtokError
        Without matplotlib.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ProtokError("a report needs matplotlib", "pip install 'protok[plot]'") from error
    parts = ["<h1>Structure tokenizers</h1>", _notes(results)]
    for kind, title in TITLES.items():
        if any(row["task"]["kind"] == kind for row in results):
            parts += [f"<h2>{title}</h2>", _table(results, kind)]
            if kind in ("site", "value", "class"):
                parts.append(_figure(lambda plt, k=kind: _bars(plt, results, k)))
    for title, draw in (
        ("Use of codes", _usage), ("Similarity of code pairs", _violin),
        ("Change of codes with conformation", _scatter), ("Quality against cost", _pareto),
    ):  # fmt: skip
        figure = _figure(lambda plt, d=draw: d(plt, results))
        if figure:
            parts += [f"<h2>{title}</h2>", figure]
    parts += ["<h2>Failures</h2>", _failures(results), "<h2>Provenance</h2>", _provenance(results)]
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>protok bench</title>\
<style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"
    Path(path).write_text(page, encoding="utf-8")


def _said(text: Any) -> str:
    return html.escape(str(text))


def _notes(results: Results) -> str:
    probes = sorted(
        {row["settings"]["name"] for row in results if "name" in row.get("settings", {})}
    )
    probe = f" Probe: {_said(', '.join(probes))}." if probes else ""
    return (
        "<p class=note>± is the standard error over proteins. Scores are over all residues of a "
        f"split (<i>pooled</i>); means over mini-batches are in the files (<i>parity</i>).{probe} "
        "A mean is shown only where every cell of the column is there.</p>"
    )


def _table(results: Results, kind: str) -> str:
    subjects = results.subjects()
    tasks = {row["task"]["name"]: row["task"] for row in results}
    lines = [line for line in results.lines() if tasks[line[0]]["kind"] == kind]
    head = "".join(f"<th>{_said(one)}</th>" for one in subjects)
    rows = [f"<tr><th>task</th><th>split</th><th>metric</th>{head}</tr>"]
    for name, split, metric in lines:
        cells = [results.cell(subject, name, split, metric) for subject in subjects]
        better = tasks[name]["better"]
        values = [score["value"] for _, score in cells if score and score["value"] is not None]
        best = {"higher": max, "lower": min}[better](values) if values and better else None
        arrow = {"higher": " ↑", "lower": " ↓"}.get(better, "")
        tip = _said(tasks[name].get("labels", ""))
        row = f"<td title='{tip}'>{_said(name)}</td><td class=text>{_said(split)}</td>"
        row += f"<td class=text>{_said(metric)}{arrow}</td>"
        rows.append(f"<tr>{row}{''.join(_cell(*cell, best) for cell in cells)}</tr>")
    means = results.means().get(kind)
    if means and len(lines) > 1:
        cells = "".join(
            f"<td>{'' if means[one] is None else format(means[one], '.3f')}</td>"
            for one in subjects
        )
        rows.append(f"<tr><th>mean</th><th></th><th></th>{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _cell(status: str, score: dict | None, best: float | None) -> str:
    if not score or score["value"] is None:
        text = "" if status in ("absent", OK) else status
        return f"<td class=no>{_said(text)}</td>"
    error = f" <span class=se>± {score['se']:.3f}</span>" if score.get("se") is not None else ""
    mark = " class=best" if score["value"] == best else ""
    return f"<td{mark}>{score['value']:.3f}{error}</td>"


def _failures(results: Results) -> str:
    rows = [row for row in results if row["status"] != OK]
    if not rows:
        return "<p>None.</p>"
    lines = "".join(
        f"<tr><td>{_said(row['tokenizer']['name'])}</td><td class=text>{_said(row['task']['name'])}"
        f"</td><td class=text>{_said(row['status'])}</td><td class=text>{_said(row['error'])}</td>"
        "</tr>"
        for row in rows
    )
    return f"<table>{lines}</table>"


def _provenance(results: Results) -> str:
    lines = []
    for row in results:
        cells = (
            row["tokenizer"]["name"], row["tokenizer"]["fingerprint"], row["task"]["name"],
            row["task"].get("version", ""), row.get("data", {}).get("sha256", "")[:12],
            row["cpu_seconds"]["encoding"], row["cpu_seconds"]["rest"],
            row["versions"]["protok"], row["task"].get("licence", ""),
        )  # fmt: skip
        lines.append("<tr>" + "".join(f"<td>{_said(one)}</td>" for one in cells) + "</tr>")
    head = (
        "tokenizer", "fingerprint", "task", "version", "data", "encoding, CPU s", "rest, CPU s",
        "protok", "licence",
    )  # fmt: skip
    top = "".join(f"<th>{one}</th>" for one in head)
    return f"<details><summary>{len(lines)} results</summary><table><tr>{top}</tr>\
{''.join(lines)}</table></details>"


def _figure(draw: Callable[[Any], Any]) -> str:
    """Inline SVG of what `draw` gives; empty if it has nothing to show."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # Text stays text, and ids are the same every time.
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "protok", "font.size": 9}):
        figure = draw(plt)
        if figure is None:
            return ""
        out = io.StringIO()
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    svg = out.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}</figure>"


def _bars(plt: Any, results: Results, kind: str) -> Any:
    tasks = {row["task"]["name"]: row["task"] for row in results}
    lines = [line for line in results.lines() if tasks[line[0]]["kind"] == kind and line[1]]
    if not lines:
        return None
    subjects = results.subjects()
    figure, axes = plt.subplots(figsize=(9, 1 + 0.22 * len(lines) * (len(subjects) + 1)))
    for j, subject in enumerate(subjects):
        at, values, errors = [], [], []
        for i, line in enumerate(lines):
            score = results.cell(subject, *line)[1]
            if score and score["value"] is not None:
                at.append(i * (len(subjects) + 1) + j)
                values.append(score["value"])
                errors.append(score["se"] or 0)
        axes.errorbar(values, at, xerr=errors, fmt="o", ms=4, lw=1, label=subject)
    middle = [i * (len(subjects) + 1) + (len(subjects) - 1) / 2 for i in range(len(lines))]
    axes.set_yticks(middle, [f"{name} ({split})" for name, split, _ in lines])
    chance = {tasks[name].get("chance") for name, _, _ in lines} - {None}
    for value in chance:
        axes.axvline(value, color="grey", lw=0.8, ls=":")
    axes.invert_yaxis()
    axes.set_xlabel(lines[0][2])
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def _points(results: Results, task: str) -> dict[str, dict[str, Any]]:
    return {
        row["tokenizer"]["name"]: row["points"]
        for row in results
        if row["task"]["name"] == task and row["status"] == OK
    }


def _usage(plt: Any, results: Results) -> Any:
    found = _points(results, "utilization")
    if not found:
        return None
    figure, axes = plt.subplots(figsize=(8, 3.5))
    for name, sets in found.items():
        total = np.sum([one["counts"] for one in sets.values()], axis=0)
        share = np.sort(total / total.sum())[::-1]
        axes.plot(np.arange(1, len(share) + 1) / len(share), share * len(share), label=name)
    axes.set(xlabel="codes, most frequent first (share of codebook)", yscale="log",
             ylabel="frequency x K (1: even use)")  # fmt: skip
    axes.legend(frameon=False)
    return figure


def _violin(plt: Any, results: Results) -> Any:
    found = _points(results, "distinctiveness")
    if not found:
        return None
    figure, axes = plt.subplots(figsize=(1 + 1.4 * len(found), 3.5))
    for i, sets in enumerate(found.values()):
        histogram = next(iter(sets.values()))
        for side, key in ((-1, "plain"), (1, "weighted")):
            share = np.array(histogram.get(key) or [])
            if len(share):
                height = np.linspace(-1, 1, len(share))
                # The square root keeps rare pairs visible beside the peak.
                width = side * 0.45 * np.sqrt(share / share.max())
                colour = "tab:blue" if side < 0 else "tab:orange"
                axes.fill_betweenx(height, i, i + width, color=colour, lw=0)
    axes.set_xticks(range(len(found)), list(found), rotation=20)
    axes.set(ylabel="cosine", title="left: all pairs; right: weighted by use")
    return figure


def _scatter(plt: Any, results: Results) -> Any:
    found = _points(results, "sensitivity")
    sets = list(dict.fromkeys(key for points in found.values() for key in points))
    if not sets:
        return None
    figure, grid = plt.subplots(1, len(sets), figsize=(4 * len(sets), 3.5), squeeze=False)
    for axes, key in zip(grid[0], sets, strict=True):
        for name, points in found.items():
            if key in points:
                axes.plot(points[key]["tm"], points[key]["per_residue"], "o", ms=3, label=name)
        axes.set(title=key, xlabel="TM-score", ylabel="alignment score a residue")
    grid[0][0].legend(frameon=False)
    return figure


def _pareto(plt: Any, results: Results) -> Any:
    quality = {k: v for k, v in (results.means().get("site") or {}).items() if v is not None}
    cost = {row["tokenizer"]["name"]: row["tokenizer"] for row in results}
    if not quality:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
    for name, value in quality.items():
        speed, size = cost[name].get("residues_per_second"), cost[name]["size"]
        if speed:
            left.plot(speed, value, "o")
            left.annotate(name, (speed, value), fontsize=8)
        if size:
            right.plot(np.log2(size), value, "o")
            right.annotate(name, (np.log2(size), value), fontsize=8)
    left.set(xscale="log", xlabel="residues a second", ylabel="mean AUROC of sites")
    right.set(xlabel="bits a residue (discrete only)")
    return figure
