"""Runs of the experiment on progressive quantization (`registration.md`), cell by cell.

    python -m benchmarks.progressive.run --list
    python -m benchmarks.progressive.run --tune first --jobs 2    # learning rates, on the half for tuning
    python -m benchmarks.progressive.run --rates                  # writes what they say into rates.toml
    python -m benchmarks.progressive.run --stage first --jobs 2   # reads the test half at the last step

A cell is one arm with one seed at one setting; it is written into the result file when it is done, so a run
that was stopped goes on where it was. Of a stage no score is printed: `analysis` reads them when all its
cells are there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS, SHARED
from benchmarks.progressive.plan import RATES, TUNE, Cell, cells, freeze, registration, tuning
from protok.errors import ProtokError

OUT = RESULTS / "progressive.parquet"


def work(cell: Cell, command: str, data: Path) -> dict[str, Any]:
    """One cell in a process of its own, with where its numbers come from."""
    from benchmarks.progressive.train import measure
    from benchmarks.tables.provenance import provenance

    return provenance(command, ("torch", "numpy"), seed=cell.seed, **measure(cell, registration(), data))


def run(todo: Sequence[Cell], out: Path, data: Path, jobs: int, minutes: float) -> int:
    """Measure cells, several at a time, none of them begun after so many minutes; returns how many failed."""
    command = "python -m benchmarks.progressive.run " + " ".join(sys.argv[1:])
    began, waiting, failed = time.monotonic(), list(todo), 0
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {}
        while waiting or running:
            while waiting and len(running) < jobs and time.monotonic() - began < 60 * minutes:
                cell = waiting.pop(0)
                running[pool.submit(work, cell, command, data)] = cell
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                if isinstance(error := future.exception(), ProtokError | FileNotFoundError):
                    raise error  # data that no cell will find
                if error:
                    failed += 1
                    print(f"{cell.name} failed: {error!r}", file=sys.stderr, flush=True)
                    continue
                result = future.result()
                records.put(out, cell.name, result)
                tuned = f": {result[TUNE]['quantized']:.5f} on the half for tuning"
                print(f"{result['cpu_seconds']} s{tuned if cell.part == TUNE else ''}", flush=True)
    print(f"{len(waiting)} of {len(todo)} cells are still to be measured, {failed} failed")
    return failed


def listing(out: Path) -> None:
    """Stages, how many of their cells are done, and what they cost."""
    plan, there = registration(), records.read(out)
    for stage in plan["stages"]:
        grid = [*tuning(plan, stage, there)]
        try:
            runs = [*cells(plan, stage)]
        except SystemExit as error:
            runs = []
            print(f"{stage}: {error}")
        for what, of in (("tuning", grid), ("runs", runs)):
            done = [cell.name for cell in of if cell.of(there.get(cell.name), plan)]
            hours = sum(there[name]["cpu_seconds"] for name in done) / 3600
            print(f"{stage}: {what} {len(done)} of {len(of)} cells, {hours:.2f} core-hours")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Runs of the experiment on progressive quantization.")
    plan = registration()
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="how many cells are done")
    what.add_argument("--tune", choices=plan["stages"], metavar="STAGE")
    what.add_argument("--rates", action="store_true", help="add what is tuned to rates.toml")
    what.add_argument("--stage", choices=plan["stages"], metavar="STAGE")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no cell after this time")
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    if options.list:
        return listing(options.out)
    if options.rates:
        RATES.write_text(freeze(plan, records.read(options.out)))
        print(f"wrote {RATES.name}")
        return None
    while True:
        there = records.read(options.out)
        of = cells(plan, options.stage) if options.stage else tuning(plan, options.tune, there)
        todo = [cell for cell in of if not cell.of(there.get(cell.name), plan)]
        if not todo:
            return None
        if run(todo, options.out, options.data, options.jobs, options.minutes):
            raise SystemExit(1)
        # A tuned rate may ask for the next one; without time for all, it ends here.
        if any(cell.name not in records.read(options.out) for cell in todo):
            return None


if __name__ == "__main__":
    without_traceback(main)
