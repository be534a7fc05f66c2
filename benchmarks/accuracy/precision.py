"""Does bf16 autocast change what a model does? Training loss and codes, bf16 against fp32.

    python -m benchmarks.accuracy.precision --model protok-512 \\
        --store ../shared/structures/valid.parquet --batches 24

The same held-out crops go through the same weights under both precisions, with the noise and the
steadiness of the model's own training: the losses say whether training under autocast follows the
same objective, the codes whether encoding may use it.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from protok.model.features import Batch

import protok
from benchmarks.paths import RESULTS
from benchmarks.tables.provenance import provenance, write
from protok.structure.store import read_store
from protok.training.batches import Stream
from protok.training.config import OptimConfig
from protok.training.module import noisy


def main() -> None:
    """Compare the two precisions on crops of a store; one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="protok-512")
    parser.add_argument("--store", required=True)
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", default=RESULTS / "precision.json")
    options = parser.parse_args()
    tokenizer = protok.load(options.model)
    network = tokenizer.network
    optim = OptimConfig(**tokenizer.provenance["recipe"]["optim"])
    store = read_store(options.store)
    stream = Stream(store, 1536, ((0.0, 384),), options.seed)
    losses, grads, same = [], [], []
    for step in range(options.batches):
        crops = stream.batch(step, options.batches)
        coords = [store.coords(c.chain, c.begin, c.stop) for c in crops]
        batch = Batch.from_coords(torch.from_numpy(np.concatenate(coords)), [len(c) for c in coords])
        passes = {}
        for name in ("fp32", "bf16"):
            torch.manual_seed(step)
            network.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=name == "bf16"):
                result = network(
                    batch,
                    optim.scored_residues,
                    noisy(batch, optim.coordinate_noise),
                    optim.consistency_weight,
                )
            result.total.backward()
            grad = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
            passes[name] = (float(result.total.detach()), grad, result.quantized.ids)
        a, b = passes["fp32"], passes["bf16"]
        losses.append((a[0], b[0]))
        grads.append(float(torch.nn.functional.cosine_similarity(a[1], b[1], dim=0)))
        same.append(float((a[2] == b[2])[a[2] >= 0].float().mean()))
    loss = np.array(losses)
    gap = loss[:, 1] - loss[:, 0]
    result = provenance(
        "python -m benchmarks.accuracy.precision " + " ".join(sys.argv[1:]),
        model=tokenizer.codebook,
        seed=options.seed,
        data_sha256=store.digest,
        batches=options.batches,
        coordinate_noise=optim.coordinate_noise,
        consistency_weight=optim.consistency_weight,
        loss={"fp32": round(float(loss[:, 0].mean()), 4), "bf16": round(float(loss[:, 1].mean()), 4)},
        loss_gap={
            "mean": round(float(gap.mean()), 4),
            "standard_error": round(float(gap.std(ddof=1) / len(gap) ** 0.5), 4),
        },
        gradient_cosine={"mean": round(float(np.mean(grads)), 4), "least": round(min(grads), 4)},
        codes_equal=round(float(np.mean(same)), 4),
    )
    for key in ("loss", "loss_gap", "gradient_cosine", "codes_equal"):
        print(key, result[key])
    write(options.out, result)


if __name__ == "__main__":
    main()
