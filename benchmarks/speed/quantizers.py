"""What assignment of many vectors costs, and `VQ` beside vector-quantize-pytorch.

    python -m benchmarks.speed.quantizers

For each number of codes: assignment alone, in a process of its own, since memory has a high-water mark; then
a forward pass and a training step of both, in turns, medians of the rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS
from benchmarks.tables.provenance import provenance, write
from protok.quantize import VQ

OUT = RESULTS / "quantizer_speed.json"
SIZES = (512, 4096, 16384)
DIM = 32
#: Vectors that are assigned at once, and those of a forward pass or a training step.
MANY, BATCH = 1_000_000, 8192
ROUNDS = 5


def assignment(size: int, many: int = MANY) -> dict[str, float]:
    """Seconds and MiB that it takes to give many vectors a code."""
    import resource

    torch.manual_seed(0)
    quantizer, z = VQ(size, DIM).eval(), torch.randn(many, DIM)
    quantizer.assign(z[:10])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    quantizer.assign(z)
    seconds = time.perf_counter() - began
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": round(seconds, 3), "extra_mebibytes": round(more / 1024, 1)}


def pair(size: int) -> dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
    """Both quantizers with one codebook, as functions from vectors (1, n, DIM) to those of codes, ids (1, n)
    and loss; they learn from vectors that ask for a gradient."""
    from vector_quantize_pytorch import VectorQuantize

    torch.manual_seed(0)
    theirs = VectorQuantize(
        DIM, size, decay=0.99, commitment_weight=0.25, rotation_trick=False, threshold_ema_dead_code=0
    )
    ours = VQ(size, DIM, beta=0.25, decay=0.99, init_and_revive="none")
    ours.codebook.copy_(theirs._codebook.embed[0])
    ours.sums.copy_(ours.codebook)

    def own(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        out = ours.train(z.requires_grad)(z)
        return out.z, out.ids, out.loss

    def other(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        vectors, ids, loss = theirs.train(z.requires_grad)(z)
        return vectors, ids, loss.sum()

    return {"protok": own, "vector-quantize-pytorch": other}


def beside(size: int, rounds: int = ROUNDS, batch: int = BATCH) -> dict[str, Any]:
    """Milliseconds of both, and the share of vectors that get the same code in the first call.

    Only the first: in training the codebooks part, since theirs is smoothed.
    """
    tools, z = pair(size), torch.randn(1, batch, DIM)
    with torch.no_grad():
        first, second = (tool(z)[1] for tool in tools.values())
    out: dict[str, Any] = {"same_ids": float((first == second).float().mean())}
    for what in ("forward", "step"):
        took: dict[str, list[float]] = {name: [] for name in tools}
        for _ in range(rounds):
            for name, tool in tools.items():
                x = z.clone().requires_grad_(what == "step")
                began = time.perf_counter()
                vectors, _, loss = tool(x)
                if what == "step":
                    (vectors.square().mean() + loss).backward()
                took[name].append(1000 * (time.perf_counter() - began))
        out[what] = {name: round(statistics.median(times), 2) for name, times in took.items()}
    return out


def main() -> None:
    """Measure all sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    options = parser.parse_args()
    sizes = {}
    for size in SIZES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            sizes[str(size)] = {"assign": pool.apply(assignment, (size,)), **beside(size)}
        print(size, sizes[str(size)], flush=True)
    result = provenance(
        "python -m benchmarks.speed.quantizers " + " ".join(sys.argv[1:]),
        ("torch", "vector-quantize-pytorch"),
        seed=0,
        threads=torch.get_num_threads(),
        vectors={"assign": MANY, "beside": BATCH},
    )
    write(options.out, result | {"sizes": sizes})


if __name__ == "__main__":
    without_traceback(main)
