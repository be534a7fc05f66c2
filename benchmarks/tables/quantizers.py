"""Tables of quantizers: the sweeps, and what assignment costs."""

from __future__ import annotations

from benchmarks import records
from benchmarks.paths import RESULTS
from benchmarks.tables.markdown import table


def quantizers() -> str:
    """Settings of the quantizer sweep by held-out error, with paired differences to controls."""
    parts = []
    there = records.read(RESULTS / "quantizers.parquet")
    for summary in (result for name, result in there.items() if name.endswith("-summary")):
        controls = list(dict.fromkeys(c for r in summary["rows"] for c in r["less_error_than"]))
        rows = []
        for row in summary["rows"]:
            cells = []
            for control in controls:
                gap = row["less_error_than"].get(control)
                cells.append(f"{gap['mean']:.4f} [{gap['low']:.4f}, {gap['high']:.4f}]" if gap else "")
            rows.append(
                [
                    row["setting"],
                    str(row["seeds"]),
                    f"{row['quantized']:.4f}",
                    f"{row['continuous']:.4f}",
                    f"{row['usage']:.1%}",
                    f"{row['perplexity']:.0f}",
                    f"{row['latent_dimension']:.1f}",
                    f"{row['code_dimension']:.1f}",
                    *cells,
                ]
            )
        head = [
            "setting",
            "seeds",
            "error",
            "continuous",
            "usage",
            "perplexity",
            "latent dimension",
            "code dimension",
            *(f"less error than {c}" for c in controls),
        ]
        task = summary["task"]
        figures = "\n".join(
            f"![{task}: {what}](/docs/figures/quantizers-{task}-{what}.svg)"
            for what in ("error", "dimension")
        )
        parts.append(f"### {task}\n\n{summary['error']}\n\n{table(head, rows)}\n\n{figures}")
    return "\n\n".join(parts)


def speed() -> str:
    """Assignment, forward pass and training step of VQ beside vector-quantize-pytorch."""
    cells: dict[int, dict[str, dict]] = {}
    for name, result in records.read(RESULTS / "quantizers.parquet").items():
        if name.startswith("speed-"):
            what, size, _ = name.removeprefix("speed-").split("-")
            cells.setdefault(int(size), {})[what] = result
    rows = []
    for size, measured in sorted(cells.items()):
        row = [str(size), "", ""]
        if "assign" in measured:
            row[1:] = [f"{measured['assign']['seconds']:.1f}", f"{measured['assign']['extra_mebibytes']:.0f}"]
        for what in ("forward", "step"):
            took = measured.get(what, {}).get("milliseconds")
            if took:
                ours, theirs = took["protok"], took["vector-quantize-pytorch"]
                row.append(f"{ours:.0f} / {theirs:.0f} ({theirs / ours:.1f}x)")
            else:
                row.append("")
        rows.append(row)
    head = [
        "codes",
        "1 M vectors, s",
        "extra memory, MiB",
        "forward, ms: protok / vector-quantize-pytorch",
        "training step, ms",
    ]
    return table(head, rows)
