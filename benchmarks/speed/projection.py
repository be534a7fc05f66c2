"""What all of AlphaFold DB would take, from the rates that `benchmarks.speed.encoding` measured.

    python -m benchmarks.speed.projection --structures 214e6 --length 350 --cores 256 --price 0.04

Prints the table of docs/results/speed.md, which `benchmarks.tables.write` writes with the defaults.
Nothing is typed by hand but the assumptions: number and mean length of structures, cores, price.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS

ROUTES = {"cif.gz": "mmCIF, gzip", "fcz": "Foldcomp", "pdb.gz": "PDB, gzip"}
WAYS = {
    "shapes alone": "`--shapes-only --keyframes 0`",
    "shapes and keyframes": "`--shapes-only`",
    "both alphabets and keyframes": "default",
}
#: Memory of one job's parent process that a plan may use, in bytes.
ROOM = 8e9


@dataclass(frozen=True)
class Assumptions:
    """What a plan is made for.

    Attributes
    ----------
    structures, length
        How many, and residues of one on average.
    cores
        That work at the same time.
    price
        Of a core for an hour, in any currency.
    """

    structures: float = 214e6
    length: float = 350
    cores: int = 256
    price: float = 0.04


def costs(speed: dict, assumed: Assumptions) -> list[dict]:
    """Core hours and what follows from them, for each way to pack and to encode."""
    residues = assumed.structures * assumed.length
    rows = []
    for way in WAYS:
        rate = speed["tools"].get(way, {}).get("residues_per_cpu_second")
        worker = speed["workers"].get(way)
        if not (rate and worker):
            continue
        # The total was measured on plain PDB files; their reading is replaced by the route's.
        rest = 1 / rate["total"] - 1 / rate["reading"]
        for route in ROUTES:
            packing = (speed["routes"] or {}).get(route)
            if not packing:
                continue
            hours = residues * (1 / packing["residues_per_second"] + rest) / 3600
            rows.append(
                {
                    "route": route,
                    "way": way,
                    "core_hours": hours,
                    "days": hours / assumed.cores / 24,
                    "price": hours * assumed.price,
                    "input_bytes": residues * packing["bytes_per_residue"],
                    "output_bytes": residues * worker["parquet_bytes_per_residue"],
                }
            )
    return rows


def limits(speed: dict, assumed: Assumptions) -> dict:
    """What bounds a single job: its parent's memory an input, and the workers it can feed."""
    bounds = {}
    memory = speed.get("memory")
    if memory and len(memory) > 1:
        first, last = memory[0], memory[-1]
        grown = (last["resident_mib"] - first["resident_mib"]) * 2**20
        each = grown / (last["chains"] - first["chains"])
        bounds["bytes_per_input"] = each
        bounds["inputs_per_job"] = ROOM / max(each, 1.0)
        bounds["memory_of_one_job"] = each * assumed.structures
    for way in WAYS:
        worker = speed["workers"].get(way)
        if worker:
            feeds = worker["cpu_seconds_of_workers"] / max(worker["cpu_seconds_of_parent"], 1e-3)
            bounds[f"workers_of_{way}"] = feeds
    return bounds


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"
        count /= 1000
    raise AssertionError


def page(speed: dict, assumed: Assumptions) -> str:
    """The table and figures of docs/results/speed.md."""
    head = (
        "packed as",
        "encoder",
        "core hours",
        f"days on {assumed.cores} cores",
        f"price at {assumed.price:g} an hour",
        "bytes in",
        "bytes out",
    )
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in costs(speed, assumed):
        cells = (
            ROUTES[row["route"]],
            WAYS[row["way"]],
            f"{row['core_hours']:,.0f}",
            f"{row['days']:.1f}",
            f"{row['price']:,.0f}",
            size(row["input_bytes"]),
            size(row["output_bytes"]),
        )
        lines.append("| " + " | ".join(cells) + " |")
    text = (
        f"{assumed.structures / 1e6:,.0f} million structures of {assumed.length:g} residues, "
        f"{assumed.structures * assumed.length / 1e9:,.0f} billion residues; rates of "
        f"{speed['hardware']['cpu']}.\n\n" + "\n".join(lines)
    )
    bounds = limits(speed, assumed)
    if "bytes_per_input" in bounds:
        text += (
            f"\n\nThe parent process of a job keeps {size(bounds['bytes_per_input'])} for each "
            f"input: {size(bounds['memory_of_one_job'])} for all in one job, or "
            f"{bounds['inputs_per_job'] / 1e6:,.1f} million inputs in {size(ROOM)}."
        )
    feeds = [
        f"{bounds[f'workers_of_{way}']:.0f} workers ({name})"
        for way, name in WAYS.items()
        if f"workers_of_{way}" in bounds
    ]
    if feeds:
        text += f" Its own processor time is enough to feed {', '.join(feeds)}."
    return text


def table() -> str:
    """For benchmarks.tables.write."""
    return page(json.loads((RESULTS / "speed.json").read_text()), Assumptions())


def main() -> None:
    """Print a plan."""
    own = Assumptions()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speed", type=Path, default=RESULTS / "speed.json")
    parser.add_argument("--structures", type=float, default=own.structures)
    parser.add_argument("--length", type=float, default=own.length, help="residues, on average")
    parser.add_argument("--cores", type=int, default=own.cores)
    parser.add_argument("--price", type=float, default=own.price, help="of a core for an hour")
    options = parser.parse_args()
    assumed = Assumptions(options.structures, options.length, options.cores, options.price)
    print(page(json.loads(options.speed.read_text()), assumed))


if __name__ == "__main__":
    without_traceback(main)
