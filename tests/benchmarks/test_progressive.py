"""The experiment on progressive quantization: halves, arms, tuning and verdicts."""

import csv
import math
from dataclasses import replace

import pytest
import torch

import protok
from benchmarks.progressive import analysis, run
from benchmarks.progressive.letters import Letters, halves
from protok.quantize import build_quantizer
from protok.structure.store import read_store, write_store
from tests.helpers.paths import ROOT

NAMES = ("7w89.A", "7vmf.A")
PLAN = run.registration()
OWN = {"batch": 128, "motions": 8, "motion_batches": 3, "chains": 2, "tables": []}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two chains to learn and four to validate, two of them of one cluster."""
    folder = tmp_path_factory.mktemp("data")
    structures = folder / "structures"
    structures.mkdir()
    chains = [protok.read(ROOT / "data" / f"{name}.pdb")[:80] for name in NAMES]
    write_store(chains, structures / "train.parquet")
    held_out = [
        replace(c[part], name=f"{c.name}{part.start}")
        for c in chains
        for part in (slice(0, 40), slice(40, 80))
    ]
    write_store(held_out, structures / "valid.parquet")
    with (structures / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "split", "cluster30"])
        rows.writerows([chain.name, "valid", min(i, 2)] for i, chain in enumerate(held_out))
    return folder


@pytest.fixture
def task(data):
    own = PLAN["tasks"]["letters"] | OWN | {"train": str(data / "structures" / "train.parquet")}
    return Letters(own, 5, data, 0)


def test_a_cluster_is_on_one_side(data):
    store = read_store(data / "structures" / "valid.parquet")
    sides = halves(store)
    clusters = [{store.cluster[i] for i in side} for side in sides.values()]
    assert sorted(sum(sides.values(), [])) == [0, 1, 2, 3] and not clusters[0] & clusters[1]


def test_letters_learn_steps_and_are_scored(task):
    torch.manual_seed(0)
    quantizer = build_quantizer(kind="vq", size=8, dim=5).train()
    optimiser = torch.optim.Adam(task.parts.parameters(), 1e-3)
    before = run.evaluate(task, quantizer, "test")["quantized"]
    for step in range(20):
        x = task.batch(step, 20)
        z, mask = task.encode(x)
        out = quantizer(z, mask)
        loss = task.loss(out.z, z, x) + out.loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = run.evaluate(task, quantizer, "test")
    assert after["quantized"] < before and after["usage"] > 0
    scores = task.report(quantizer, "test")
    assert 0 < scores["rmsd_16"] < 20 and 0 < scores["rmsd_keyframes"] < 20
    assert task.network.quantizer is None


def synthetic(arm: str, **changes) -> run.Cell:
    return run.Cell(**{"part": "x", "task": "synthetic", "arm": arm, "dim": 4, "size": 16, "steps": 40,
                       "seed": 1, "rate": 1e-3} | changes)  # fmt: skip


@pytest.mark.parametrize("arm", PLAN["arms"])
def test_every_arm_trains_the_same_networks_on_the_same_data(arm, tmp_path):
    result = run.measure(synthetic(arm), PLAN, tmp_path)
    assert result == run.measure(synthetic(arm), PLAN, tmp_path) | {"cpu_seconds": result["cpu_seconds"]}
    assert math.isfinite(result["test"]["quantized"]) and len(result["rows"]) == PLAN["looks"] - 1
    same = result["test"]["quantized"] == result["test"]["continuous"]
    assert same == (arm == "continuous")


def test_placing_again_happens_once_and_at_a_fifth(monkeypatch, tmp_path):
    from protok.quantize import VQ

    placed = []
    anchor = VQ.anchor
    monkeypatch.setattr(VQ, "anchor", lambda self, c: (placed.append(len(c)), anchor(self, c))[1])
    run.measure(synthetic("placed-again"), PLAN, tmp_path)
    assert placed == [256, 8 * 256], "the first batch, then all eight of a fifth of the steps"


def test_rates_grow_until_the_best_is_inside(tmp_path):
    there: dict = {}
    # Least error between four and eight thousandths, nearer to the latter: beyond the grid.
    score = {rate: abs(math.log(rate / 6e-3)) + 1 for rate in (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)}
    for _ in range(3):
        for cell in run.tuning(PLAN, "first", there):
            there[cell.name] = {"tune": {"quantized": score[cell.rate]}}
    rates = {cell.rate for cell in run.tuning(PLAN, "first", there)}
    assert rates == {*score}
    frozen = run.freeze(PLAN, there)
    assert "letters-jump-d512 = 0.008" in frozen and "synthetic" not in frozen
    again = [cell.setting for cell in run.tuning(PLAN, "shipped", there)]
    assert "letters-plain-d5" not in again and "letters-default-d5" in again


def test_a_contrast_is_the_paired_one_of_students_t():
    contrast = analysis.Contrast("x", (0.01, 0.02, 0.03, 0.06))
    # scipy.stats.ttest_1samp and R's t.test give the same.
    assert math.isclose(contrast.p, 0.0694, abs_tol=5e-4)
    assert contrast.interval(0.05) == pytest.approx((-0.00437, 0.06437), abs=1e-4)


def test_verdicts_are_corrected_for_the_family():
    strong = analysis.Contrast("strong", (0.10, 0.11, 0.09, 0.10))
    small = analysis.Contrast("small", (0.010, 0.011, 0.009, 0.010))
    wide = analysis.Contrast("wide", (0.3, -0.2, 0.1, -0.1))
    words = [v.word for v in analysis.holm([wide, small, strong])]
    assert words == ["not decided", "equivalent", "helps"]
    harm = replace(strong, name="harm", values=tuple(-v for v in strong.values))
    assert analysis.holm([harm])[0].word == "harms"
    levels = sorted(v.level for v in analysis.holm([wide, small, strong]))
    assert levels == pytest.approx([0.05 / 3, 0.025, 0.05])


def test_a_stage_with_a_missing_seed_is_refused(monkeypatch):
    plan = {"arms": {"a": {}, "b": {}}, "stages": {"s": {
        "task": "t", "arms": ["all"], "dims": [2], "sizes": [4], "steps": [1], "seeds": [1, 2]}}}  # fmt: skip
    monkeypatch.setattr(run, "rates", lambda: {"t-a-d2": 1e-3, "t-b-d2": 1e-3})
    there = {
        f"s-t-{arm}-d2-k4-t1-{seed}": {"test": {"quantized": error * seed}}
        for arm, error in (("a", 1.0), ("b", math.e))
        for seed in (1, 2)
    }
    stage = analysis.Stage(plan, "s", there)
    assert stage.gain("a", "b", stage.settings) == pytest.approx((1.0, 1.0))
    del there["s-t-b-d2-k4-t1-2"]
    with pytest.raises(SystemExit, match="1 of 4 cells are missing, the first is s-t-b-d2-k4-t1-2"):
        analysis.Stage(plan, "s", there)
