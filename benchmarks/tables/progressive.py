"""Tables of the experiment on progressive quantization: verdicts, arms in each setting, learning rates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from benchmarks import records
from benchmarks.progressive.analysis import (
    LEVEL,
    Contrast,
    Results,
    differences,
    holm,
    of_default,
    registered,
)
from benchmarks.progressive.plan import TUNE, rates, registration, tuning
from benchmarks.progressive.run import OUT
from benchmarks.tables.markdown import table

#: Scores of the test half beside the error: key, head, digits. Not all tasks have all.
SCORES = (
    ("usage", "codes used", 3),
    ("perplexity", "perplexity", 0),
    ("latent_dimension", "dimension of latents", 1),
    ("code_dimension", "of codes", 1),
    ("rmsd_16", "RMSD of 16 residues, letters alone, Å", 2),
    ("rmsd_keyframes", "RMSD with keyframes each 8, Å", 2),
    ("auroc_bind_biolip", "AUROC bind_biolip", 3),
    ("auroc_cat_biolip_family", "AUROC cat_biolip_family", 3),
)


def verdicts() -> str:
    """The registered contrasts, and those that the default hangs on, with what they cost."""
    there = records.read(OUT)
    results = Results(registration(), there)
    parts = []
    for stage, family in (("first", registered), ("shipped", of_default)):
        if stage not in results.left_out:
            parts.append(_family(family(results)))
    if not parts:
        return "There is no answer yet."
    hours = sum(result["cpu_seconds"] for result in there.values()) / 3600
    return "\n\n".join([*parts, f"{hours:.1f} core-hours."])


def _family(contrasts: Sequence[Contrast]) -> str:
    head = ["contrast", "less log error, hundredths", "corrected interval", "verdict"]
    body = []
    for verdict in holm(contrasts):
        low, high = 100 * verdict.low, 100 * verdict.high
        interval = f"[{low:+.1f}, {high:+.1f}] at {100 * (1 - verdict.level):.1f} %"
        body.append([verdict.contrast.name, f"{100 * verdict.contrast.mean:+.1f}", interval, verdict.word])
    return table(head, body)


def pairs() -> str:
    """Differences between arms in each setting by itself: no verdicts, and not corrected."""
    body = []
    for about, of in differences(Results(registration(), records.read(OUT))).items():
        for setting, contrast in of:
            low, high = (100 * x for x in contrast.interval(LEVEL))
            body.append([about, str(setting), f"{100 * contrast.mean:+.1f} [{low:+.1f}, {high:+.1f}]"])
    return table(["what", "setting", "less log error, hundredths, 95 %"], body) if body else ""


def settings() -> str:
    """Every arm in every setting whose stage is complete: means over seeds on the test half."""
    results = Results(registration(), records.read(OUT))
    parts = []
    for setting in results.settings:
        of = {arm: [*scores.values()] for (at, arm), scores in results.of.items() if at == setting}
        keys = [score for score in SCORES if any(score[0] in seeds[0] for seeds in of.values())]
        body = []
        for arm, seeds in of.items():
            error = _geometric([scores["quantized"] for scores in seeds])
            own = _geometric([scores["continuous"] for scores in seeds])
            row = [f"`{arm}`", str(len(seeds)), f"{error:.5f}", f"{error / own:.2f}"]
            for key, _, digits in keys:
                there = [scores[key] for scores in seeds if key in scores]
                row.append(f"{statistics.mean(there):.{digits}f}" if there else "")
            body.append(row)
        head = ["arm", "seeds", "error", "over its own continuous", *(title for _, title, _ in keys)]
        parts.append(f"**{setting}**\n\n{table(head, sorted(body, key=lambda row: float(row[2])))}")
    return "\n\n".join(parts)


def tuned() -> str:
    """Error on the half for tuning at each rate that was tried, where one is frozen: that is bold."""
    plan, there, frozen = registration(), records.read(OUT), rates()
    errors: dict[str, dict[float, list[float]]] = {}
    for stage in plan["stages"]:
        for cell in tuning(plan, stage, there):
            if cell.setting in frozen and cell.of(there.get(cell.name), plan):
                of = errors.setdefault(cell.setting, {}).setdefault(cell.rate, [])
                of.append(there[cell.name][TUNE]["quantized"])
    if not errors:
        return ""
    tried = sorted({rate for of in errors.values() for rate in of})
    body = []
    for setting, of in errors.items():
        row = [f"`{setting}`"]
        for rate in tried:
            text = f"{_geometric(of[rate]):.5f}" if rate in of else ""
            row.append(f"**{text}**" if frozen.get(setting) == rate else text)
        body.append(row)
    title = "Errors on the half for tuning at the rates that were tried (two seeds):"
    return f"{title}\n\n" + table(["task, arm, dimension", *(f"{rate:g}" for rate in tried)], body)


def _geometric(values: Sequence[float]) -> float:
    return math.exp(statistics.mean(map(math.log, values)))
