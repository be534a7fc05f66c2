"""One run of training for proteins, images and priors: killed at any moment, it ends the same."""

import importlib
import json
import multiprocessing
import random
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

pytest.importorskip("lightning", reason="training is an extra")

from protok.common import callbacks
from protok.common.callbacks import LAST, PREVIOUS, read_metrics
from protok.common.checkpoint import without_folders
from protok.common.files import lock
from protok.common.run import TrainingModule, TrainingRun
from protok.common.settings import RecipeError
from protok.image.config import ImageConfig
from protok.image.tokens import ImageTokens, save_codes
from protok.model.config import ShapesConfig
from protok.prior.config import PriorConfig
from protok.training.config import Recipe
from tests.helpers.tiny_runs import TINY, write_structures

pytestmark = pytest.mark.slow

MODULES = {
    "protein": "protok.training.run",
    "image": "protok.image.training",
    "prior": "protok.prior.training",
}
#: Checkpoints every second step or more often, validations every tenth.
EVERY = {"model.name": "tiny", "optim.steps": 40, "valid.every": 10}
PROTEIN = TINY | EVERY | {"valid.chains": 1, "valid.patience": 100}
IMAGE = EVERY | {
    "model.factor": 4,
    "model.patch": 2,
    "model.width": 16,
    "model.decoder_width": 16,
    "model.multiples": [1, 1],
    "model.quantizer.inner": "residual",
    "model.quantizer.size": 16,
    "model.quantizer.dim": 8,
    "model.quantizer.levels": 2,
    "loss.adversarial": 0.1,
    "loss.adversarial_start": 0.25,
    "loss.discriminator_width": 8,
    "loss.discriminator_layers": 2,
    "data.size": 16,
    "optim.batch": 8,
    "optim.precision": "32",
}
PRIOR = EVERY | {
    "model.layers": 2,
    "model.width": 32,
    "model.heads": 2,
    "model.dropout": 0.1,
    "optim.batch": 64,
    "optim.precision": "32",
}


def inputs(kind, folder):
    """Arguments of the run of a kind, its data written into the folder."""
    rng = np.random.default_rng(0)
    if kind == "protein":
        return {"structures": write_structures(folder / "pdbs", range(30, 60, 3)), "overrides": PROTEIN}
    if kind == "image":
        pytest.importorskip("PIL", reason="needs the extra: pip install 'protok[image]'")
        np.savez(folder / "images.npz", x=rng.integers(0, 256, (40, 16, 16, 3), np.uint8))
        return {"images": folder / "images.npz", "overrides": IMAGE}
    pytest.importorskip("transformers", reason="needs the extra: pip install 'protok[prior]'")
    ids = rng.integers(0, 8, (60, 2, 2)).astype(np.int32)
    images = [ImageTokens(each, 8, "pictures@0", 8, 8, 4, f"{i}") for i, each in enumerate(ids)]
    return {"tokens": save_codes(images, folder / "codes.npz"), "overrides": PRIOR}


def written(path) -> int:
    """When, 0 for not at all: as between two renames."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def kill_after_a_checkpoint(run, out, arguments):
    """Start a run in a process of its own, and kill that some time after its next checkpoint."""
    # Imports once; children that are killed start from there.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*MODULES.values()])
    last = out / "checkpoints" / LAST
    before, begun = written(last), time.monotonic()
    process = context.Process(target=run, kwargs={**arguments, "out": out}, daemon=True)
    process.start()
    while written(last) <= before and process.exitcode != 0:
        assert process.exitcode is None, "it failed"
        assert time.monotonic() - begun < 1200, "no checkpoint"
        time.sleep(0.02)
    time.sleep(random.uniform(0, 0.3))
    process.kill()
    process.join()


@pytest.mark.parametrize("kind", MODULES)
def test_a_run_that_is_killed_and_resumed_has_the_same_curve(kind, tmp_path):
    run = importlib.import_module(MODULES[kind]).run
    whole, cut, arguments = tmp_path / "whole", tmp_path / "cut", inputs(kind, tmp_path)
    model = run(**arguments, out=whole)
    last = cut / "checkpoints" / LAST
    for resume in (False, True):
        kill_after_a_checkpoint(run, cut, {**arguments, "resume": resume})
        # What a kill in the middle of writing leaves behind must not matter.
        last.with_name(LAST + ".part").write_bytes(b"half a checkpoint")
        with (cut / "metrics.csv").open("a") as handle:
            handle.write("39,0.1")
    with pytest.raises(RecipeError, match="holds a run already.*resume"):
        run(**arguments, out=cut)
    assert last.with_name(PREVIOUS).exists()
    last.write_bytes(b"a damaged checkpoint")
    with pytest.warns(callbacks.CheckpointWarning, match=r"last.ckpt cannot be read"):
        assert run(out=cut, resume=True) == cut / "model", "recipe.json says the rest"

    curve = read_metrics(whole / "metrics.csv")
    assert read_metrics(cut / "metrics.csv") == curve
    assert [row["step"] for row in curve if "lr" in row] == [20, 40]
    validations = [row["step"] for row in curve if any(key.startswith("valid_") for key in row)]
    # Letters and keyframes have codebooks after three tenths.
    assert validations == [10, 20, 30, 40][kind == "protein" :]
    states = [torch.load(out / "checkpoints" / LAST, weights_only=True) for out in (cut, whole)]
    mine, theirs = (state["state_dict"] for state in states)
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    weights = [(out / "model" / "model.safetensors").read_bytes() for out in (cut, whole)]
    assert weights[0] == weights[1] and model == whole / "model"
    assert {path.name for path in last.parent.iterdir()} - {callbacks.BEST} == {LAST, PREVIOUS}
    assert not (cut / "model.part").exists()
    configs = [json.loads((out / "model" / "config.json").read_text()) for out in (cut, whole)]
    provenance = [config["provenance"] for config in configs]
    for key in ("steps", "train_sha256", "valid_sha256", "recipe"):
        assert provenance[0][key] == provenance[1][key]
    assert provenance[0]["recipe"] == without_folders(json.loads((cut / "recipe.json").read_text()))
    assert str(tmp_path) not in json.dumps(configs), "no path of this machine"


def test_other_data_are_refused_when_a_run_goes_on(tmp_path):
    callbacks.AtomicCheckpoints().save_checkpoint(
        {"global_step": 3, "data_sha256": "a"}, tmp_path / "checkpoints" / LAST
    )
    with pytest.raises(RecipeError, match="data have changed since the run began"):
        TrainingRun(tmp_path, resume=True).begin(Recipe(), "b")
    training = TrainingRun(tmp_path, resume=True)
    training.begin(Recipe(), "a")
    assert training.steps == 3


def test_a_model_that_nobody_named_is_called_like_its_run(tmp_path):
    for out, name in ((tmp_path / "my run", "my-run"), (tmp_path / "..." / "v1.2", "v1.2")):
        plan = TrainingRun(out).begin(Recipe(), "a")
        assert plan.model.name == name == json.loads((out / "recipe.json").read_text())["model"]["name"]
    named = replace(Recipe(), model=ShapesConfig(name="mine"))
    assert TrainingRun(tmp_path / "run").begin(named, "a").model.name == "mine"
    for config in (ShapesConfig(), ImageConfig(), PriorConfig()):
        assert not config.name, "a name of ours would be that of a model of somebody else"


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path):
    training = TrainingRun(tmp_path)
    training.begin(Recipe(), "a")
    before = training.recipe.read_bytes()
    with lock(tmp_path / "run.lock"):
        with pytest.raises(RecipeError, match="another process trains here"):
            TrainingRun(tmp_path).begin(replace(Recipe(), model=ShapesConfig(name="other")), "b")
        assert training.recipe.read_bytes() == before
        with pytest.raises(RecipeError, match="another process trains here"):
            training.fit(TrainingModule(), DataLoader([0]))
    assert not (tmp_path / "checkpoints").exists()


def test_a_model_appears_whole_and_replaces_the_one_before(tmp_path):
    training = TrainingRun(tmp_path)
    training.write(lambda folder: (folder / "a").write_text("1"))

    def fails(folder):
        (folder / "b").write_text("2")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        training.write(fails)
    assert [path.name for path in training.model.iterdir()] == ["a"]
    training.write(lambda folder: (folder / "c").write_text("3"))
    assert [path.name for path in training.model.iterdir()] == ["c"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_data_that_are_named_leave_out_the_validation_data_of_the_recipe(tmp_path):
    training = TrainingRun(tmp_path)
    assert training.options({"optim.steps": 2}, None) == {"optim.steps": 2}
    assert training.options(None, "mine") == {"data.train": "mine", "data.valid": ""}
    assert training.options({"data.valid": "yours"}, "mine")["data.valid"] == "yours"
    (tmp_path / "recipe.json").write_text('{"data": {"valid": "theirs"}}')
    again = TrainingRun(tmp_path, resume=True)
    assert again.options(None, "mine") == {"data.train": "mine", "data.valid": "theirs"}
