"""Markdown of the leaderboard, made from its result files: no number is written by hand."""

from __future__ import annotations

import leaderboard
import numpy as np

PROBES = ("fast", "linear", "paper")
#: Site tables that a ranking in the README rests on, at least.
ENOUGH = 6
PROBE_NAMES = {
    "fast": "the paper's probe, shortened (`fast`)", "linear": "linear probe",
    "paper": "the paper's probe at full length",
}  # fmt: skip


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _supervised(found) -> list[tuple[str, str, str]]:
    kinds = {row["task"]["name"]: row["task"]["kind"] for row in found}
    return [line for line in found.lines() if kinds[line[0]] in ("site", "value", "class")]


def _value(found, subject: str, line: tuple[str, str, str]) -> float | None:
    score = found.cell(subject, *line)[1]
    return score["value"] if score else None


def _mean(values: list[float | None]) -> str:
    """A mean only where every cell is there."""
    return f"{np.mean(values):.3f}" if values and None not in values else ""


def short() -> str:
    """The summary of the first probe that has enough tables to rank by."""
    for probe in PROBES:
        found = leaderboard.load(probe)
        if found is not None and len(_shared_sites(found)) >= ENOUGH:
            return f"Probe: {PROBE_NAMES[probe]}.\n\n{_summary(found, MORE[:2])}"
    return "Too few tables have been computed for a ranking; those that have are on the page."


def summary() -> str:
    """A row a tokenizer and probe: mean of the site tables, tables above the floor, the rest."""
    parts = []
    for probe in PROBES:
        found = leaderboard.load(probe)
        if found is not None:
            parts.append(f"Probe: {PROBE_NAMES[probe]}.\n\n{_summary(found, MORE)}")
    return "\n\n".join(parts) or "No cell has been computed yet."


def _shared_sites(found) -> list[tuple[str, str, str]]:
    """Site tables that every tokenizer has: means are over the same cells."""
    kinds = {row["task"]["name"]: row["task"]["kind"] for row in found}
    return [
        line for line in _supervised(found) if kinds[line[0]] == "site"
        and all(_value(found, subject, line) is not None for subject in found.subjects())
    ]  # fmt: skip


def _summary(found, more) -> str:
    floors = leaderboard.known_floors()
    lines, whole = _supervised(found), _shared_sites(found)
    rows = []
    for subject in found.subjects():
        above = [
            _value(found, subject, line) > floors[line[0]] for line in lines
            if line[0] in floors and _value(found, subject, line) is not None
        ]  # fmt: skip
        bits = next(r["tokenizer"]["size"] for r in found if r["tokenizer"]["name"] == subject)
        rows.append([
            f"`{subject}`", f"{np.log2(bits):.1f}" if bits else "",
            _mean([_value(found, subject, line) for line in whole]),
            f"{sum(above)} of {len(above)}" if above else "",
            *(_cell(found, subject, task, split, metric) for _, task, split, metric in more),
        ])  # fmt: skip
    rows.sort(key=lambda row: -float(row[2] or 0))
    used = [i for i in range(len(rows[0])) if i < 4 or any(row[i] for row in rows)]
    head = [
        "tokenizer", "bits", f"mean AUROC of {len(whole)} site tables", "tables above the floor",
        *(name for name, *_ in more),
    ]  # fmt: skip
    return _markdown([head[i] for i in used], [[row[i] for i in used] for row in rows])


MORE = (
    ("B-factor, rho", "flex_bfactor", "test", "spearman"),
    ("fold, macro F1", "homo_propagated.SCOP2", "test", "macro_f1"),
    ("fold switching, r", "sensitivity", "STB_fold_switching", "pearson"),
    ("apo/holo, r", "sensitivity", "STB_apo_holo", "pearson"),
    ("nearest fold, top 1", "retrieval", "test", "top1"),
    ("codes used in CAMEO", "utilization", "CAMEO2022_eigenfold", "pooled_use"),
    ("changed in the mirror", "mirror", "CAMEO2022_eigenfold", "changed"),
    ("same at 0.1 Å noise", "stability", "CAMEO2022_eigenfold", "same_0.1"),
)


def _cell(found, subject: str, task: str, split: str, metric: str) -> str:
    status, score = found.cell(subject, task, split, metric)
    if not score or score["value"] is None:
        return {"unsupported": "n/a", "failed": "failed"}.get(status, "")
    error = f" ± {score['se']:.3f}" if score.get("se") is not None else ""
    return f"{score['value']:.3f}{error}"


def tables() -> str:
    """Every supervised table: score and standard error of each tokenizer, floor and chance."""
    parts = []
    for probe in PROBES:
        found = leaderboard.load(probe)
        if found is None:
            continue
        floors, subjects = leaderboard.known_floors(), found.subjects()
        chance = {row["task"]["name"]: row["task"].get("chance") for row in found}
        rows = []
        for name, split, metric in _supervised(found):
            best = max(
                (v for s in subjects if (v := _value(found, s, (name, split, metric))) is not None),
                default=None,
            )
            cells = []
            for subject in subjects:
                text = _cell(found, subject, name, split, metric)
                top = best is not None and _value(found, subject, (name, split, metric)) == best
                cells.append(f"**{text}**" if top else text)
            known = {"floor": floors.get(name), "chance": chance[name]}
            rows.append([
                f"{name} ({split})", metric,
                *("" if one is None else f"{one:.3f}" for one in known.values()), *cells,
            ])  # fmt: skip
        head = ["table (split)", "metric", "floor", "chance", *(f"`{one}`" for one in subjects)]
        parts.append(f"### Probe: {PROBE_NAMES[probe]}\n\n{_markdown(head, rows)}")
    return "\n\n".join(parts) or "No cell has been computed yet."


def costs() -> str:
    """CPU seconds of each task, the median and the largest over tokenizers, without encoding."""
    parts = []
    for probe in PROBES:
        found = leaderboard.load(probe)
        if found is None:
            continue
        spent: dict[str, list[float]] = {}
        total: dict[str, float] = {}
        for row in found:
            if row["status"] != "ok":
                continue
            rest = row["cpu_seconds"]["rest"]
            spent.setdefault(row["task"]["name"], []).append(rest)
            name = row["tokenizer"]["name"]
            total[name] = total.get(name, 0) + rest + row["cpu_seconds"]["encoding"]
        rows = [[k, str(len(v)), f"{np.median(v):.0f}", f"{max(v):.0f}"] for k, v in spent.items()]
        speed = {
            row["tokenizer"]["name"]: row["tokenizer"]["residues_per_second"] for row in found
            if row["tokenizer"]["residues_per_second"]
        }  # fmt: skip
        count = {name: sum(r["tokenizer"]["name"] == name for r in found) for name in total}
        by_name = [
            [f"`{k}`", str(count[k]), f"{v / 60:.1f}", f"{speed[k]:.0f}" if k in speed else ""]
            for k, v in total.items()
        ]
        head = ["task", "tokenizers", "median, CPU s", "largest, CPU s"]
        also = ["tokenizer", "tasks", "all of them with encoding, CPU min", "residues a CPU-second"]
        parts.append(
            f"### Probe: {PROBE_NAMES[probe]}\n\n{_markdown(also, by_name)}\n\n"
            f"{_markdown(head, rows)}"
        )
    return "\n\n".join(parts) or "No cell has been computed yet."
