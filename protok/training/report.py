"""Before and after: what fine-tuning gave on held-out chains, and what it cost elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from protok.common.files import atomic, write_json
from protok.structure.backbone import Backbone
from protok.structure.metrics import compare
from protok.structure.store import open_store, unread
from protok.tokenizers.shapes import ShapeTokenizer
from protok.training.config import Recipe
from protok.training.correspondence import Correspondence, in_words
from protok.training.splits import Splits, chains_of

#: Columns of a report: whether more is better, digits, and what it is called.
MEASURES = {"rmsd": (False, 3, "CA RMSD, Å"), "tm_score": (True, 3, "TM-score"), "lddt": (True, 3, "lDDT")}
#: What a report tells of how the model after was made.
PROVENANCE = "train_chains steps best_step validation seconds_of_last_start train_sha256 recipe".split()
#: Chains by which forgetting is seen when there is no validation set; none was trained on.
BUNDLED = Path(__file__).parents[1] / "bench" / "structures"


@dataclass(frozen=True)
class ChainSet:
    """Chains that a report measures, and what they are."""

    name: str
    about: str
    chains: list[Backbone]


def forgetting_set(asked: str, start: ShapeTokenizer, out: Path, limit: int, longest: int) -> ChainSet:
    """The chains on which forgetting is measured.

    Those of `asked`, a store or folder, called "elsewhere" unless it is the model's own validation
    set; without it the mini set of `protok.bench`.
    """
    name, cache = "original validation", out / "forgetting.parquet"
    if asked:
        store, about = open_store(asked, cache), asked
        if store.digest != start.provenance.get("valid_sha256"):
            name = "elsewhere"
    else:
        name, about = "bundled", "chains of the bundled mini set"
        store = open_store(BUNDLED, cache)
    return ChainSet(name, about, chains_of(store, limit, longest))


def measure(tokenizer: ShapeTokenizer, chains: Sequence[Backbone]) -> list[dict[str, Any]]:
    """Scores of the round trip of each chain, with the usual keyframes, and its letters."""
    rows = []
    for chain in chains:
        tokens = tokenizer.encode(chain)
        rows.append({"ids": tokens.ids, **_scores(tokenizer.decode(tokens), chain)})
    return rows


def _scores(again: Backbone, chain: Backbone) -> dict[str, float]:
    compared = compare(again, chain)
    return {key: float(getattr(compared, key)) for key in MEASURES}


def change(before: np.ndarray, after: np.ndarray, more_is_better: bool) -> dict[str, Any]:
    """Means, their difference with its 95 % interval (paired bootstrap), and how many improved."""
    difference = after - before
    low = high = math.nan
    if len(difference) > 2:
        rng = np.random.default_rng(0)
        draws = rng.integers(len(difference), size=(4000, len(difference)))
        low, high = np.quantile(difference[draws].mean(axis=1), (0.025, 0.975))
    return {
        "before": round(float(before.mean()), 4),
        "after": round(float(after.mean()), 4),
        "change": round(float(difference.mean()), 4),
        "interval": [None if math.isnan(x) else round(float(x), 4) for x in (low, high)],
        "improved": int((difference > 0).sum() if more_is_better else (difference < 0).sum()),
    }


def compare_models(
    before: ShapeTokenizer, after: ShapeTokenizer, sets: Sequence[ChainSet]
) -> list[dict[str, Any]]:
    """What `measure` finds with two models on sets of chains, and how it differs."""
    out = []
    for group in sets:
        if not group.chains:
            continue
        old, new = measure(before, group.chains), measure(after, group.chains)
        result: dict[str, Any] = {
            "name": group.name,
            "about": group.about,
            "chains": [
                {
                    "name": chain.name,
                    "length": len(chain),
                    "before": {k: round(a[k], 4) for k in MEASURES},
                    "after": {k: round(b[k], 4) for k in MEASURES},
                }
                for chain, a, b in zip(group.chains, old, new, strict=True)
            ],
        }
        for key, (more, _, _) in MEASURES.items():
            a, b = (np.array([row[key] for row in rows]) for rows in (old, new))
            result[key] = change(a, b, more)
        if before.size == after.size:
            a, b = (np.concatenate([row["ids"] for row in rows]) for rows in (old, new))
            both = (a >= 0) & (b >= 0)
            result["codes_kept"] = round(float((a[both] == b[both]).mean()), 4)
            result["codes_used"] = [len(np.unique(ids[ids >= 0])) for ids in (a, b)]
        out.append(result)
    return out


def scores(sets: Sequence[Mapping[str, Any]]) -> str:
    """Measures of each set before and after, as a table in Markdown."""
    lines = [
        "| set (chains) | measure | before | after | change | 95 % interval | better in |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in sets:
        for key, (_, digits, title) in MEASURES.items():
            row = result[key]
            low, high = row["interval"]
            interval = "" if low is None else f"{low:+.{digits}f} to {high:+.{digits}f}"
            lines.append(
                f"| {result['name']} ({len(result['chains'])}) | {title} "
                f"| {row['before']:.{digits}f} | {row['after']:.{digits}f} "
                f"| {row['change']:+.{digits}f} | {interval} | {row['improved']} |"
            )
    return "\n".join(lines)


def markdown(report: Mapping[str, Any]) -> str:
    """The report as a page: tables and what they say."""
    lines = [
        f"# Fine-tuning of {report['before']}",
        "",
        f"`{report['before']}` → `{report['after']}`, codebook {report['codebook']}; "
        f"{report['train_chains']} training chains, {report['steps']} steps, "
        f"best after {report['best_step']}.",
        "",
        scores(report["sets"]),
        "",
    ]
    for result in report["sets"]:
        lines.append(f"**{result['name']}**: {result['about']}.")
        if "codes_kept" in result:
            used = " → ".join(map(str, result["codes_used"]))
            lines.append(f"Codes unchanged: {result['codes_kept']:.1%}; codes used: {used}.")
        lines.append("")
    if letters := report.get("letters"):
        lines += ["## Letters before and after", "", in_words(letters), "", "All counts: `letters.csv`.", ""]
    lines += [f"- {note}" for note in report["notes"]]
    lines += ["", "## Conclusion", "", *conclusion(report)]
    return "\n".join(lines).rstrip() + "\n"


def conclusion(report: Mapping[str, Any]) -> list[str]:
    """What the tables say in words: what was gained and lost, which model to take, which tokens hold.

    A measure has changed where the 95 % interval of its change leaves out zero.
    """
    same = report["before"] == report["after"]
    if not report["best_step"]:
        return ["No step was better on held-out chains than the start: the model after is the one before."]
    lines = []
    verdicts = [_verdict(result) for result in report["sets"]]
    for result, verdict in zip(report["sets"], verdicts, strict=True):
        parts = [
            f"{' and '.join(verdict[word])} {word}" for word in ("improved", "got worse") if verdict[word]
        ]
        text = ", ".join(parts) or "no change that these chains could show"
        if len(verdict["unknown"]) == len(MEASURES):
            text = "too few chains to tell"
        lines.append(f"- **{result['name']}** ({len(result['chains'])} chains): {text}.")
    own = next((v for r, v in zip(report["sets"], verdicts, strict=True) if r["name"] == "held out"), None)
    cost = [
        r["name"] for r, v in zip(report["sets"], verdicts, strict=True) if v["got worse"] and v is not own
    ]
    if own is None or not own["improved"]:
        advice = "Nothing measured here speaks for the model after: keep the one before"
    elif own["got worse"]:
        advice = "Which model is better depends on the measure that matters to you"
    elif cost:
        others = ", ".join(cost)
        advice = f"Take the model after for structures like yours, and the one before for others ({others})"
    else:
        advice = (
            "Take the model after: it gained on structures like yours, and no loss elsewhere was measured"
        )
    tokens = "Tokens of one decode with the other" if same else "Tokens have to be encoded anew for it"
    return [*lines, "", f"{advice}. {tokens}."]


def _verdict(result: Mapping[str, Any]) -> dict[str, list[str]]:
    """Titles of the measures that improved, got worse, or have no interval."""
    verdict: dict[str, list[str]] = {"improved": [], "got worse": [], "unknown": []}
    for key, (more_is_better, _, title) in MEASURES.items():
        low, high = result[key]["interval"]
        if low is None:
            verdict["unknown"].append(title.partition(",")[0])
        elif low > 0 or high < 0:
            verdict["improved" if (low > 0) == more_is_better else "got worse"].append(
                title.partition(",")[0]
            )
    return verdict


def report_tuning(
    start: ShapeTokenizer,
    plan: Recipe,
    out: Path,
    splits: Splits,
    provenance: Mapping[str, Any],
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Measure a model before and after fine-tuning, write the report into the run and return it.

    The model after is in the folder ``model`` of `out`, with this provenance. What is reported on is
    the test side of the split, or, without one, the validation side.
    """
    tune = plan.finetune
    store = splits.test or splits.valid
    chains = chains_of(store, tune.chains, tune.longest)
    side = "test" if splits.test else "validation, which also chose the best step,"
    about = f"chains of the {side} side of split.csv: {len(chains)} of {int((store.weight > 0).sum())}"
    original = forgetting_set(tune.forgetting or plan.data.valid, start, out, tune.chains, plan.valid.longest)
    sets = [ChainSet("held out", about, chains), original]
    empty = [f"{group.name}: no chain is short enough to measure" for group in sets if not group.chains]
    after = type(start).from_pretrained(out / "model")
    for tokenizer in (start, after):
        tokenizer.network.to(device).eval()
    report = {
        "before": start.codebook,
        "after": after.codebook,
        "codebook": tune.codebook,
        "notes": [*splits.notes, *empty, *(f"not read: {row}" for row in unread(out / "train.parquet"))],
        **{key: provenance[key] for key in PROVENANCE},
        "sets": compare_models(start, after, sets),
    }
    if tune.codebook != "frozen" and chains:
        letters = Correspondence.of(start, after, chains)
        letters.write(out / "letters.csv")
        report["letters"] = letters.summary()
    write_json(out / "report.json", report)
    with atomic(out / "report.md") as handle:
        handle.write(markdown(report))
    if find_spec("matplotlib") is not None:
        from protok.viz.plots import draw_change

        draw_change(report["sets"], out / "report.svg")
    return report
