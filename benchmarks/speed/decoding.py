"""What decoding costs over the length of a chain: residues per CPU-second and memory, models in turns.

    python -m benchmarks.speed.decoding --model protok-1 -o benchmarks/results/decoding.json

Chains are made up (`protok.testing.packed_chain`) and tokenized; what their shape is does not
matter to the cost. Each model has a process of its own with one thread; round by round, and length by
length, all decode the same chain one after the other. A figure is the median of the rounds, of which there
are fewer where a model has spent 15 CPU-seconds on a length. Memory is the peak of the process while
it decodes, less what it held just before.

A row says when and where it was measured. Rows of models that are not asked for stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import protok
import protok.testing
from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS, ROOT
from benchmarks.tables.provenance import circumstances, provenance, write

LENGTHS = (300, 1000, 3000, 10000, 20000)
#: Times that a chain is decoded, and CPU-seconds after which a model is not asked again for a length.
ROUNDS, ENOUGH = 5, 15.0
#: Residues that are decoded for one figure: a short chain several times.
RESIDUES = 3000


def serve(model: str) -> None:
    """Decode chains of as many residues as the lines of standard input say, in this process."""
    import torch

    torch.set_num_threads(1)
    tokenizer = protok.load(model)
    tokenizer.decode(tokenizer.encode(protok.testing.packed_chain(40)))
    tokens = {n: tokenizer.encode(protok.testing.packed_chain(n, seed=0)) for n in LENGTHS}
    for line in sys.stdin:
        n = int(line)
        times = max(1, RESIDUES // n)
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before, clock = memory("VmRSS"), time.process_time()
        for _ in range(times):
            tokenizer.decode(tokens[n])
        seconds = (time.process_time() - clock) / times
        peak = memory("VmHWM")
        print(json.dumps({"seconds": seconds, "peak_mib": peak, "more": peak - before}), flush=True)


def memory(key: str) -> float:
    """Resident memory of this process in MiB, or its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def started(model: str) -> subprocess.Popen:
    """A process that decodes with a model."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.speed.decoding", "--serve", model],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )


def ask(process: subprocess.Popen, n: int) -> dict:
    """What it costs a process to decode n residues."""
    assert process.stdin and process.stdout
    process.stdin.write(f"{n}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def in_turns(models: list[str]) -> dict[str, list[dict]]:
    """Rows of each model, one a length."""
    costs: dict[str, dict[int, list[dict]]] = {model: {n: [] for n in LENGTHS} for model in models}
    with ExitStack() as stack:
        processes = {model: stack.enter_context(started(model)) for model in models}
        for _ in range(ROUNDS):
            for n in LENGTHS:
                for model, process in processes.items():
                    spent = costs[model][n]
                    if sum(cost["seconds"] * max(1, RESIDUES // n) for cost in spent) < ENOUGH:
                        spent.append(ask(process, n))
                        print(model, n, round(n / spent[-1]["seconds"]), flush=True)
    return {model: [summary(n, spent) for n, spent in by.items()] for model, by in costs.items()}


def summary(n: int, spent: list[dict]) -> dict:
    """A row: medians of the rounds, memory of the dearest."""
    seconds = [cost["seconds"] for cost in spent]
    return {
        "residues": n,
        "residues_per_cpu_second": round(n / statistics.median(seconds)),
        "rounds": len(spent),
        "slowest_round": round(n / max(seconds)),
        "peak_mib": round(max(cost["peak_mib"] for cost in spent)),
        "more_than_before_mib": round(max(cost["more"] for cost in spent)),
    }


def main() -> None:
    """Measure models at all lengths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["protok-1"], help="names or folders, in one run")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "decoding.json")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    rows = json.loads(options.out.read_text())["models"] if options.out.exists() else {}
    codebooks = {model: protok.load(model).codebook for model in options.model}
    measured = in_turns(options.model)
    result = provenance(
        "python -m benchmarks.speed.decoding " + " ".join(sys.argv[1:]),
        seed=0,
        threads=1,
        unit="residues per CPU-second, median of the rounds",
    )
    about = circumstances(result)
    names = {model: codebook.partition("@")[0] for model, codebook in codebooks.items()}
    rates = {
        names[model]: [row["residues_per_cpu_second"] for row in lengths]
        for model, lengths in measured.items()
    }
    for model, lengths in measured.items():
        others = {name: by for name, by in rates.items() if name != names[model]}
        rows[names[model]] = {"model": codebooks[model], **about, "beside": others, "lengths": lengths}
    write(options.out, result | {"models": rows})


if __name__ == "__main__":
    without_traceback(main)
