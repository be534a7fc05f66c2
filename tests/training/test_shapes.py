"""Training of shapes and keyframes: a recipe to a model that loads; what a recipe may say."""

import numpy as np
import pytest

lightning = pytest.importorskip("lightning", reason="training is an extra")

import torch
from protok.training.auxiliary import amino_acids
from protok.training.shapes import ShapesRecipe

import protok
from protok.cli.main import main
from protok.common.callbacks import read_metrics
from protok.common.checkpoint import TRANSIENT
from protok.common.settings import RecipeError, read_settings
from protok.model.batch import Batch
from protok.testing import random_backbone
from protok.tokenizers.shapes import ShapeTokenizer
from protok.training import shapes
from protok.training.batches import TrainingBatch
from tests.helpers.paths import ROOT
from tests.helpers.tiny_runs import write_structures

RECIPE = """
[model]
name = "tiny"
[model.encoder]
hidden = 16
[model.quantizer]
size = 8
dim = 3
continuous_share = 0.1
ramp = 0.3
[model.steps]
width = 16
layers = 1
kernel = 1
[model.refiner]
width = 16
layers = 1
kernel = 1
[model.keyframes]
spacings = [2, 4]
sizes = [16, 16]
[data]
residues = 256
[optim]
steps = 12
lr_warmup_steps = 2
spacing_odds = [0.5, 0.5]
[valid]
every = 12
chains = 2
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return tmp_path / "tiny.toml"


@pytest.mark.slow
def test_a_run_leaves_a_model_that_loads_and_resumes_to_the_same(recipe, tmp_path, capsys):
    structures = write_structures(tmp_path / "pdbs", range(30, 60, 5))
    command = ["train", str(recipe), "--structures", str(structures)]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    tokenizer = protok.load(tmp_path / "run" / "model")
    assert isinstance(tokenizer, ShapeTokenizer) and tokenizer.provenance["steps"] == 12
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert {"valid_rmsd_2", "valid_rmsd_4", "valid_perplexity"} <= rows[-1].keys()
    tokens = tokenizer.encode(protok.read(structures / "s00.pdb"))
    assert np.isfinite(tokenizer.decode(tokens).coords).all()

    # Another run is stopped half way and goes on.
    out = tmp_path / "half"
    with pytest.raises(KeyboardInterrupt):
        _stopped(recipe, structures, out)
    assert main([*command, "--out", str(out), "--resume"]) == 0
    assert protok.load(out / "model").codebook == tokenizer.codebook


def _stopped(recipe, structures, out):
    step = shapes.ShapeTraining.training_step

    def stops(self, batch, index):
        if self.global_step == 8:
            raise KeyboardInterrupt
        return step(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes.ShapeTraining, "training_step", stops)
        shapes.run(recipe, structures=structures, out=out, overrides={"valid.every": 4})


def test_recipes_of_shapes_are_told_by_their_keyframes(recipe, tmp_path):
    assert shapes.is_of_shapes(recipe) and not shapes.is_of_shapes(None)
    assert shapes.is_of_shapes(ROOT / "recipes" / "protein" / "protok-1.toml")
    assert not shapes.is_of_shapes(ROOT / "recipes" / "protein" / "protok-512.toml")
    (tmp_path / "broken.toml").write_text("[model")
    assert not shapes.is_of_shapes(tmp_path / "broken.toml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optim.spacing_odds", [1.0], "give one for each of"),
        ("model.keyframes.spacings", [2, 2, 4, 8], "different positive numbers"),
        ("model.keyframes.sizes", [64], "give one for each of"),
        ("model.encoder.window", 300, "too large"),
        ("model.steps.kernel", 300, "too large"),
        ("data.teacher", "states.npz", "letters have no teacher"),
    ],
)
def test_recipes_that_mean_nothing_are_refused(key, value, message):
    with pytest.raises(RecipeError, match=message):
        read_settings(ShapesRecipe, None, {key: value})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model that has been trained for a moment, and the structures that it saw."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.toml").write_text(RECIPE)
    structures = write_structures(folder / "pdbs", range(30, 60, 3))
    return shapes.run(folder / "tiny.toml", structures=structures, out=folder / "run"), structures


SHORT = {"optim.steps": 6, "valid.every": 6, "finetune.chains": 2}


@pytest.mark.slow
def test_frozen_codes_stay_to_the_byte_while_the_refiner_learns(tiny, tmp_path):
    model, structures = tiny
    settings = [f"--set={key}={value}" for key, value in (SHORT | {"optim.lr": 0.01}).items()]
    command = ["train", "--structures", str(structures), "--init", str(model), "--out", str(tmp_path / "run")]
    assert main([*command, *settings]) == 0
    assert "tiny@" in (tmp_path / "run" / "report.md").read_text()
    before, after = protok.load(model), protok.load(tmp_path / "run" / "model")
    assert before.codebook == after.codebook
    for name, value in before.network.state_dict().items():
        if not name.startswith("refiner.") and not name.endswith(TRANSIENT):
            assert torch.equal(value, after.network.state_dict()[name]), name
    for file in sorted(structures.glob("*.pdb")):
        ours, theirs = (t.encode(protok.read(file)) for t in (before, after))
        assert np.array_equal(ours.ids, theirs.ids) and ours.keyframes.text == theirs.keyframes.text
    # What it had learnt may not have held on what was held out: then the model is what it was.
    moved = not torch.equal(before.network.refiner.move.weight, after.network.refiner.move.weight)
    assert moved == (after.provenance["best_step"] > 0)
    assert main([*command[:-4], "--out", str(tmp_path / "run"), "--resume"]) == 0


@pytest.mark.slow
def test_half_of_the_way_is_kept_if_asked(tiny, tmp_path):
    """And a run that gets no better ends early, with its best weights."""
    model, structures = tiny
    settings = {"optim.steps": 40, "valid.every": 2, "valid.patience": 2, "optim.lr": 1e-12}
    settings |= {"finetune.weight_interpolation": 0.5, "finetune.chains": 2}
    shapes.run(structures=structures, init=model, out=tmp_path / "run", overrides=settings)
    assert read_metrics(tmp_path / "run" / "metrics.csv")[-1]["step"] < 40
    before = protok.load(model).network.state_dict()
    after = protok.load(tmp_path / "run" / "model").network.state_dict()
    assert all(torch.allclose(before[key], after[key], atol=1e-3) for key in before if key in after)


def test_a_batch_goes_to_a_device_with_all_it_holds():
    """Lightning moves whatever has `to`."""
    from lightning.fabric.utilities import move_data_to_device

    batch = Batch.of([random_backbone(9, seed=1)])
    moved = move_data_to_device(TrainingBatch(batch, amino_acids("A" * 9), torch.zeros(9, 2)), "meta")
    assert {t.device.type for t in (moved.batch.coords, moved.amino_acid, moved.targets)} == {"meta"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["adapted", "new"])
def test_other_codes_have_another_name(tiny, tmp_path, mode):
    model, structures = tiny
    settings = SHORT | {"finetune.codebook": mode}
    made = protok.load(shapes.run(structures=structures, init=model, out=tmp_path / mode, overrides=settings))
    assert made.name == mode and made.codebook != protok.load(model).codebook
    assert np.isfinite(made.decode(made.encode(protok.read(structures / "s00.pdb"))).coords).all()


@pytest.mark.slow
def test_what_does_not_fit_the_model_is_refused(tiny, tmp_path):
    model, structures = tiny
    for settings, message in (
        ({"model.encoder.hidden": 32}, "another form"),
        ({"finetune.codebook": "odd"}, "codebook 'odd'"),
        ({"model.name": "mine"}, "frozen codes are those of tiny"),
        ({"finetune.codebook": "new", "finetune.weight_interpolation": 0.5}, "weight_interpolation"),
        ({"finetune.encoder": True}, "encoder = True with frozen codes"),
    ):
        with pytest.raises(RecipeError, match=message):
            shapes.run(structures=structures, init=model, out=tmp_path / "run", overrides=settings)
