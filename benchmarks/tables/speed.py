"""Tables of what reading, encoding and decoding cost."""

from __future__ import annotations

import json
import re

from benchmarks.paths import RESULTS
from benchmarks.speed.quantizers import OUT as QUANTIZERS
from benchmarks.tables.markdown import table

#: What `benchmarks.speed.encoding` calls protok-1 with its keyframes, and whose rate others are put beside.
KEYED, UNIT = "shapes and keyframes", "mini3di + fastpdb"
#: Models that came before: rows that are kept.
BEFORE = ("protok 0 (place codes)", "protok 0 (-sites)")


def load(name: str) -> dict:
    """One result file."""
    return json.loads((RESULTS / name).read_text())


def reading() -> str:
    """Readers side by side, thousands of residues per CPU-second."""
    result = load("reading.json")
    readers = list(dict.fromkeys(r for s in result["results"].values() for k in s.values() for r in k))
    rows = []
    for name, kinds in result["results"].items():
        for kind, rates in kinds.items():
            cells = []
            for reader in readers:
                got = rates.get(reader)
                failed = f" ({got['failed']} failed)" if got and got["failed"] else ""
                rate = got and got["residues_per_cpu_second"]
                cells.append(f"{rate / 1000:.0f}k{failed}" if rate else "fails" if got else "")
            rows.append([name, kind, *cells])
    notes = [f"{name}: {data['origin']}" for name, data in result["data"].items()]
    return table(["files", "format", *readers], rows) + "\n\n" + "; ".join(notes) + "."


def encoding() -> str:
    """Files in, tokens out, side by side; what length costs; two workers; memory."""
    result, rows = load("speed.json"), []
    for name, measured in result["tools"].items():
        rate = measured["residues_per_cpu_second"]
        rows.append(
            [
                name,
                *(f"{rate[key] / 1000:.1f}k" for key in ("reading", "encoding", "total")),
                f"{measured['to_unit']:.2f}x" if measured["to_unit"] else "",
                f"{measured['files_per_cpu_second']:.0f}",
                f"{measured['peak_mib']}",
                f"{measured['startup_seconds']:.1f}",
            ]
        )
    head = ["", "reading", "encoding", "total", f"total over that of {UNIT}"]
    head += ["files per CPU-second", "peak memory, MiB", "first code after, s"]
    text = f"Residues per CPU-second of one thread:\n\n{table(head, rows)}\n\n{_when(result['tools'])}"
    for reason, names in _left_out(result["left_out"]).items():
        text += f" {', '.join(names)}: {reason} in the last run"
        text += ", the row is of an earlier one." if set(names) <= result["tools"].keys() else "."
    for name, measured in result["workers"].items():
        text += (
            f"\n\nTwo worker processes, {name}, {measured['files']} files to Parquet: "
            f"{measured['residues_per_second']:,} residues and {measured['files_per_second']:.0f} files "
            f"a second, start of the workers included; {measured['largest_worker_mib']} MiB a worker."
        )
    for name, measured in result["lengths"].items():
        cost = ", ".join(f"{row['microseconds_per_residue']:.0f} ({row['residues']:,})" for row in measured)
        each = [row["microseconds_per_residue"] for row in measured]
        text += (
            f"\n\nMicroseconds per residue by length of the chain, {name}: {cost}; "
            f"most to least {max(each) / min(each):.2f}."
        )
    if result["memory"]:
        steps = ", ".join(f"{row['resident_mib']} ({row['chains']:,})" for row in result["memory"])
        text += f"\n\nResident MiB on the way through an archive of short chains: {steps}."
    return text + "\n\n![Cost per residue over length](/docs/figures/speed.png)"


def _left_out(parts: dict[str, str]) -> dict[str, list[str]]:
    """What was left out, in all its repetitions or other parts, by the reason in words."""
    reasons: dict[str, dict[str, None]] = {}
    for part, message in parts.items():
        reason = re.sub(r"ModuleNotFoundError: No module named '(\w+)'", r"`\1` was not installed", message)
        reasons.setdefault(reason, {})[re.sub(r"^one | \d+$", "", part)] = None
    return {reason: list(names) for reason, names in reasons.items()}


def _when(rows: dict[str, dict]) -> str:
    """When and where rows were measured, and how busy the machine was if that was looked at."""
    runs: dict[str, list[str]] = {}
    for name, row in rows.items():
        busy = f", load {row['load']:g} on {row['processors']} cores" if row["load"] is not None else ""
        runs.setdefault(f"{row['date']}, {row['cpu']}{busy}", []).append(name)
    return "Measured " + "; ".join(f"{run}: {', '.join(names)}" for run, names in runs.items()) + "."


def decoding() -> str:
    """Models by length of the chain, residues per CPU-second, and memory."""
    models = load("decoding.json")["models"]
    lengths = [row["residues"] for row in next(iter(models.values()))["lengths"]]
    rows = []
    for name, measured in models.items():
        rates = _rates(measured)
        rows.append(
            [
                name,
                *(f"{rate:,}" for rate in rates),
                f"{max(rates) / min(rates):.2f}",
                f"{measured['lengths'][-1]['more_than_before_mib'] or ''}",
            ]
        )
    head = ["", *(f"{n:,} residues" for n in lengths), "dearest to cheapest residue"]
    head += [f"memory for {lengths[-1]:,}, MiB"]
    return f"Residues per CPU-second of one thread:\n\n{table(head, rows)}\n\n{_when(models)}"


def quantizers() -> str:
    """Assignment, forward pass and training step of VQ beside vector-quantize-pytorch."""
    result = load(QUANTIZERS.name)
    rows = []
    for size, measured in result["sizes"].items():
        alone = measured["assign"]
        row = [f"{int(size):,}", f"{alone['seconds']:.1f}", f"{alone['extra_mebibytes']:.0f}"]
        for what in ("forward", "step"):
            ours, theirs = measured[what].values()
            row.append(f"{ours:.0f} / {theirs:.0f} ({theirs / ours:.1f}x)")
        rows.append([*row, f"{measured['same_ids']:.2%}"])
    vectors = result["vectors"]
    head = ["codes", f"{vectors['assign']:,} vectors, s", "extra memory, MiB"]
    head += [f"{what}, ms: protok / vector-quantize-pytorch" for what in ("forward", "training step")]
    where = f"threads: {result['threads']}, {result['hardware']['cpu']}"
    about = f"`VQ`, {vectors['beside']:,} vectors a pass, {where}."
    return f"{table([*head, 'same ids'], rows)}\n\n{about}"


def beside() -> list[list[str]]:
    """Rows of protok-1 and of the models before: rates, and what protok-1 had in the run of each."""
    models, tools = load("decoding.json")["models"], load("speed.json")["tools"]
    ends = (1, -1)

    def shown(rates: list[int]) -> str:
        return " / ".join(f"{rates[end]:,}" for end in ends)

    long = " / ".join(f"{models[BEFORE[0]]['lengths'][end]['residues']:,}" for end in ends)
    own = [shown(_rates(models[name])) for name in ("protok-1", *BEFORE)]
    same = [shown(models[name]["beside"]["protok-1"]) for name in BEFORE]
    coded = [f"{tools[name]['to_unit']:.2f}" for name in (KEYED, *BEFORE)]
    return [
        [f"decoding, residues per CPU-second: chains of {long} residues", *own],
        ["the same, of protok-1 in the same run", "", *same],
        [f"files to Parquet, rate over that of {UNIT} in the same run", *coded],
    ]


def _rates(measured: dict) -> list[int]:
    return [row["residues_per_cpu_second"] for row in measured["lengths"]]
