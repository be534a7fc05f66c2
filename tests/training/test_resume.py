"""Training goes on: kills, damaged checkpoints, several processes, full memory."""

import os
import signal
import socket
import subprocess
import sys

import pytest

lightning = pytest.importorskip("lightning", reason="training is an extra")

import torch

import protok
from protok.common import callbacks
from protok.common.callbacks import LAST, PREVIOUS, AtomicCheckpoints, MetricsFile, read_metrics
from protok.model.batch import Batch
from protok.training import module, run
from protok.training import run as train
from protok.training.batches import Stream
from protok.training.config import Recipe, RecipeError, read_recipe
from protok.training.splits import make_splits
from tests.helpers.tiny_runs import TINY, write_structures

pytestmark = pytest.mark.slow

#: A checkpoint every second step.
OFTEN = TINY | {"valid.every": 10, "valid.chains": 1, "valid.patience": 100}


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    return write_structures(tmp_path_factory.mktemp("pdbs"), range(30, 60, 3))


def weights(path) -> dict:
    return torch.load(path, weights_only=True)["state_dict"]


def command(structures, out, settings) -> list[str]:
    """``protok train`` as arguments of Python."""
    options = [f"--set={key}={value!r}" for key, value in settings.items()]
    return ["-m", "protok", "train", f"--structures={structures}", f"--out={out}", *options]


def test_two_processes_train_as_one(structures, tmp_path):
    """Gradients are those of both batches; in the last step the codebook is placed and used."""
    out, steps = tmp_path / "two", 6
    settings = TINY | {
        "optim.devices": 2,
        "optim.steps": steps,
        "optim.precision": "32",
        "optim.clip": 0.5,
        "model.quantizer.continuous_share": 0.8,
        "model.quantizer.ramp": 0.0,
        "model.keyframes.spacings": [4],
        "model.keyframes.sizes": [16],
        "optim.spacing_odds": [1.0],
        "model.keyframes.continuous_share": 0.8,
        "model.keyframes.ramp": 0.0,
        "valid.every": 3,
    }
    env = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    arguments = [sys.executable, *command(structures, out, settings)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the model is in") == 1, "the first process alone speaks"

    plan = read_recipe(None, settings | {"data.train": str(structures)})
    splits = make_splits(plan, tmp_path, resumed=False)
    lightning.seed_everything(plan.optim.seed, verbose=False)
    module = train.Training(plan, [])
    setting = module.configure_optimizers()
    optimiser, schedule = setting["optimizer"], setting["lr_scheduler"]["scheduler"]
    stream = Stream(splits.train, plan.data.residues, plan.data.curriculum, plan.optim.seed)
    module.network.train()
    for step in range(steps - 1):
        for rank in range(2):
            crops = stream.batch(2 * step + rank, 2 * steps)
            coords = [splits.train.coords(c.chain, c.begin, c.stop) for c in crops]
            batch = Batch.from_coords(
                torch.cat([torch.from_numpy(c) for c in coords]), [len(c) for c in coords]
            )
            (module.loss(batch, step)[0] / 2).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), plan.optim.clip)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    held = weights(out / "checkpoints" / PREVIOUS)
    for key, value in module.named_parameters():
        torch.testing.assert_close(held[key], value.detach(), rtol=1e-3, atol=1e-5, msg=key)

    rows = read_metrics(out / "metrics.csv")
    assert [row["step"] for row in rows] == [6] and rows[-1]["valid_perplexity"] > 0
    tokenizer = protok.load(out / "model")
    assert tokenizer.encode(protok.read(structures / "s00.pdb")).ids.max() >= 0


def test_two_machines_train_as_one(structures, tmp_path):
    """As torchrun starts them, one process on each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = TINY | {"optim.steps": 24, "optim.precision": "32", "valid.every": 24}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    launcher += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    nodes = [
        subprocess.Popen(
            [*launcher, f"--node-rank={rank}", *command(structures, tmp_path / "two", settings)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    errors = [node.communicate(timeout=300)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    assert "".join(errors).count("the model is in") == 1, "the first process alone speaks"
    rows = read_metrics(tmp_path / "two" / "metrics.csv")
    assert [row["step"] for row in rows] == [20, 24] and "valid_rmsd" in rows[1]
    assert protok.load(tmp_path / "two" / "model").provenance["steps"] == 24


def test_a_checkpoint_is_whole_or_not_there(tmp_path, monkeypatch):
    writer, path = AtomicCheckpoints(), tmp_path / "run" / LAST
    for step in (1, 2):
        writer.save_checkpoint({"global_step": step}, path)
    assert torch.load(path, weights_only=True) == {"global_step": 2}
    assert torch.load(path.with_name(PREVIOUS), weights_only=True) == {"global_step": 1}

    def full(what, handle):
        handle.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        writer.save_checkpoint({"global_step": 3}, path)
    assert sorted(p.name for p in path.parent.iterdir()) == [LAST, PREVIOUS]
    assert callbacks.latest(path.parent)[1] == {"global_step": 2}


def test_a_damaged_checkpoint_falls_back_on_the_one_before(tmp_path):
    writer, path = AtomicCheckpoints(), tmp_path / LAST
    assert callbacks.latest(tmp_path) is None
    for step in (1, 2):
        writer.save_checkpoint({"global_step": step, "weights": torch.randn(500)}, path)
    for size in (0, 10, path.stat().st_size // 2, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:size] if size else b"")
        with pytest.warns(callbacks.CheckpointWarning, match="last.ckpt cannot be read"):
            used, state = callbacks.latest(tmp_path)
        assert (used.name, state["global_step"]) == (PREVIOUS, 1)
        path.unlink()
        assert callbacks.latest(tmp_path)[1]["global_step"] == 1, "killed between two renames"
        writer.save_checkpoint({"global_step": 2, "weights": torch.randn(500)}, path)
    for name in (LAST, PREVIOUS):
        (tmp_path / name).write_bytes(b"no")
    with (
        pytest.warns(callbacks.CheckpointWarning),
        pytest.raises(RecipeError, match="no checkpoint of the run can be read"),
    ):
        callbacks.latest(tmp_path)


def test_checkpoints_with_other_bytes_or_other_content_are_damaged(tmp_path):
    writer, path = AtomicCheckpoints(), tmp_path / LAST
    for step in (1, 2):
        writer.save_checkpoint({"global_step": step, "weights": torch.randn(5000)}, path)
    good = path.read_bytes()
    changed = bytearray(good)
    changed[len(good) // 2] ^= 255  # of a weight, past which torch reads
    for content in (bytes(changed), b"", bytes(len(good)), b"junk\n" * 100, good[: len(good) // 3], None, 3):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content if content is None else {"weights": torch.zeros(3)}, path)
        with pytest.warns(callbacks.CheckpointWarning, match="last.ckpt cannot be read"):
            used, state = callbacks.latest(tmp_path)
        assert (used.name, state["global_step"]) == (PREVIOUS, 1)


def test_metrics_are_a_table_that_grows(tmp_path):
    path = tmp_path / "m.csv"
    metrics = MetricsFile(path)
    metrics.write(0, {"valid_rmsd": 9.5})
    metrics.write(19, {"loss": 1.25, "hardness": 0})
    metrics.write(39, {"loss": 0.1})
    assert path.read_text() == "step,valid_rmsd,loss,hardness\n0,9.5,,\n19,,1.25,0\n39,,0.1,\n"
    with path.open("a") as handle:
        handle.write("59,,0.0")
    assert read_metrics(path) == metrics.rows
    again = MetricsFile(path, resume=38)
    assert again.rows == metrics.rows[:2] == read_metrics(path)
    again.write(39, {"loss": 0.2})
    assert read_metrics(path)[-1] == {"step": 39, "loss": 0.2}
    assert MetricsFile(path).rows == [] == read_metrics(path), "a new run begins anew"
    assert read_metrics(tmp_path / "nowhere.csv") == []
    path.write_text("")
    assert MetricsFile(path, resume=39).rows == [], "a machine that lost its power"


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc] can't allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_full_memory_is_explained(structures, tmp_path, monkeypatch, error, is_memory):
    def fails(*_):
        raise error

    monkeypatch.setattr(module.Training, "training_step", fails)
    settings = TINY | {"data.curriculum": [[0.0, 24], [0.5, 48]]}
    with pytest.raises(callbacks.OutOfMemory if is_memory else RuntimeError) as caught:
        train.run(structures=structures, out=tmp_path / "x", overrides=settings)
    assert isinstance(caught.value, callbacks.OutOfMemory) == is_memory
    if is_memory:
        message = str(caught.value)
        assert "data.residues (now 120" in message and "data.curriculum (now 48" in message
        assert caught.value.__cause__ is error


def test_an_interrupt_is_said_and_can_be_sent_again(structures, tmp_path, monkeypatch, capsys):
    from protok.cli.main import INTERRUPTED, main

    def stopped(self, batch, index):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Training, "training_step", stopped)
    before = signal.getsignal(signal.SIGINT)
    settings = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    command = ["train", "--structures", str(structures), "--out", str(tmp_path / "run"), *settings]
    assert main(command) == INTERRUPTED
    assert "interrupted: --resume goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_memory_that_is_full_in_validation_is_another_matter():
    assert "valid.longest (now 600)" in str(run.memory_advice(Recipe(), validating=True))


def test_without_matplotlib_there_are_no_figures(tmp_path, monkeypatch):
    rows = [{"step": 0.0, "valid_rmsd": 5.0}, {"step": 19.0, "loss": 1.0}]
    for name in [*sys.modules]:
        if name == "protok.viz.plots" or name.startswith("matplotlib."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    train.draw_if_possible(rows, tmp_path / "a.svg")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    train.draw_if_possible(rows, tmp_path / "a.svg")
    assert [p.name for p in tmp_path.iterdir()] == ["a.svg"]
    train.draw_if_possible([], tmp_path / "b.svg")
    assert not (tmp_path / "b.svg").exists()
