"""Recipes and whole training runs of tiny models, through the public function."""

import csv
import json

import numpy as np
import pytest
import torch

import protok
from protok import train
from protok.recipe import Recipe, RecipeError, read_recipe
from protok.testing import random_backbone

TINY = {
    "model.name": "tiny",
    "model.encoder.hidden": 16,
    "model.encoder.layers": 1,
    "model.encoder.neighbours": 6,
    "model.quantizer.size": 32,
    "model.quantizer.dim": 8,
    "model.decoder.width": 16,
    "model.decoder.layers": 1,
    "model.decoder.heads": 2,
    "model.decoder.pair": 8,
    "data.residues": 120,
    "data.curriculum": [[0.0, 24], [0.5, 48]],
    "optim.steps": 40,
    "optim.warmup": 4,
    "optim.rows": 8,
    "valid.every": 20,
    "valid.chains": 2,
}


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pdbs")
    for n in range(22):
        protok.write(random_backbone(30 + 2 * n, seed=n), folder / f"s{n:02d}.pdb")
    return folder


def test_a_recipe_reads_and_is_strict(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text("[model]\nname = 'x'\n[optim]\nlr = 1\n[data]\ncurriculum = [[0.0, 32]]\n")
    recipe = read_recipe(path, {"optim.steps": 7})
    assert recipe.model.name == "x" and recipe.optim.lr == 1.0 and recipe.optim.steps == 7
    assert recipe.data.curriculum == ((0.0, 32),)
    assert read_recipe(None) == Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[optim]\nstep = 3", "unknown key 'step'.*steps"),
        ("[optim]\nsteps = 'many'", "steps = 'many' is of type str"),
        ("[optim]\nsteps = 2.5", "must be of type int"),
        ("model = 3", "model must be a table"),
        ("[optim", "cannot read the recipe"),
    ],
)
def test_mistakes_in_a_recipe_are_named(tmp_path, text, message):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as error:
        read_recipe(path)
    assert "r.toml" in str(error.value)


def rows(out):
    with (out / "metrics" / "version_0" / "metrics.csv").open() as lines:
        return list(csv.DictReader(lines))


def test_a_run_leaves_a_model_that_loads_and_repeats(structures, tmp_path):
    model = train.run(structures=structures, out=tmp_path / "a", overrides=TINY)
    tok = protok.load(model)
    chain = protok.read(structures / "s03.pdb")
    tokens = tok.encode(chain)
    assert len(tokens) == len(chain) and tokens.codebook == tok.codebook
    assert protok.rmsd(tok.decode(tokens), chain) > 0
    logged = rows(tmp_path / "a")
    valid = [r for r in logged if r["valid_rmsd"]]
    measured = ("rmsd", "lddt", "usage", "perplexity", "dimension")
    assert len(valid) == 2 and all(float(valid[-1][f"valid_{k}"]) > 0 for k in measured)
    provenance = json.loads((model / "config.json").read_text())["provenance"]
    assert provenance["steps"] == 40 and provenance["recipe"]["optim"]["lr"] == 1e-3

    again = train.run(structures=structures, out=tmp_path / "b", overrides=TINY)
    assert protok.load(again).codebook == tok.codebook
    with pytest.raises(RecipeError, match="holds a run already.*resume"):
        train.run(structures=structures, out=tmp_path / "b", overrides=TINY)


def test_a_resumed_run_ends_where_the_whole_one_does(structures, tmp_path):
    whole = protok.load(train.run(structures=structures, out=tmp_path / "whole", overrides=TINY))
    stop = train.Training.training_step

    def dies(self, batch, index):
        if self.global_step == 27:
            raise KeyboardInterrupt
        return stop(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Training, "training_step", dies)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train.run(structures=structures, out=tmp_path / "cut", overrides=TINY)
    cut = protok.load(
        train.run(structures=structures, out=tmp_path / "cut", overrides=TINY, resume=True)
    )
    assert cut.codebook == whole.codebook
    mine, theirs = cut.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs if k not in ("quantizer.recent",))


def test_training_starts_from_a_model(structures, tmp_path):
    first = train.run(structures=structures, out=tmp_path / "first", overrides=TINY)
    few = TINY | {"optim.steps": 2, "optim.lr": 1e-9}
    second = train.run(structures=structures, init=first, out=tmp_path / "second", overrides=few)
    a, b = protok.load(first).network, protok.load(second).network
    drift = max(
        float((p - q).detach().abs().max())
        for (n, p), (_, q) in zip(a.named_parameters(), b.named_parameters(), strict=True)
    )
    assert drift < 1e-3


def test_nothing_to_train_on_is_said(tmp_path):
    with pytest.raises(RecipeError, match="nothing to train on"):
        train.run(out=tmp_path / "x")


def test_a_trained_model_beats_an_untrained_one(structures, tmp_path):
    more = TINY | {"optim.steps": 120, "model.quantizer.kind": "none", "valid.every": 120}
    more |= {"data.curriculum": [[0.0, 24]]}
    model = train.run(structures=structures, out=tmp_path / "m", overrides=more)
    errors = [float(r["view_error"]) for r in rows(tmp_path / "m") if r["view_error"]]
    assert errors[-1] < errors[0]
    tok = protok.load(model)
    chain = protok.read(structures / "s00.pdb")
    with pytest.raises(protok.ProtokError, match="continuous"):
        tok.encode(chain)
    assert np.isfinite(tok.reconstruct(chain).coords).all()
