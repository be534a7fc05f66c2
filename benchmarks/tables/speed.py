"""Tables of what reading, encoding and decoding cost."""

from __future__ import annotations

import json

from benchmarks.paths import RESULTS
from benchmarks.tables.markdown import table

OTHER_ENCODERS = ("mini3di + fastpdb", "biotite 3Di", "ProteinMPNN encoder")
#: Ways to compute that there are; a result file may hold rows of ways that are gone.
HOW = {"torch": "torch", "native": "native (default where a C++ compiler is found)"}


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
    if not (RESULTS / "speed.json").exists():
        return "Not measured for these weights yet: `python -m benchmarks.speed.encoding` does."
    result = load("speed.json")
    ways, rows = (result["codes"] or {"ways": {}})["ways"], []
    mpnn = result["tools"].get("ProteinMPNN encoder")
    for name, measured in kept(result["tools"]).items():
        rate = measured["residues_per_cpu_second"]
        times = rate["total"] / mpnn["residues_per_cpu_second"]["total"] if mpnn else None
        rows.append(
            [
                name if name in OTHER_ENCODERS else _how(name),
                *(f"{rate[key] / 1000:.1f}k" for key in ("reading", "encoding", "total")),
                f"{times:.1f}x" if times else "",
                f"{measured['files_per_cpu_second']:.0f}",
                f"{measured['peak_mib']}",
                f"{measured['startup_seconds']:.1f}",
                f"{ways[name]['equal']:.2%}" if name in ways else "",
            ]
        )
    head = [
        "",
        "reading",
        "encoding",
        "total",
        "total to ProteinMPNN's",
        "files per CPU-second",
        "peak memory, MiB",
        "first code after, s",
        "codes as fp32 torch",
    ]
    text = "Residues per CPU-second of one thread:\n\n" + table(head, rows)
    if ways:
        text += f"\n\nCodes are compared on {result['codes']['codes']:,} residues."
    for name, measured in kept(result["workers"]).items():
        text += (
            f"\n\nTwo worker processes, {_how(name)}, {measured['files']} files to Parquet: "
            f"{measured['residues_per_second']:,} residues and {measured['files_per_second']:.0f} files "
            f"a second, start of the workers included; {measured['largest_worker_mib']} MiB a worker."
        )
    for name, measured in kept(result["lengths"]).items():
        cost = ", ".join(f"{row['microseconds_per_residue']:.0f} ({row['residues']:,})" for row in measured)
        each = [row["microseconds_per_residue"] for row in measured]
        text += (
            f"\n\nMicroseconds per residue by length of the chain, {_how(name)}: {cost}; "
            f"most to least {max(each) / min(each):.2f}."
        )
    if result["memory"]:
        steps = ", ".join(f"{row['resident_mib']} ({row['chains']:,})" for row in result["memory"])
        text += f"\n\nResident MiB on the way through an archive of short chains: {steps}."
    if (RESULTS / "decoding.json").exists():
        text += "\n\n" + _decoding()
    if result["left_out"]:
        text += "\n\nLeft out: " + "; ".join(f"{k}: {v}" for k, v in result["left_out"].items())
    return text + "\n\n![Cost per residue over length](/docs/figures/speed.png)"


def kept(measured: dict) -> dict:
    """Measurements of other encoders, and of ways to compute that there still are."""
    ways = {name: name.rpartition("/")[2] for name in measured}
    return {name: measured[name] for name, way in ways.items() if way in HOW or name in OTHER_ENCODERS}


def _decoding() -> str:
    """What decoding costs, in words."""
    rows = load("decoding.json")["lengths"]
    cost = ", ".join(f"{r['milliseconds_per_residue']:.1f} ({r['residues']:,})" for r in rows)
    memory = ", ".join(f"{r['more_than_before_mib']} ({r['residues']:,})" for r in rows)
    return (
        f"Decoding, milliseconds per residue by length of the chain: {cost}; memory beyond that "
        f"of a process which has decoded a short chain, MiB: {memory}."
    )


def _how(name: str) -> str:
    """`protok, native`, or with the model before it."""
    model, _, way = name.rpartition("/")
    return f"{model or 'protok'}, {HOW[way]}"
