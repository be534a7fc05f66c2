"""Naming amino acids as a side task of training: the heads, what they are asked, what is saved."""

import dataclasses
import json

import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="training is an extra")

import protok
from protok.common.callbacks import read_metrics
from protok.common.trainer import rise_and_fall
from protok.model.features import Batch
from protok.model.network import Activations, Network
from protok.structure.backbone import AMINO_ACIDS
from protok.testing import random_backbone
from protok.training import run
from protok.training.auxiliary import PLACES, UNKNOWN, ResidueTypeHeads, amino_acids
from protok.training.batches import TrainingBatch
from protok.training.config import RecipeError, read_recipe
from tests.helpers.models import PLACED
from tests.helpers.tiny_runs import TINY, write_structures

pytestmark = pytest.mark.slow

WIDTHS = (6, 5, 4)


def known(n=30):
    torch.manual_seed(0)
    return Activations(*(torch.randn(n, width, requires_grad=True) for width in WIDTHS))


def test_letters_are_numbered_and_others_are_not_asked_for():
    classes = amino_acids("ACYXU-a")
    assert classes.tolist() == [0, 1, 19, *[UNKNOWN] * 4]
    assert amino_acids("").shape == (0,)
    assert len(AMINO_ACIDS) == len(set(AMINO_ACIDS)) == 20


@pytest.mark.parametrize("place", range(3), ids=PLACES)
def test_only_what_has_a_weight_is_asked_and_by_that_weight(place):
    weights = [0.0, 0.0, 0.0]
    weights[place] = 1.0
    heads = trained(ResidueTypeHeads(WIDTHS, tuple(weights)))
    assert list(heads.heads) == [PLACES[place]]
    of, true = known(), torch.arange(30) % 20
    answer = heads(of, true)
    assert answer.loss.item() == pytest.approx(
        torch.nn.functional.cross_entropy(
            heads.heads[PLACES[place]](getattr(of, PLACES[place])), true
        ).item(),
        rel=1e-5,
    )
    answer.loss.backward()
    taught = [getattr(of, name).grad is not None for name in PLACES]
    assert taught == [i == place for i in range(3)]
    heads.weights[PLACES[place]] = 2.0
    assert heads(of, true).loss.item() == pytest.approx(2 * answer.loss.item(), rel=1e-6)


def trained(heads):
    """Heads as they are after some training; they begin at zero."""
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return heads


def test_heads_that_know_nothing_yet_pull_nothing():
    heads, of = ResidueTypeHeads(WIDTHS, (1.0, 1.0, 1.0)), known()
    heads(of, torch.arange(30) % 20).loss.backward()
    assert all(getattr(of, place).grad.abs().sum() == 0 for place in PLACES)
    assert all(head[1].weight.grad.abs().sum() > 0 for head in heads.heads.values())


def test_residues_without_a_letter_teach_nothing():
    heads, of = trained(ResidueTypeHeads(WIDTHS, (1.0, 1.0, 1.0))), known()
    true = torch.arange(30) % 20
    true[10:] = UNKNOWN
    loss = heads(of, true).loss
    first = Activations(*(getattr(of, place)[:10] for place in PLACES))
    assert loss.item() == pytest.approx(heads(first, true[:10]).loss.item(), rel=1e-6)
    loss.backward()
    assert of.states.grad[10:].abs().sum() == 0 < of.states.grad[:10].abs().sum()
    none = heads(of, torch.full((30,), UNKNOWN))
    assert none.loss.item() == 0 and none.right["codes"] == 0
    none.loss.backward()


def test_a_network_hands_out_what_is_asked_residue_by_residue():
    torch.manual_seed(0)
    network = Network(PLACED).eval()
    pair = [random_backbone(20, seed=1), random_backbone(12, seed=2)]
    both, single = (network(Batch.of(of), 8).activations for of in (pair, pair[1:]))
    widths = (PLACED.encoder.hidden, PLACED.quantizer.dim, PLACED.decoder.width)
    for place, width in zip(PLACES, widths, strict=True):
        got = getattr(both, place)
        assert got.shape == (32, width)
        torch.testing.assert_close(got[20:], getattr(single, place), rtol=1e-4, atol=1e-4)


def test_a_network_learns_to_name_a_chain_from_its_states():
    torch.manual_seed(0)
    config = dataclasses.replace(PLACED, quantizer=dataclasses.replace(PLACED.quantizer, kind="none"))
    network = Network(config)
    heads = trained(ResidueTypeHeads((config.encoder.hidden, 5, config.decoder.width), (1.0, 0.0, 0.0)))
    chain = random_backbone(24, seed=5)
    batch = TrainingBatch(Batch.of([chain]), amino_acids(chain.sequence))
    optimiser = torch.optim.Adam([*network.parameters(), *heads.parameters()], 3e-3)
    for _ in range(150):
        named = heads(network(batch.batch, 8).activations, batch.amino_acid)
        optimiser.zero_grad()
        named.loss.backward()
        optimiser.step()
    common = np.unique(list(chain.sequence), return_counts=True)[1].max() / len(chain)
    assert named.right["states"] > 0.8 > common


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0, 0.0], []])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(RecipeError, match="encoder states, code vectors and decoder states"):
        read_recipe(None, {"optim.residue_type_weights": weights})


def test_heads_are_trained_and_resumed_but_not_saved_with_the_model(tmp_path):
    structures = write_structures(tmp_path / "pdbs", range(30, 50, 2))
    settings = TINY | {"optim.residue_type_weights": [1.0, 0.5, 0.5], "optim.steps": 20}
    model = run.run(structures=structures, out=tmp_path / "run", overrides=settings)
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert any("residue_type_accuracy_states" in row for row in rows)
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert any(key.startswith("residue_type_heads.heads.states") for key in checkpoint["state_dict"])
    tokenizer = protok.load(str(model))
    assert not [key for key in tokenizer.network.state_dict() if "residue_type" in key]
    config = json.loads((model / "config.json").read_text())
    assert config["provenance"]["recipe"]["optim"]["residue_type_weights"] == [1.0, 0.5, 0.5]
    chain = random_backbone(30, seed=3)
    renamed = dataclasses.replace(chain, sequence="G" * 30)
    assert (tokenizer.encode(chain).ids == tokenizer.encode(renamed).ids).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"optim.encoder_warmup_steps": 20},
        {"optim.encoder_warmup_steps": -1},
        {"optim.residue_type_weights": [0.0, 1.0, 1.0]},
    ],
)
def test_an_encoder_warmup_without_heads_or_end_is_refused(changes):
    settings = {
        "optim.residue_type_weights": [1.0, 0.0, 0.0],
        "optim.encoder_warmup_steps": 5,
        "optim.steps": 20,
    }
    assert read_recipe(None, settings).optim.encoder_warmup_steps == 5
    with pytest.raises(RecipeError, match="optim.encoder_warmup_steps"):
        read_recipe(None, settings | changes)


def test_in_the_warmup_the_encoder_alone_learns_and_codes_begin_after_it(tmp_path, monkeypatch):
    structures = write_structures(tmp_path / "pdbs", range(30, 50, 2))
    settings = TINY | {
        "optim.residue_type_weights": [1.0, 0.0, 0.5],
        "optim.steps": 60,
        "optim.encoder_warmup_steps": 40,
        "valid.every": 20,
        "valid.patience": 5,
    }
    kept = []

    def keep(self, trainer, module, *of):
        kept.append({key: value.clone() for key, value in module.state_dict().items()})

    monkeypatch.setattr(run.callbacks.Best, "on_train_batch_start", keep)
    run.run(structures=structures, out=tmp_path / "run", overrides=settings)
    assert len(kept) == 60
    moved = {key for key in kept[0] if not torch.equal(kept[0][key], kept[40][key])}
    assert moved and all(
        key.startswith(
            ("network.encoder.inputs", "network.encoder.messages", "residue_type_heads.heads.states")
        )
        for key in moved
    )
    assert any(not torch.equal(kept[40][key], kept[59][key]) for key in kept[0] if "decoder" in key)
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    warmup_rows = [row for row in rows if row["step"] < 40]
    assert warmup_rows and not any("hardness" in row or "valid_rmsd" in row for row in warmup_rows)
    assert all("valid_residue_type_accuracy" in row for row in rows if "valid_rmsd" in row)
    after = [row["hardness"] for row in rows if "hardness" in row]
    assert after and after[-1] > 0.9


def test_the_rate_rises_and_falls_in_the_encoder_warmup_and_again_after_it():
    once, twice = rise_and_fall(30, 5), rise_and_fall(50, 5, 20)
    assert [twice(step) for step in range(20, 50)] == [once(step) for step in range(30)]
    assert twice(0) == 0.2 and twice(5) == 1 and twice(19) < 0.02
