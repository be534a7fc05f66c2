"""Shape letters as a task: encoder, codebook and step network, trained for the steps alone.

Networks, loss of steps, noise and consistency are those of the tokenizer (`protok.model.loss`). There are
no keyframes in training: they would mask what letters leave, and the question is of letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.progressive.tasks import HALVES, Task
from benchmarks.sites import within
from protok.bench.measures.locality import without_keyframes
from protok.model.batch import Batch
from protok.model.config import KeyframeConfig, ShapesConfig
from protok.model.keyframes import Grid, places
from protok.model.loss import STEPS, drift_of, in_the_loop, step_errors
from protok.model.network import ShapeNetwork, steps_of
from protok.model.runs import Runs
from protok.quantize import Quantizer
from protok.quantize.config import QuantizerConfig
from protok.structure.backbone import Backbone
from protok.structure.metrics import compare
from protok.structure.poses import Poses
from protok.structure.store import Store, read_store
from protok.tokenizers.shapes import ShapeTokenizer
from protok.training.batches import Stream
from protok.training.module import noisy

#: Residues of held-out chains that are read at once.
AT_ONCE = 4096


class Letters(Task):
    """Backbones: encoder, codebook and step network."""

    unit = "mean squared error of steps (shift in Å, and axes) over bonds"

    def __init__(self, own: Mapping[str, Any], dim: int, data: Path, seed: int):
        self.own = own
        self.spacing = own["spacing"]
        config = ShapesConfig(
            "experiment",
            quantizer=QuantizerConfig(kind="none", dim=dim),
            keyframes=KeyframeConfig((self.spacing,), (own["motions"],)),
        )
        torch.manual_seed(seed)
        self.network = ShapeNetwork(config)
        super().__init__(self.network)
        structures = data / "structures"
        self.files = (Path(own["train"]), structures / "valid.parquet", structures / "manifest.csv")
        self.stream = Stream(_store(self.files[0]), own["batch"], ((0.0, own["crop"]),), seed)
        self.valid = _store(self.files[1])
        self.labelled = data / "structtokenbench"

    def batch(self, step: int, steps: int) -> Batch:
        crops = self.stream.batch(step, steps)
        coords = [self.stream.store.coords(c.chain, c.begin, c.stop) for c in crops]
        return Batch.from_coords(torch.from_numpy(np.concatenate(coords)), [len(c) for c in coords])

    def chains(self, half: str) -> list[Backbone]:
        """Whole chains of a half, in an order that is no order of theirs."""
        return [self.valid.backbone(i) for i in halves(self.valid)[half]]

    def held_out(self, half: str) -> list[Batch]:
        chains, groups, size = sorted(self.chains(half), key=len), [[]], 0
        for chain in chains:
            if size + len(chain) > AT_ONCE:
                groups, size = [*groups, []], 0
            groups[-1].append(chain)
            size += len(chain)
        return [Batch.of(group) for group in groups if group]

    def encode(self, x: Batch) -> tuple[Tensor, Tensor]:
        runs = Runs.in_batch(x)
        seen = noisy(x, self.own["noise"]) if self.network.training else x
        return self.network.encoder(Poses.of(seen.coords), runs), runs.present

    def errors(self, z: Tensor, x: Batch) -> tuple[Tensor, Tensor]:
        runs = Runs.in_batch(x)
        bonded, wrong = step_errors(self.steps(z, runs), Poses.of(x.coords), runs)
        # A bond counts with the residue that it begins at.
        of = torch.repeat_interleave(torch.arange(len(x.sizes)), torch.tensor(x.sizes))[:-1]
        sums = z.new_zeros(2, len(x.sizes))
        return sums[0].index_add(0, of, wrong * bonded), sums[1].index_add(0, of, bonded.to(z))

    def steps(self, z: Tensor, runs: Runs) -> Poses:
        """What the step network says."""
        return steps_of(self.network.read(z, runs)[1])

    def loss(self, z: Tensor, latents: Tensor, x: Batch) -> Tensor:
        runs, true = Runs.in_batch(x), Poses.of(x.coords)
        drift = drift_of(self.network.encoder, latents, true, runs, x.sizes)
        return STEPS * super().loss(z, latents, x) + self.own["consistency"] * drift

    def report(self, quantizer: Quantizer, half: str) -> dict[str, float]:
        """Stretches of 16 residues from letters alone, chains with keyframes, what letters tell of sites."""
        self._place_keyframes(quantizer)
        self.network.quantizer = quantizer.eval()
        config = self.network.config
        self.network.config = replace(config, quantizer=replace(config.quantizer, size=quantizer.size))
        tokenizer = ShapeTokenizer(self.network.eval())
        some = [chain for chain in self.chains(half) if len(chain) <= self.own["longest"]]
        some = some[: self.own["chains"]]
        off = [compare(tokenizer.decode(tokenizer.encode(c, keyframes=self.spacing)), c).rmsd for c in some]
        out = {"rmsd_16": without_keyframes(tokenizer, some)[16].value, "rmsd_keyframes": float(np.mean(off))}
        for name in self.own["tables"]:
            score = within(tokenizer, self.labelled, name, self.own["proteins"])
            out |= {f"auroc_{name}": score.value, f"auroc_{name}_se": score.se}
        self.network.quantizer = None
        return out

    @torch.no_grad()
    def _place_keyframes(self, quantizer: Quantizer) -> None:
        """A codebook of motions by k-means of what these letters leave in training chains."""
        motions = self.network.quantizer_of(self.spacing)
        self.network.eval()
        motions.train().progress(0.0)
        for step in range(self.own["motion_batches"]):
            x = self.batch(step, self.own["motion_batches"])
            runs = Runs.in_batch(x)
            z, mask = self.encode(x)
            steps = self.steps(quantizer.eval()(z, mask).z, runs)
            grid = Grid.of(runs, places(runs, self.spacing))
            if step == self.own["motion_batches"] - 1:
                motions.progress(1.0)
            in_the_loop(motions, self.spacing, grid, steps, Poses.of(x.coords), runs)
        motions.eval()


def halves(store: Store) -> dict[str, list[int]]:
    """Chains of the two halves of the validation set: whole clusters, drawn without a look at anything else.

    Raises
    ------
    ValueError
        If the store has no clusters, which come with the manifest beside it.
    """
    if not store.cluster:
        raise ValueError("the validation set has no clusters: give its manifest.csv beside it")
    names = sorted(set(store.cluster))
    order = np.random.default_rng(20261129).permutation(len(names))
    side = {names[k]: HALVES[i % 2] for i, k in enumerate(order)}
    shuffled = np.random.default_rng(0).permutation(len(store)).tolist()
    return {half: [i for i in shuffled if side[store.cluster[i]] == half] for half in HALVES}


@lru_cache
def _store(path: Path) -> Store:
    return read_store(path, manifest=path.with_name("manifest.csv"))
