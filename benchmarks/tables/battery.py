"""The table of the battery, from `benchmarks.accuracy.battery`."""

from __future__ import annotations

import math
from pathlib import Path

from benchmarks.accuracy.battery import GROUPS, OUT, ROWS
from benchmarks.tables.markdown import table
from protok import bench
from protok.bench.results import OK, UNSUPPORTED, Result
from protok.errors import FormatError

#: What is shown of each task: metric, how it is called, digits.
SHOWN = {
    "cut": {"middle_half": ("letters kept: middle half of a chain, alone", 3)},
    "stability": {
        "same_0.2": ("letters kept: noise of .2 Å", 3),
        "information_0.2": ("bits that they tell of those before", 2),
    },
    "domain_in_chain": {"same": ("letters kept: domain out of its chain", 3)},
    "homologs": {
        "agreement": ("aligned homologs: equal letters beyond chance", 3),
        "agreement_tm_0.5_to_0.65": ("of TM-score .5 to .65", 3),
        "agreement_tm_0.65_to_0.8": ("of TM-score .65 to .8", 3),
        "agreement_tm_0.8_to_1": ("of TM-score .8 and more", 3),
    },
    "fragments": {"ratio": ("slices of 40 residues: RMSD alone over that in the chain", 2)},
    "complexes": {"rmsd": ("complexes: CA RMSD, Å", 2), "contacts_kept": ("touching pairs kept", 3)},
    "length": {
        "lddt_lost": ("lDDT lost from 100 to 300 residues to 500 and more", 3),
        "letters_lost": ("bits of perplexity lost likewise", 2),
    },
    "learnability": {
        "bits": ("bits a residue that one GRU cannot foretell", 2),
        "unigram_bits": ("without context", 2),
        "nominal_bits": ("nominal", 2),
    },
}


def cells(path: Path, group: str) -> list[Result]:
    """What was measured on the data of a group; nothing where that was not measured."""
    try:
        return list(bench.load_results(path, group)) if path.exists() else []
    except FormatError:
        return []


def battery() -> str:
    """A row a measure, a column a tokenizer."""
    rows = [row for group in GROUPS for row in cells(OUT, group)]
    there = {(row.tokenizer["name"], row.task["name"]): row for row in rows}
    names = [name for name in ROWS if any(name == key[0] for key in there)]
    body = []
    for task, metrics in SHOWN.items():
        for metric, (title, digits) in metrics.items():
            texts = [_cell(there.get((name, task)), metric, digits) for name in names]
            if any(texts):
                body.append([f"`{task}`", title, *texts])
    return table(["task", "what", *names], body)


def _cell(row: Result | None, metric: str, digits: int) -> str:
    if row is None:
        return ""
    scores = [part[metric] for part in row.scores.values() if metric in part]
    if row.status != OK or not scores:
        return "n/a" if row.status == UNSUPPORTED else ""
    value, error = scores[0]["value"], scores[0]["se"]
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if error else "")
