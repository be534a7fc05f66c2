"""Markdown of the leaderboard, made from its result files: no number is written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from benchmarks import records
from benchmarks.leaderboard.clusters import HUMAN, VALID
from benchmarks.leaderboard.run import PROBES, load
from benchmarks.leaderboard.search import LEVELS, WHOLE, WITHIN
from benchmarks.paths import RESULTS
from benchmarks.tables.markdown import table
from protok.bench.results import Results

#: Site tables that a ranking in the README rests on, at least.
ENOUGH = 6
PROBE_NAMES = {
    "fast": "the paper's probe, shortened (`fast`)",
    "linear": "linear probe",
    "reader": "a small transformer that reads the whole chain",
    "paper": "the paper's probe at full length",
}


def _supervised(results) -> list[tuple[str, str, str]]:
    kinds = {row.task["name"]: row.task["kind"] for row in results}
    return [line for line in results.lines() if kinds[line[0]] in ("site", "value", "class")]


def _value(results, representation: str, line: tuple[str, str, str]) -> float | None:
    score = results.cell(representation, *line)[1]
    return score["value"] if score else None


def _mean(values: list[float | None]) -> str:
    """A mean only where every cell is there."""
    return f"{np.mean(values):.3f}" if values and None not in values else ""


def short() -> str:
    """The summary of the probe that has enough tables to rank by for the most tokenizers."""
    loaded = {probe: load(probe) for probe in PROBES}
    rows = {
        probe: len(results.representations()) if results and len(_shared_sites(results)) >= ENOUGH else 0
        for probe, results in loaded.items()
    }
    # Of equals the linear one, which also sees the vector alone.
    probe = max(PROBES, key=lambda name: (rows[name], name == "linear"))
    if not rows[probe]:
        return "Too few tables have been computed for a ranking; those that have are on the page."
    return f"Probe: {PROBE_NAMES[probe]}.\n\n{_summary(loaded[probe], MORE[:2])}"


def _each_probe(section: Callable[[Results], str]) -> str:
    """A section a probe that has cells."""
    loaded = {probe: load(probe) for probe in PROBES}
    parts = [
        f"### Probe: {PROBE_NAMES[probe]}\n\n{section(results)}"
        for probe, results in loaded.items()
        if results is not None
    ]
    return "\n\n".join(parts) or "No cell has been computed yet."


def summary() -> str:
    """A row a tokenizer and probe: means over the site tables, and the rest."""
    return _each_probe(lambda results: _summary(results, MORE))


def _shared_sites(results) -> list[str]:
    """Site tables that means are taken over: those of every tokenizer that has enough of them."""
    sites = list(dict.fromkeys(row.task["name"] for row in results if row.task["kind"] == "site"))
    has = {
        representation: {name for name in sites if _value(results, representation, (name, "test", "auroc"))}
        for representation in results.representations()
    }
    many = [names for names in has.values() if len(names) >= ENOUGH] or list(has.values())
    return [name for name in sites if all(name in names for names in many)]


def _summary(results, more) -> str:
    sites, rows = _shared_sites(results), []
    chosen = {(row.tokenizer["name"], row.task["name"]): (row.chosen or {}).get("valid") for row in results}
    for representation in results.representations():
        bits = next(r.tokenizer["size"] for r in results if r.tokenizer["name"] == representation)
        means = [
            _mean([_value(results, representation, (name, "test", metric)) for name in sites])
            for metric in SITES
        ]
        rows.append(
            [
                f"`{representation}`",
                f"{np.log2(bits):.1f}" if bits else "",
                *means,
                _mean([chosen.get((representation, name)) for name in sites]),
                *(_cell(results, representation, task, split, metric) for _, task, split, metric in more),
            ]
        )
    # By the first mean that this probe has.
    rows.sort(key=lambda row: -float(next(filter(None, row[2:]), 0)))
    used = [i for i in range(len(rows[0])) if i < 2 or any(row[i] for row in rows)]
    head = ["tokenizer", "bits a letter", *SITES.values(), "in choosing", *(name for name, *_ in more)]
    text = f"Means over {len(sites)} site tables."
    return f"{text}\n\n{table([head[i] for i in used], [[row[i] for i in used] for row in rows])}"


#: Metrics of site tables, and the heads of the columns of their means.
SITES = {
    "auroc_within_alone": "AUROC within proteins, vector alone",
    "auroc_within": "AUROC within proteins",
    "auroc_alone": "AUROC over all residues, vector alone",
    "auroc": "AUROC over all residues",
    "average_precision": "average precision",
}


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


def _cell(results, representation: str, task: str, split: str, metric: str) -> str:
    status, score = results.cell(representation, task, split, metric)
    if not score or score["value"] is None:
        return {"unsupported": "n/a", "failed": "failed"}.get(status, "")
    error = f" ± {score['se']:.3f}" if score.get("se") is not None else ""
    return f"{score['value']:.3f}{error}"


def tables() -> str:
    """Every supervised table: score and standard error of each tokenizer, and chance."""
    return _each_probe(_tables)


def _tables(results: Results) -> str:
    representations = results.representations()
    chance = {row.task["name"]: row.task.get("chance") for row in results}
    rows = []
    for name, split, metric in _supervised(results):
        scores = [results.cell(representation, name, split, metric)[1] for representation in representations]
        cells = [_cell(results, representation, name, split, metric) for representation in representations]
        few, at = results.few(name, split), chance[name]
        rows.append(
            [
                f"{name} ({split}{f', {few} domains' if few else ''})",
                metric,
                "" if at is None else f"{at:.3f}",
                *(f"**{cell}**" if i == _best(scores) else cell for i, cell in enumerate(cells)),
            ]
        )
    head = ["table (split)", "metric", "chance", *(f"`{name}`" for name in representations)]
    return table(head, rows)


def _best(scores: list) -> int | None:
    """The best, if it is more than a standard error above the next."""
    known = [(score["value"], i) for i, score in enumerate(scores) if score and score["value"] is not None]
    if len(known) < 2:
        return None
    (best, i), (second, _) = sorted(known, reverse=True)[:2]
    error = scores[i].get("se")
    return i if error is not None and best - second > error else None


def gains() -> str:
    """What rows gain over others, protein by protein, as `benchmarks.leaderboard.compare` found."""
    rows = [
        [
            f"`{result['rows'][0]}`" + (f" ({n} seeds)" if (n := len(result["rows"])) > 1 else ""),
            f"`{result['over']}`",
            f"{result['probe']}: {SITES.get(result['metric'], result['metric'])}",
            str(result["tables"]),
            f"{result['first']:.3f}",
            f"{result['second']:.3f}",
            f"{result['gain']:+.3f} ({result['interval'][0]:+.3f} to {result['interval'][1]:+.3f})",
            f"{sum(own['p'] < 0.05 and own['gain'] > 0 for own in result['each'].values())}",
            f"{sum(own['p'] < 0.05 and own['gain'] < 0 for own in result['each'].values())}",
        ]
        for result in records.read(RESULTS / "gains.parquet").values()
    ]
    head = ["row", "over", "probe and mean", "tables", "row has", "other has", "gain (95 %)"]
    head += ["better", "worse"]
    return table(head, rows) if rows else "No row has been compared yet."


def knows() -> str:
    """Share of the variance of geometric facts that a code, or an embedding, explains."""
    result = json.loads((RESULTS / "geometry_in_codes.json").read_text())
    shares = result["explained"]
    facts = list(next(iter(shares.values())))
    rows = [[f"`{name}`", *(f"{share[fact]:.2f}" for fact in facts)] for name, share in shares.items()]
    train, test = result["chains"]
    head = ["tokenizer", *facts]
    return f"{table(head, rows)}\n\nLearnt on {train} chains, scored on {test} ({result['set']})."


def costs() -> str:
    """CPU seconds of each task, the median and the largest over tokenizers, without encoding."""
    return _each_probe(_costs)


def _costs(results: Results) -> str:
    spent: dict[str, list[float]] = {}
    whose: dict[str, list[dict]] = {}
    for row in results:
        if row.status == "ok":
            spent.setdefault(row.task["name"], []).append(row.cpu_seconds["rest"])
            whose.setdefault(row.tokenizer["name"], []).append(row)
    by_name = []
    for name, done in whose.items():
        seconds = [sum(row.cpu_seconds.values()) for row in done]
        # Cells whose codes an earlier task or run made know no speed.
        speed = [r.tokenizer["residues_per_second"] for r in done]
        speed = [rate for rate in speed if rate]
        by_name.append(
            [
                f"`{name}`",
                str(len(done)),
                f"{sum(seconds) / 60:.1f}",
                f"{np.median(speed):.0f}" if speed else "",
            ]
        )
    by_task = [[k, str(len(v)), f"{np.median(v):.0f}", f"{max(v):.0f}"] for k, v in spent.items()]
    head = ["tokenizer", "tasks", "all of them with encoding, CPU min", "residues a CPU-second"]
    also = ["task", "tokenizers", "median, CPU s", "largest, CPU s"]
    return f"{table(head, by_name)}\n\n{table(also, by_task)}"


def search() -> str:
    """Search with codes on SCOPe domains, each half of the folds."""
    parts = []
    for half in "AB":
        if not (file := RESULTS / f"search_{half}.json").exists():
            continue
        result = json.loads(file.read_text())
        data, rows = result["data"], []
        for row in result["rows"]:
            cells = [
                f"{score['value']:.3f} ± {score['se']:.3f}" if (score := row.get(kind, {}).get(level)) else ""
                for kind in (WHOLE, WITHIN)
                for level in LEVELS
            ]
            more = [row[key] for key in ("reversed_at_1",) if key in row]
            expected = [row[kind]["strangers_at_1"] for kind in (WHOLE, WITHIN) if WITHIN in row] + more
            took = row.get(WHOLE, {}).get("cpu_seconds_a_query")
            cells += [" / ".join(f"{value:.2f}" for value in expected), str(took or "")]
            rows.append([row["tokenizer"], *cells])
        head = [f"{kind}: {level}" for kind in (WHOLE, WITHIN) for level in LEVELS]
        head = ["", *head, "strangers at E ≤ 1: whole / within / reversed", "CPU seconds a query"]
        use = {"A": "on which was tuned", "B": "read once"}[half]
        text = (
            f"Half {half} of the folds, {use}: {data['queries']} queries among {data[WHOLE]} whole chains "
            f"and {data[WITHIN]} that hold domains among others. ± is a standard error over queries."
        )
        parts.append(f"{text}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def clusters() -> str:
    """Clusters of SCOPe domains, over the least score, and of near copies."""
    if not (file := RESULTS / "clusters.json").exists():
        return "Not measured."
    result, rows, near = json.loads(file.read_text()), [], []
    for row in result["rows"]:
        for score, cells in (*row["scores"].items(), *((what, row[what]) for what in MODES)):
            shares = [f"{cells[key]:.3f}" for key in SHARES]
            counts = [str(cells[key]) for key in ("clusters", "largest", "pairs")]
            rows.append([row["tokenizer"], score, *counts, *shares, str(cells.get("cpu_seconds", ""))])
        copies = [f"{row[kind]['together']:.3f} of {row[kind]['pairs']}" for kind in (VALID, HUMAN)]
        near.append([row["tokenizer"], *copies])
    head = ["", "least score", "clusters", "largest", "pairs in clusters", *SHARES, "CPU seconds"]
    data = result["data"]
    also = ["", *(f"{kind}: {data[kind]} chains" for kind in (VALID, HUMAN))]
    copies = (
        "Pairs of chains that are 90 % identical over 80 % of both, and the share of them in one cluster:"
    )
    title = f"{data['domains']} domains of half A of the folds."
    return "\n\n".join([title, table(head, rows), copies, table(also, near)])


MODES = ("default", "all representatives")
SHARES = ("of one superfamily", "of one family", "of families")
