"""Recipes and whole training runs of tiny models, through the public function."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="training is an extra")

import protok
from protok.common import trainer
from protok.common.callbacks import read_metrics
from protok.common.checkpoint import TRANSIENT
from protok.training import module, run
from protok.training.config import Recipe, RecipeError, read_recipe
from tests.helpers.tiny_runs import TINY, write_structures

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    return write_structures(tmp_path_factory.mktemp("pdbs"), range(30, 74, 2))


@pytest.fixture(scope="module")
def whole(structures, tmp_path_factory):
    """Folder of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run.run(structures=structures, out=out, overrides=TINY) == out / "model"
    return out


def test_a_recipe_reads_and_is_strict(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text("[model]\nname = 'x'\n[optim]\nlr = 1\n[data]\ncurriculum = [[0.0, 32]]\n")
    recipe = read_recipe(path, {"optim.steps": 7})
    assert recipe.model.name == "x" and recipe.optim.lr == 1.0 and recipe.optim.steps == 7
    assert recipe.data.curriculum == ((0.0, 32),)
    assert read_recipe(None) == Recipe()
    low = {"optim": {"lr": 0.5, "lr_warmup_steps": 3}, "model": {"encoder": {"hidden": 8}}}
    recipe = read_recipe(path, {"model.encoder.layers": 2}, low)
    assert (recipe.optim.lr, recipe.optim.lr_warmup_steps) == (1.0, 3)
    assert (recipe.model.encoder.hidden, recipe.model.encoder.layers) == (8, 2)
    assert low["model"]["encoder"] == {"hidden": 8}, "defaults stay as they are"
    # What a table leaves out is as in the default of the whole, not of the table's own class.
    usual, other = read_recipe(None).model, read_recipe(None, {"model.quantizer.size": 48}).model
    assert other == replace(usual, quantizer=replace(usual.quantizer, size=48)) and usual.quantizer.dim == 5


def test_structures_of_ones_own_are_not_validated_on_those_of_the_recipe(structures, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text("[data]\ntrain = 'nothing.parquet'\nvalid = 'nothing.parquet'\n")
    few = TINY | {"optim.steps": 1, "valid.every": 1}
    model = run.run(path, structures=structures, out=tmp_path / "mine", overrides=few)
    assert json.loads((model / "config.json").read_text())["provenance"]["recipe"]["data"]["valid"] == ""
    with pytest.raises(protok.ProtokError, match="nothing.parquet: data.train is not there"):
        run.run(path, out=tmp_path / "theirs", overrides=few)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[optim]\nstep = 3", "unknown key 'step'.*steps"),
        ("[optim]\nsteps = 'many'", "steps = 'many' is of type str"),
        ("[optim]\nsteps = 2.5", "must be of type int"),
        ("model = 3", "model must be a table"),
        ("[optim", "cannot read the recipe"),
        ("[data]\ncurriculum = 64", "curriculum = 64 is of type int"),
        ("[data]\ncurriculum = [[0, 48], [0.5]]", r"entry \[0.5\]; each has 2"),
        ("[data]\ncurriculum = [[0, 'all']]", "'all' is of type str"),
        ("[data]\ncurriculum = [[0.1, 48]]", "nothing of the first step"),
        ("[optim]\nlr.of = 3", "lr = .* is of type dict"),
    ],
)
def test_mistakes_in_a_recipe_are_named(tmp_path, text, message):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as error:
        read_recipe(path)
    assert "r.toml" in str(error.value)


def test_a_recipe_in_another_encoding_and_a_key_below_a_value_are_named(tmp_path):
    path = tmp_path / "r.toml"
    path.write_bytes(b"[optim]\nsteps = 3  # \xe9")
    with pytest.raises(RecipeError, match="r.toml: cannot read the recipe"):
        read_recipe(path)
    path.write_text("[optim]\nsteps = 3", "utf-8")
    with pytest.raises(RecipeError, match="r.toml: steps has no keys, but optim.steps.x is given"):
        read_recipe(path, {"optim.steps.x": 3})


def test_a_run_leaves_a_model_that_loads(structures, whole):
    tok = protok.load(whole / "model")
    chain = protok.read(structures / "s03.pdb")
    tokens = tok.encode(chain)
    assert len(tokens) == len(chain) and tokens.codebook == tok.codebook
    assert protok.rmsd(tok.decode(tokens), chain) > 0
    checkpoints = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert checkpoints == ["last.ckpt", "previous.ckpt"]
    tensorboard = find_spec("tensorboard") is not None
    assert (whole / "tensorboard").exists() == tensorboard
    logged = read_metrics(whole / "metrics.csv")
    valid = [r for r in logged if "valid_rmsd" in r]
    measured = ("rmsd", "rmsd_4", "lddt_8", "tm_score_8", "perplexity")
    assert len(valid) == 2 and all(valid[-1][f"valid_{k}"] > 0 for k in measured)
    provenance = json.loads((whole / "model" / "config.json").read_text())["provenance"]
    assert provenance["steps"] == 40 and provenance["recipe"]["optim"]["lr"] == 1e-3
    # What was used is kept, so that a run that is resumed elsewhere goes on in it.
    resolved = json.loads((whole / "recipe.json").read_text())["optim"]["precision"]
    assert resolved == ("bf16-mixed" if trainer.half_is_faster() else "32")
    with pytest.raises(RecipeError, match="holds a run already.*resume"):
        run.run(structures=structures, out=whole, overrides=TINY)


def test_a_run_that_fails_in_validation_and_is_resumed_ends_the_same(structures, whole, tmp_path):
    goes_on = module.Training.measure

    def dies(self):
        if self.global_step == 20:
            raise KeyboardInterrupt
        return goes_on(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Training, "measure", dies)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run.run(structures=structures, out=tmp_path / "cut", overrides=TINY)
    cut = run.run(structures=structures, out=tmp_path / "cut", overrides=TINY, resume=True)
    curves = [read_metrics(out / "metrics.csv") for out in (tmp_path / "cut", whole)]
    assert curves[0] == curves[1] and len(curves[0]) == 4
    resumed, other = protok.load(cut), protok.load(whole / "model")
    assert resumed.codebook == other.codebook
    mine, theirs = resumed.network.state_dict(), other.network.state_dict()
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs if not k.endswith(TRANSIENT))


@pytest.mark.parametrize(
    ("line", "precision"),
    [
        ("flags : fpu sse avx2 avx512_bf16 amx_tile", "bf16-mixed"),
        ("Features : fp asimd bf16 i8mm", "bf16-mixed"),
        ("flags : fpu sse avx2 avx512f", "32"),
        ("", "32"),
    ],
)
def test_precision_is_what_the_processor_says_it_has(monkeypatch, tmp_path, line, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, *a, **k: line if str(path) == "/proc/cpuinfo" else read(path, *a, **k)
    )
    assert trainer.on_this_machine(Recipe()).optim.precision == precision
    asked = read_recipe(None, {"optim.precision": "bf16-mixed"})
    assert trainer.on_this_machine(asked) == asked
    # A run that began elsewhere goes on as it began.
    before = tmp_path / "recipe.json"
    assert trainer.on_this_machine(Recipe(), before).optim.precision == precision
    before.write_text('{"optim": {"precision": "bf16-mixed"}}')
    assert trainer.on_this_machine(Recipe(), before).optim.precision == "bf16-mixed"


def test_training_starts_from_a_model(structures, whole, tmp_path):
    few = TINY | {"optim.steps": 2, "optim.lr": 1e-9, "finetune.chains": 1}
    model = run.run(structures=structures, init=whole / "model", out=tmp_path / "second", overrides=few)
    a, b = protok.load(whole / "model").network, protok.load(model).network
    drift = max(
        float((p - q).detach().abs().max())
        for (n, p), (_, q) in zip(a.named_parameters(), b.named_parameters(), strict=True)
    )
    assert drift < 1e-3


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optim.spacing_odds", [1.0], "give one for each of"),
        ("model.keyframes.spacings", [2, 2, 4, 8], "different positive numbers"),
        ("model.keyframes.sizes", [64], "give one for each of"),
        ("model.encoder.window", 300, "too large"),
        ("model.steps.kernel", 300, "too large"),
    ],
)
def test_recipes_that_mean_nothing_are_refused(key, value, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe(None, {key: value})


def test_nothing_to_train_on_is_said(tmp_path):
    with pytest.raises(RecipeError, match="nothing to train on"):
        run.run(out=tmp_path / "x")


def test_a_trained_model_beats_an_untrained_one(structures, tmp_path):
    more = TINY | {"optim.steps": 60, "model.quantizer.kind": "none", "valid.every": 40}
    more |= {"data.curriculum": [[0.0, 24]]}
    model = run.run(structures=structures, out=tmp_path / "m", overrides=more)
    logged = read_metrics(tmp_path / "m" / "metrics.csv")
    errors = [row["ca_error"] for row in logged if "ca_error" in row]
    assert errors[-1] < errors[0]
    measured = [row["step"] for row in logged if "valid_rmsd" in row]
    assert measured == [40, 60], "the last step too"
    tok = protok.load(model)
    chain = protok.read(structures / "s00.pdb")
    with pytest.raises(protok.ProtokError, match="continuous"):
        tok.encode(chain)
    assert np.isfinite(tok.rebuild(chain).coords).all()
