"""What decoding costs over the length of a chain: CPU time and memory, a process a length.

    python -m benchmarks.speed.decoding -o benchmarks/results/decoding.json

Chains are made up (`protok.testing.packed_chain`) and tokenized; what their shape is does not
matter to the cost. Memory is the peak of the process with decoding, less that before it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import protok
import protok.testing
from benchmarks.paths import RESULTS, ROOT
from benchmarks.tables.provenance import provenance, write

LENGTHS = (300, 1000, 3000, 10000, 20000)


def measure_chain(model: str, n: int) -> dict:
    """Decode a chain of n residues in this process."""
    import torch

    torch.set_num_threads(1)

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    tokenizer = protok.load(model)
    tokenizer.decode(tokenizer.encode(protok.testing.packed_chain(40)))
    tokens = tokenizer.encode(protok.testing.packed_chain(n, seed=0))
    before, clock = peak(), time.process_time()
    tokenizer.decode(tokens)
    seconds = time.process_time() - clock
    return {
        "residues": n,
        "milliseconds_per_residue": round(1e3 * seconds / n, 2),
        "peak_mib": round(peak()),
        "more_than_before_mib": round(peak() - before),
    }


def main() -> None:
    """Measure all lengths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="protok-512")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "decoding.json")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure_chain(options.model, options.child)))
        return
    rows = []
    for n in LENGTHS:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.speed.decoding", "--model", options.model, "--child", str(n)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    result = provenance(
        "python -m benchmarks.speed.decoding " + " ".join(sys.argv[1:]),
        model=protok.load(options.model).codebook,
        seed=0,
        threads=1,
        lengths=rows,
    )
    write(options.out, result)


if __name__ == "__main__":
    main()
