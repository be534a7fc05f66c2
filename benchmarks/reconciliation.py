"""How views are best reconciled: weights, the gain over one view, error by length.

    python benchmarks/reconciliation.py --store ../shared/structures/valid.parquet

On held-out chains, from codes alone, before relaxation: CA RMSD, TM-score and lDDT of the
consensus for several powers of 1/scale in the weights, of the most certain single view,
and of the shipped weighting by chain length.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys

import numpy as np
import torch
from provenance import provenance, write

import protok
from protok.backbone import Backbone
from protok.data import read_store
from protok.views import TRUST, reconcile

POWERS = (2.0, 3.0, 4.0, 6.0)
LENGTHS = ((0, 100), (100, 200), (200, 300), (300, 500))


def scores(backbone: Backbone, ca: torch.Tensor) -> tuple[float, float, float]:
    """RMSD, TM-score and lDDT of CA positions."""
    coords = np.full((len(backbone), 4, 3), np.nan, np.float32)
    coords[:, 1] = ca.numpy()
    found = protok.compare(dataclasses.replace(backbone, coords=coords), backbone)
    return found.rmsd, found.tm_score, found.lddt


@torch.no_grad()
def main() -> None:
    """Measure one model on chains of a store; one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="protok-512")
    parser.add_argument("--store", required=True)
    parser.add_argument("--chains", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--out", default="benchmarks/results/reconciliation.json")
    options = parser.parse_args()
    tokenizer = protok.load(options.model)
    decoder = tokenizer.network.decoder
    store = read_store(options.store)
    order = np.random.default_rng(options.seed).permutation(len(store))
    chosen = [i for i in order if store.lengths()[i] <= LENGTHS[-1][1]][: options.chains]
    found: dict[str, list] = {}
    for i in chosen:
        backbone = store.backbone(int(i))
        z = torch.from_numpy(np.nan_to_num(tokenizer.embed(backbone, quantized=True)))
        present = torch.from_numpy(backbone.mask)[None]
        h = decoder.trunk(z[None], present, torch.ones_like(present))[0]
        for power in POWERS:
            ca = reconcile(decoder, h, trust=power).ca
            found.setdefault(f"power {power:g}", []).append(scores(backbone, ca))
        views = decoder.views(h[None])
        best = int(views.sigma[0].log().mean(1).argmin())
        found.setdefault("one view", []).append(scores(backbone, views.position[0, best]))
    length = store.lengths()[chosen]

    def mean(rows: np.ndarray) -> dict[str, float]:
        names = ("rmsd", "tm_score", "lddt")
        return {
            "chains": len(rows),
            **dict(zip(names, rows.mean(0).round(3).tolist(), strict=True)),
        }

    shipped = np.array(found[f"power {TRUST:g}"])
    result = provenance(
        "python benchmarks/reconciliation.py " + " ".join(sys.argv[1:]),
        model=tokenizer.codebook,
        seed=options.seed,
        data_sha256=store.digest,
        by_weighting={name: mean(np.array(rows)) for name, rows in found.items()},
        by_length={
            f"{low}-{high}": mean(shipped[(length > low) & (length <= high)])
            for low, high in LENGTHS
        },
    )
    for name, row in {**result["by_weighting"], **result["by_length"]}.items():
        print(name, row)
    write(options.out, result)


if __name__ == "__main__":
    main()
