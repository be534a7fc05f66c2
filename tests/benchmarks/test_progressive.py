"""The experiment on progressive quantization: halves, arms, tuning and verdicts."""

import csv
import math
from dataclasses import asdict, replace

import pytest
import torch

import protok
from benchmarks import records
from benchmarks.progressive import analysis, plan, train
from benchmarks.progressive.letters import Letters, halves
from benchmarks.progressive.tasks import Synthetic
from benchmarks.tables import progressive as tables
from protok.quantize import build_quantizer
from protok.structure.store import read_store, write_store
from tests.helpers.paths import ROOT

NAMES = ("7w89.A", "7soo.A")
PLAN = plan.registration()
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
    before = train.evaluate(task, quantizer, "test")["quantized"]
    for step in range(20):
        x = task.batch(step, 20)
        z, mask = task.encode(x)
        out = quantizer(z, mask)
        loss = task.loss(out.z, z, x) + out.loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = train.evaluate(task, quantizer, "test")
    assert after["quantized"] < before and after["usage"] > 0
    scores = task.report(quantizer, "test")
    assert 0 < scores["rmsd_16"] < 20 and 0 < scores["rmsd_keyframes"] < 20
    assert task.network.quantizer is None


def synthetic(arm: str, **changes) -> plan.Cell:
    return plan.Cell(**{"part": "x", "task": "synthetic", "arm": arm, "dim": 4, "size": 16, "steps": 40,
                       "seed": 1, "rate": 1e-3} | changes)  # fmt: skip


@pytest.mark.parametrize("arm", PLAN["arms"])
def test_every_arm_trains_and_trains_again_alike(arm, tmp_path):
    result = train.measure(synthetic(arm), PLAN, tmp_path)
    assert result == train.measure(synthetic(arm), PLAN, tmp_path) | {"cpu_seconds": result["cpu_seconds"]}
    assert math.isfinite(result["test"]["quantized"]) and len(result["rows"]) == PLAN["looks"] - 1
    same = result["test"]["quantized"] == result["test"]["continuous"]
    assert same == (arm == "continuous")
    assert synthetic(arm).of(result, PLAN) and not synthetic(arm, rate=2e-3).of(result, PLAN)


def test_arms_of_a_seed_begin_alike_and_see_the_same(monkeypatch, tmp_path):
    seen: dict[str, list] = {}
    encode, loss = Synthetic.encode, Synthetic.loss

    def record(self, x):
        z, mask = encode(self, x)
        seen[arm].append((float(x.sum()), float(torch.rand(()))) if self.training else ())
        seen[arm][-1] += (float(z.detach().sum()),) if len(seen[arm]) == 1 else ()
        return z, mask

    def draw(self, z, latents, x):
        seen[arm].append(float(torch.rand(())))
        return loss(self, z, latents, x)

    monkeypatch.setattr(Synthetic, "encode", record)
    monkeypatch.setattr(Synthetic, "loss", draw)
    monkeypatch.setattr(Synthetic, "training", property(lambda self: self.encoder.training), raising=False)
    monkeypatch.setattr(train.Run, "place", lambda *_: None)
    for arm in PLAN["arms"]:
        seen[arm] = []
        train.measure(synthetic(arm, part="tune"), PLAN, tmp_path)
    assert all(of == seen["plain"] for of in seen.values()) and len(seen["plain"]) > 80


def test_placing_again_happens_once_and_at_a_fifth(monkeypatch, tmp_path):
    from protok.quantize import VQ

    placed = []
    anchor = VQ.anchor
    monkeypatch.setattr(VQ, "anchor", lambda self, c: (placed.append(len(c)), anchor(self, c))[1])
    train.measure(synthetic("placed-again", size=300), PLAN, tmp_path)
    assert placed == [512, 8 * 256], "two batches for 300 codes, then all eight of a fifth of the steps"
    placed.clear()
    train.measure(synthetic("jump"), PLAN, tmp_path)
    assert placed == [8 * 256]


def test_a_table_placed_late_begins_without_a_history(tmp_path):
    cell = synthetic("published")
    run = train.Run(cell, PLAN, Synthetic(PLAN["tasks"]["synthetic"], cell.dim, tmp_path, cell.seed))
    for step in range(10):
        run.step(step)
    steps = {name: int(run.optimiser.state[p]["step"]) for name, p in run.quantizer.named_parameters()}
    assert steps == {"inner.codebook": 1}, "placed at the tenth step, one after the wait"
    assert int(run.optimiser.state[run.task.encoder[0].weight]["step"]) == 10


def test_a_training_that_diverges_has_learnt_nothing(tmp_path):
    result = train.measure(synthetic("default", rate=1e30), PLAN, tmp_path)
    assert "diverged" in result and math.isfinite(result["test"]["quantized"])
    assert result["test"]["quantized"] > 1


def test_rates_grow_until_the_best_is_inside(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "RATES", tmp_path / "rates.toml")
    there: dict = {}
    # Least error between four and eight thousandths, nearer to the latter: beyond the grid.
    score = {rate: abs(math.log(rate / 6e-3)) + 1 for rate in (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)}
    for _ in range(3):
        for cell in plan.tuning(PLAN, "first", there):
            there[cell.name] = {"tune": {"quantized": score[cell.rate]}}
    rates = {cell.rate for cell in plan.tuning(PLAN, "first", there)}
    assert rates == {*score}
    frozen = plan.freeze(PLAN, there)
    assert "letters-jump-d512 = 0.008" in frozen and "synthetic" not in frozen
    again = [cell.setting for cell in plan.tuning(PLAN, "shipped", there)]
    assert "letters-plain-d5" not in again and "letters-default-d5" in again


def test_a_contrast_is_the_paired_one_of_students_t():
    contrast = analysis.Contrast("x", (0.01, 0.02, 0.03, 0.06))
    # Mean .03, standard error .0108: 2.777 of them; 3.182 for 95 % with three degrees of freedom.
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


def test_what_comes_after_a_contrast_that_is_not_told_keeps_its_level():
    # Students' t of 2.7 to 2.8 with 7 degrees of freedom: p of about .03, each told from 0 by itself alone.
    swing = [0.03 * (-1) ** k for k in range(8)]
    family = [analysis.Contrast(str(k), tuple(0.0306 + k / 2000 + s for s in swing)) for k in range(3)]
    assert all(0.05 / 3 < c.p < 0.05 for c in family)
    verdicts = analysis.holm(family)
    assert {v.level for v in verdicts} == {0.05 / 3} and not any(v.word == "helps" for v in verdicts)


def test_tables_give_verdicts_once_there_are_some(monkeypatch, tmp_path):
    arms = ("plain", "placed-again", "jump", "published")
    own = {
        "task": "letters",
        "arms": arms,
        "dims": [5, 512],
        "sizes": [512],
        "steps": [1500],
        "seeds": [1, 2, 3],
    }
    tune = {"rates": [1e-3], "seeds": [9], "steps": 1500, "sizes": {"letters": 512}}
    small = {"arms": {a: {} for a in arms}, "tasks": {"letters": {}}, "stages": {"first": own}, "tune": tune}
    small["stages"]["shipped"] = own | {"sizes": [64]}
    rates = {f"letters-{arm}-d{dim}": 1e-3 for arm in arms for dim in own["dims"]}
    monkeypatch.setattr(plan, "rates", lambda: rates)
    monkeypatch.setattr(tables, "registration", lambda: small)
    monkeypatch.setattr(tables, "OUT", tmp_path / "results.parquet")
    error = dict(zip(arms, (4.0, 3.0, 2.0, 2.001), strict=True))
    assert tables.verdicts() == "There is no answer yet."
    assert not tables.settings() + tables.tuned() + tables.pairs()
    there = {}
    for cell in plan.cells(small, "first"):
        spoiled = error[cell.arm] * (1 + cell.dim / 1000) * (1 + len(cell.arm) * cell.seed / 1e4)
        there[cell.name] = {
            "cell": asdict(cell), "arm": {}, "task": {}, "cpu_seconds": 60,
            "test": {"quantized": spoiled, "continuous": 1.0, "usage": 0.5, "rmsd_16": 1.234},
        }  # fmt: skip
    records.write(tables.OUT, there)
    text = tables.verdicts()
    assert "| waiting against re-anchoring (B - A') | +40" in text and "helps |" in text
    assert "| ramp against jump (C - B) | -0" in text and "| equivalent |" in text
    assert text.endswith("0.4 core-hours.") and "default against" not in text
    row = "| waiting alone (B - A') | letters: D 5, K 512, 1,500 steps | +40"
    assert row in tables.pairs()
    text = tables.settings()
    assert (
        "**letters: D 5, K 512, 1,500 steps**" in text
        and "| `jump` | 3 | 2.01" in text
        and "| 1.23 |" in text
    )


def test_a_stage_with_a_missing_seed_is_refused(monkeypatch):
    own = {"task": "t", "arms": ["a", "b"], "dims": [2], "sizes": [4], "steps": [1], "seeds": [1, 2]}
    small = {"arms": {"a": {}, "b": {}}, "tasks": {"t": {}}, "stages": {"first": own}}
    monkeypatch.setattr(plan, "rates", lambda: {"t-a-d2": 1e-3, "t-b-d2": 1e-3})
    error = {"a": 1.0, "b": math.e}
    there = {
        cell.name: {
            "cell": asdict(cell),
            "arm": {},
            "task": {},
            "test": {"quantized": error[cell.arm] * cell.seed},
        }
        for cell in plan.cells(small, "first")
    }
    results = analysis.Results(small, there)
    results.demand("first")
    setting = analysis.Setting("t", 2, 4, 1)
    assert results.gain("a", "b", setting) == pytest.approx({1: 1.0, 2: 1.0})
    late = "first-t-b-d2-k4-t1-2"
    there[late]["cell"]["rate"] = 2e-3
    with pytest.raises(SystemExit, match=f"first: 1 of 4 cells are missing, the first is {late}"):
        analysis.Results(small, there).demand("first")


def test_what_is_frozen_stays(monkeypatch, tmp_path):
    monkeypatch.setattr(plan, "RATES", tmp_path / "rates.toml")
    plan.RATES.write_text("[rates]\nletters-plain-d5 = 0.5\n")
    there = {
        cell.name: {"tune": {"quantized": 1 + abs(cell.rate - 2e-3)}}
        for cell in plan.tuning(PLAN, "first", {})
    }
    frozen = plan.freeze(PLAN, there)
    assert "letters-plain-d5 = 0.5\n" in frozen and "letters-plain-d512 = 0.002\n" in frozen
