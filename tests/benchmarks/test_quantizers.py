"""The protein task of the quantizer sweep: letters under test around closed-loop keyframes."""

import pytest
import torch

import protok
from benchmarks.quantizers.run import recipe_of
from benchmarks.quantizers.tasks import Proteins, evaluate
from protok.quantize import build_quantizer
from protok.structure.store import write_store
from tests.helpers.paths import ROOT

TINY = {"hidden": 16, "steps_width": 16, "refiner_width": 16, "motions": 8, "chains": 2}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    chains = [protok.read(ROOT / "data" / f"{name}.pdb")[:80] for name in ("7w89.A", "7vmf.A")]
    (folder / "structures").mkdir()
    for side in ("train", "valid"):
        write_store(chains, folder / "structures" / f"{side}.parquet")
    recipe = recipe_of("proteins")
    return Proteins(recipe | {"size": 8, "batch": 128, "task": recipe["task"] | TINY}, folder, 0)


def test_both_codebooks_take_part(task):
    torch.manual_seed(0)
    quantizer = build_quantizer(kind="vq", size=8, dim=5).train()
    for step in range(3):
        x = task.batch(step, 3)
        z, mask = task.encode(x)
        out = quantizer(z, mask)
        loss, error = task.losses(out.z, x)
        loss.backward()
        assert loss.isfinite() and 0 < float(error) < 100
    assert bool(task.network.quantizer_of(4).initialised), "keyframes are placed once their ramp begins"
    assert any(p.grad is not None and p.grad.any() for p in task.network.encoder.parameters())


def test_whole_chains_are_scored_from_hard_codes(task):
    quantizer = build_quantizer(kind="vq", size=8, dim=5).train()
    for step in range(3):
        x = task.batch(step, 3)
        quantizer(*task.encode(x))
        task.losses(task.encode(x)[0], x)
    scores = evaluate(task, quantizer) | task.report(quantizer)
    assert scores["rmsd"] > 0 and 0 <= scores["lddt"] <= 1 and scores["quantized"] > 0
    assert task.network.quantizer is None, "the next setting begins without"
