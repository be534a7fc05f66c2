"""Teaching as a side task: what a teacher tells, the heads, chains that are left out."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

pytest.importorskip("lightning", reason="training is an extra")

import protok
from protok.common.callbacks import read_metrics
from protok.model.decoder import Decoder
from protok.model.network import Activations
from protok.structure.geometry import chain_frame, frames
from protok.structure.store import open_store, read_store, write_store
from protok.testing import random_backbone
from protok.training import run
from protok.training.auxiliary import DistillationHeads
from protok.training.batches import Stream, TrainingBatches
from protok.training.config import RecipeError, read_recipe
from protok.training.distillation import Teacher, read_teacher, write_teacher
from protok.training.splits import make_splits
from tests.helpers.tiny_runs import PLACED, TINY, write_structures

pytestmark = pytest.mark.slow

WIDTHS = (6, 5, 4)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    write_structures(folder / "pdbs", range(30, 50, 4))
    return open_store(folder / "pdbs", folder / "store.parquet")


def states_of(store, width=3):
    random = np.random.default_rng(0)
    return [random.normal(2.0, 3.0, (int(n), width)) for n in store.lengths()]


@pytest.mark.parametrize("done", [0, 3])
def test_workers_give_the_same_batches_in_the_same_order(store, done):
    teacher = Teacher("t", np.concatenate(states_of(store)).astype(np.float16), store, (8.0,))
    stream = Stream(store, 60, ((0.0, 16), (0.6, 24)), seed=1)
    steps = TrainingBatches(stream, SimpleNamespace(global_step=done), 9, 2, teacher)
    alone, helped = (list(DataLoader(steps, batch_size=None, num_workers=workers)) for workers in (0, 2))
    assert len(alone) == len(helped) == 9 - done
    for expected, batch in zip(alone, helped, strict=True):
        assert expected.batch.sizes == batch.batch.sizes
        for a, b in ((expected.batch.coords, batch.batch.coords), (expected.targets, batch.targets)):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_what_is_told_is_standardised_and_knows_the_means_around(store):
    states = states_of(store)
    states[1][4] = np.nan
    flat = np.concatenate(states).astype(np.float16)
    teacher = Teacher("t", flat, store, (6.0, 1e4))
    assert teacher.widths == (3, 9)
    told = torch.cat([teacher.targets(i, 0, int(n)) for i, n in enumerate(store.lengths())]).numpy()
    silent = ~np.isfinite(told).all(1)
    assert silent.sum() == 1 and silent[int(store.start[1]) + 4]
    np.testing.assert_allclose(told[~silent].mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(told[~silent].std(0), 1, atol=1e-3)
    part = teacher.targets(2, 3, 11).numpy()
    begin = int(store.start[2])
    np.testing.assert_array_equal(part, told[begin + 3 : begin + 11])
    ca = store.coords(2)[:, 1]
    near = np.linalg.norm(ca - ca[5], axis=1) < 6.0
    assert 1 < near.sum() < len(ca)
    mean = flat[begin : begin + len(ca)][near].astype(float).mean(0)
    np.testing.assert_allclose(part[2, 3:6] * teacher.spread[3:6] + teacher.mean[3:6], mean, rtol=1e-4)
    # Within a radius that holds all, all residues of a chain are told the same.
    assert np.ptp(part[:, 6:], axis=0).max() < 1e-3 < np.ptp(part[:, 3:6], axis=0).max()


def test_states_are_asked_for_the_residue_and_codes_for_its_surroundings_too():
    torch.manual_seed(0)
    heads = DistillationHeads(WIDTHS, (1.0, 2.0, 0.0), (3, 9))
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    known = Activations(*(torch.randn(20, width, requires_grad=True) for width in WIDTHS))
    told = torch.randn(20, 9)
    told[15:] = float("nan")
    answers = heads(known, told)
    assert list(answers.right) == ["states", "codes"]
    wanted = 0.0
    for place, weight, out in (("states", 1.0, 3), ("codes", 2.0, 9)):
        predicted = heads.heads[place](getattr(known, place)[:15])
        error = torch.nn.functional.mse_loss(predicted, told[:15, :out])
        assert float(answers.right[place]) == pytest.approx(1 - error.item(), rel=1e-4)
        wanted += weight * error.item()
    assert answers.loss.item() == pytest.approx(wanted, rel=1e-5)
    answers.loss.backward()
    assert known.states.grad[15:].abs().sum() == 0 < known.states.grad[:15].abs().sum()
    assert known.codes.grad is not None and known.decoder.grad is None
    only = heads(Activations(known.states), told)
    assert list(only.right) == ["states"]
    assert heads(known, torch.full((20, 9), float("nan"))).loss.item() == 0


def test_states_are_read_back_for_their_store_only(store, tmp_path):
    path = tmp_path / "teacher.npz"
    write_teacher(path, "mine@1234", states_of(store), store)
    teacher = read_teacher(path, store, (8.0,))
    assert teacher.name == "mine@1234" and teacher.widths == (3, 6)
    with pytest.raises(RecipeError, match="for other structures") as caught:
        read_teacher(path, dataclasses.replace(store, digest="other"))
    assert str(path) in str(caught.value)
    path.write_bytes(b"nothing")
    with pytest.raises(RecipeError, match=r"recipes\.teacher_states"):
        read_teacher(path, store)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optim.distill_weights": [1.0]}, "optim.distill_weights = .*encoder states, code vectors"),
        (
            {"optim.distill_weights": [1.0, -1.0, 0.0]},
            "optim.distill_weights = .*encoder states, code vectors",
        ),
        ({"optim.distill_weights": [1.0, 0.0, 0.0]}, "optim.distill_weights without data.teacher"),
        ({"data.teacher": "states.npz"}, "data.teacher without optim.distill_weights"),
        ({"optim.encoder_warmup_steps": 5, "optim.steps": 10}, "optim.encoder_warmup_steps = 5"),
        ({"optim.distill_radii": [0.0]}, "optim.distill_radii = .*radii"),
        ({"optim.align_before_loss": True}, "optim.align_before_loss without model.decoder.global_frame"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe(None, settings)


def test_chains_that_are_named_are_not_trained_on(store, tmp_path):
    write_structures(tmp_path / "pdbs", range(30, 50, 4))
    out = tmp_path / "without.txt"
    out.write_text("\n".join([store.ids[0], store.ids[3], "nobody"]))
    settings = {"data.train": str(tmp_path / "pdbs"), "data.exclude": str(out)}
    plan = read_recipe(None, settings | {"data.valid": str(tmp_path / "pdbs")})
    weight = make_splits(plan, tmp_path, resumed=False).train.weight
    assert [store.ids[i] for i in np.flatnonzero(weight == 0)] == [store.ids[0], store.ids[3]]
    assert weight.sum() == pytest.approx(1)
    out.write_text("\n".join(store.ids))
    with pytest.raises(RecipeError, match="leaves no chain"):
        make_splits(plan, tmp_path, resumed=False)
    out.unlink()
    with pytest.raises(RecipeError, match="cannot read data.exclude"):
        make_splits(plan, tmp_path, resumed=False)


def test_a_superposed_loss_does_not_know_how_the_chain_lies():
    torch.manual_seed(0)
    decoder = Decoder(5, 16, 1, 2)
    coords = torch.from_numpy(random_backbone(40, seed=3).coords).float()[None]
    present = torch.ones(1, 40, dtype=torch.bool)
    axes, centre = chain_frame(coords[0, :, 1], present[0])
    true = (coords[:, :, 1] - centre) @ axes
    turn = frames(*coords[:, :, :3].unbind(2))
    angle = torch.tensor(0.7)
    spin = torch.eye(3)
    spin[:2, :2] = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    h = torch.zeros(1, 40, 16)
    place = {}
    for superposed in (False, True):
        decoder.align_before_loss = superposed
        for name, ca in (("as it is", true), ("turned", true @ spin), ("mirror", -true)):
            decoder.placement = lambda h, ca=ca: (turn, ca)
            place[superposed, name] = float(decoder.terms(h, coords, present, 8)["place"])
    assert place[True, "as it is"] == pytest.approx(0, abs=1e-4)
    assert place[True, "turned"] == pytest.approx(0, abs=1e-4)
    assert place[True, "mirror"] > 0.1
    assert place[False, "as it is"] < 0.01 < 0.1 < place[False, "turned"]


def test_a_distilled_run_asks_codes_after_the_warmup_and_names_its_teacher(tmp_path):
    structures = write_structures(tmp_path / "pdbs", range(30, 50, 2))
    store = open_store(structures, tmp_path / "run" / "train.parquet")
    # What a residue's neighbours are can be learnt from coordinates.
    told = [np.sin(np.nan_to_num(store.coords(i)[:, 1])) for i in range(len(store))]
    write_teacher(tmp_path / "teacher.npz", "mine@1234", told, store)
    settings = (
        TINY
        | PLACED
        | {
            "data.teacher": str(tmp_path / "teacher.npz"),
            "optim.distill_weights": [1.0, 1.0, 0.0],
            "optim.distill_radii": [8.0],
            "optim.steps": 20,
            "optim.encoder_warmup_steps": 8,
            "optim.align_before_loss": True,
        }
    )
    model = run.run(structures=structures, out=tmp_path / "run", overrides=settings)
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    learnt = [row for row in rows if "distill_r2_states" in row]
    assert {"distill_r2_codes" in row for row in learnt if row["step"] > 8} == {True}
    assert np.isfinite([row["distill_r2_codes"] for row in learnt if "distill_r2_codes" in row]).all()
    tokenizer = protok.load(str(model))
    assert not [key for key in tokenizer.network.state_dict() if "distillation" in key]
    provenance = json.loads((model / "config.json").read_text())["provenance"]
    assert provenance["states_of"] == "mine@1234" and provenance["recipe"]["optim"]["distill_radii"] == [8.0]


def test_the_command_writes_states_of_the_chains_of_a_store(store, tmp_path, monkeypatch):
    from recipes import teacher_states as teacher

    path, source = tmp_path / "deep" / "teacher.npz", tmp_path / "store.parquet"
    write_store([store.backbone(i) for i in range(len(store))], source)
    again = read_store(source)
    monkeypatch.setattr("sys.argv", ["teacher.py", "protok-512:states", str(source), "-o", str(path)])
    teacher.main()
    told = read_teacher(path, again)
    assert told.name.startswith("protok-512@") and told.widths == (128, 128)
    wanted = protok.load("protok-512").states(again.backbone(1))
    got = told.targets(1, 0, len(wanted)).numpy() * told.spread + told.mean
    # It is computed in bfloat16.
    np.testing.assert_allclose(got, wanted, atol=0.1 * np.abs(wanted).max())


def test_chains_like_those_in_test_splits_are_found_by_sequence_and_cluster(tmp_path):
    from recipes import exclude_test_chains as unseen

    def write(rows, name):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)

    write(
        [
            {"id": id, "seq": seq, "cluster30": of}
            for id, seq, of in (("a", "AAA", 1), ("b", "CCC", 1), ("c", "DDD", 2), ("d", "EEE", 3))
        ],
        "chains.parquet",
    )
    write([{"id": "e", "seq": "FFF"}, {"id": "f", "seq": "GGG"}], "complexes.parquet")
    splits = {"a": "test", "c": "train", "d": "valid", "e": "test_fold"}
    write([{"id": id, "split": of} for id, of in splits.items()], "tasks/any.parquet")
    same, alike = unseen.tested(tmp_path)
    assert same == {"AAA", "FFF"} and alike == {"AAA", "CCC"}
