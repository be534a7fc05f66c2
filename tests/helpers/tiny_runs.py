"""Settings of training runs that take a second, and structures for them."""

import dataclasses
from pathlib import Path

import protok
from protok.testing import random_backbone

TINY = {
    "model.name": "tiny",
    "model.encoder.hidden": 16,
    "model.encoder.layers": 1,
    "model.encoder.window": 4,
    "model.quantizer.size": 32,
    "model.steps.width": 16,
    "model.steps.layers": 1,
    "model.refiner.width": 16,
    "model.refiner.layers": 1,
    "model.keyframes.spacings": [4, 8],
    "model.keyframes.sizes": [16, 16],
    "model.keyframes.continuous_share": 0.2,
    "model.keyframes.ramp": 0.1,
    "model.quantizer.ramp": 0.2,
    "data.residues": 120,
    "data.curriculum": [[0.0, 24], [0.5, 48]],
    "optim.steps": 40,
    "optim.lr_warmup_steps": 4,
    "optim.spacing_odds": [0.5, 0.5],
    "valid.every": 20,
    "valid.chains": 2,
    "split.method": "kmers",
}
#: The same for fine-tuning, where the model says its shape.
TUNE = {
    key: value
    for key, value in TINY.items()
    if key.startswith(("data.residues", "valid.", "split.", "optim.lr_warmup_steps", "optim.spacing_odds"))
} | {"optim.steps": 20, "valid.every": 10, "valid.longest": 60, "valid.patience": 3, "finetune.chains": 2}


def write_structures(folder: Path, lengths, names="s{:02d}") -> Path:
    """Random chains as PDB files."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, length in enumerate(lengths):
        chain = dataclasses.replace(random_backbone(length, seed=n), name=names.format(n))
        protok.write(chain, folder / f"{chain.name}.pdb")
    return folder
