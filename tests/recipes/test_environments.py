"""Training of letters of environments: targets, examples, losses by hand, and a run that is stopped."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import protok
from protok import testing
from protok.analysis.substitution import default_matrix
from protok.common.settings import read_settings
from protok.errors import ProtokError
from protok.model.batch import Batch
from protok.structure.backbone import AMINO_ACIDS
from protok.structure.store import read_store
from protok.testing import random_backbone
from protok.tokenizers.shapes import ShapeTokenizer
from protok.training.batches import Stream
from recipes.environments import objective
from recipes.environments.examples import ExampleStream
from recipes.environments.join import counted, join, score
from recipes.environments.recipe import Data, Recipe
from recipes.environments.relatives import NAME, Relatives, find
from recipes.environments.targets import DSSP, UNITS, Targets
from recipes.environments.train import Environments, kept_aside, main
from tests.helpers.models import BOTH, small
from tests.helpers.paths import ROOT

pytest.importorskip("tmtools", reason="needs pip install '.[prior]'")
pytest.importorskip("lightning", reason="needs pip install '.[train]'")

SMALL = [
    "model.encoder.hidden=16",
    "model.encoder.edge=8",
    "model.encoder.layers=1",
    "model.encoder.neighbours=6",
]
SMALL += ["model.quantizer.size=8", "model.quantizer.dim=4", "data.residues=300", "optim.steps=6"]


@pytest.fixture
def taught(folder):
    """The same folder with a teacher's states of its second chain."""
    store = read_store(folder / "train.parquet")
    states = np.arange(3 * len(store.sequence[1]), dtype=np.float16).reshape(-1, 3)
    np.savez(folder / "states.npz", id=store.ids[1:2], length=[len(states)], states=states)
    return folder


def test_targets_are_those_of_their_residues(taught):
    store = read_store(taught / "train.parquet")
    targets = Targets(store, taught / "train.extras.npz", taught / "states.npz")
    first, second = (int(n) for n in store.lengths()[:2])
    known = targets.of(np.array([0, 1, first, first + second - 1, first + second]))
    ends = [store.sequence[0][0], store.sequence[0][1], store.sequence[1][0], store.sequence[1][-1]]
    assert known.kind.tolist()[:4] == [AMINO_ACIDS.find(kind) for kind in ends]
    assert known.profile.sum(1).tolist() == [0, 1, 0, 0, 0] and known.profile[1, AMINO_ACIDS.index("W")] == 1
    assert known.surface[0, :2].tolist() == [8 / UNITS[0], 4 / UNITS[1]]
    assert known.surface.isnan().sum(1).tolist() == [1, 0, 3, 3, 3] and abs(known.surface[1, 2]) < 1e-6
    assert known.fold.tolist() == [DSSP.index("H")] * 2 + [-1] * 3
    assert known.states[2:4].tolist() == [[0, 1, 2], [3 * second - 3, 3 * second - 2, 3 * second - 1]]
    assert known.states.isnan().all(1).tolist() == [True, True, False, False, True]


def test_pairs_of_examples_are_residues_in_the_same_place(taught):
    find(taught, taught / NAME, 1, 100)
    store = read_store(taught / "train.parquet")
    relatives = Relatives.read(taught / NAME, store.ids)
    stream = Stream(store, 400, ((0.0, 60),), 0)
    targets = Targets(store, taught / "train.extras.npz")
    examples = ExampleStream(stream, targets, relatives, Data(residues=400, longest=60), None, 10).examples(3)
    assert len(examples.known.kind) == len(examples.batch.mask) >= 400 and len(examples.pairs) > 20
    # The copy has the places of the original, moved by nothing but noise.
    first, other = examples.batch.coords[examples.pairs].unbind(1)
    away = (first - other).flatten(1).mean(1)
    assert (away - away.median()).abs().median() < 0.5
    kinds = examples.known.kind[examples.pairs]
    assert (kinds[:, 0] == kinds[:, 1]).float().mean() > 0.5
    again = ExampleStream(stream, targets, relatives, Data(residues=400, longest=60), None, 10).examples(3)
    assert torch.equal(again.batch.coords, examples.batch.coords) and torch.equal(again.pairs, examples.pairs)


def test_the_recipe_is_one():
    recipe = read_settings(Recipe, ROOT / "recipes" / "environments" / "protok-1.toml")
    assert recipe.weights.states == 0 and recipe.model.quantizer.kind == "provq"


def test_losses_by_hand():
    logits = torch.tensor([[0.0, 0.0], [0.0, 100.0]])
    assert float(objective.nats(logits, torch.eye(2))) == pytest.approx(np.log(2) / 2)
    assert float(objective.nats(logits[:0], torch.eye(2)[:0])) == 0
    true = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan], [0.0, 0.0]])
    assert float(objective.off(torch.zeros(3, 2), true)) == pytest.approx(1 / 3)
    assert float(objective.off(torch.zeros(1, 2), true[1:2])) == 0
    pairs = torch.tensor([[0, 3], [1, 4], [2, 5]])
    alike = torch.eye(3).repeat(2, 1)
    assert float(objective.contrast(torch.zeros(6, 64), pairs)) == pytest.approx(0, abs=1e-6)
    assert float(objective.contrast(1000 * alike, pairs)) == pytest.approx(-np.log(3))
    assert float(objective.contrast(alike, pairs[:0])) == 0


def test_bits_by_hand():
    """All is told in one batch and nothing in the other."""
    sure, unsure = 50 * torch.eye(2), torch.zeros(2, 2)
    rows, shares = torch.arange(2), torch.eye(2)
    numbers = torch.tensor([[2.0], [-2.0]])
    targets = [{"fold": objective.Asked(rows, shares), "surface": objective.Asked(rows, numbers, False)}] * 2
    answers = [{"fold": sure, "surface": numbers}, {"fold": unsure, "surface": 0 * numbers}]
    answered = objective.bits(answers, targets)
    assert answered == pytest.approx({"fold": 0.5, "surface_0": 0.5}, abs=1e-6)


def test_types_around_are_those_of_others_nearby():
    """Three residues in a row, 5 Å apart, and one beside them that is of another structure."""
    atoms = torch.from_numpy(random_backbone(1, seed=0).coords).repeat(4, 1, 1)
    atoms += torch.tensor([0.0, 5.0, 10.0, 1.0])[:, None, None] * torch.tensor([1.0, 0.0, 0.0])
    batch = Batch.from_coords(atoms, [3, 1])
    near, far = objective.types_around(batch, torch.eye(20)[:4]).split(20, 1)
    assert near[:, :4].tolist() == [[0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert far[:, :4].tolist() == [[0, 0.5, 0.5, 0], [0.5, 0, 0.5, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0]]


def test_a_piece_is_a_stretch_of_each_structure():
    batch = Batch.of([random_backbone(60, seed=0), random_backbone(10, seed=1)])
    part, rows = objective.piece(batch, 0.0, np.random.default_rng(0))
    assert torch.equal(part.coords, batch.coords[rows]) and len(part.sizes) == 2
    assert part.sizes[0] >= objective.LEAST and part.sizes[1] == 10
    assert (rows[: part.sizes[0]].diff() == 1).all() and rows[part.sizes[0] :].tolist() == [*range(60, 70)]


def test_a_run_that_is_stopped_ends_with_the_same_weights(taught, tmp_path, monkeypatch):
    from safetensors.torch import load_file

    find(taught, taught / NAME, 1, 100)
    options = [f"data.folder={taught}", f"data.valid={taught / 'train.parquet'}", "valid.every=2", *SMALL]
    settings = [word for option in options for word in ("--set", option)]
    main(["--out", str(tmp_path / "whole"), *settings])
    loss = Environments.loss

    def stopped(self, examples, step):
        if step == 4:
            raise KeyboardInterrupt
        return loss(self, examples, step)

    with monkeypatch.context() as changed, pytest.raises(KeyboardInterrupt):
        changed.setattr(Environments, "loss", stopped)
        main(["--out", str(tmp_path / "part"), *settings])
    main(["--out", str(tmp_path / "part"), *settings, "--resume"])
    first, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "part"))
    assert first.keys() == other.keys() and all(torch.equal(first[key], other[key]) for key in first)
    rows = (tmp_path / "whole" / "metrics.csv").read_text()
    assert "valid_noise" in rows and "valid_perplexity" in rows


def test_chains_that_are_kept_aside_are_not_trained_on(taught, tmp_path):
    find(taught, taught / NAME, 1, 100)
    store = read_store(taught / "train.parquet")
    relatives = Relatives.read(taught / NAME, store.ids)
    assert not kept_aside(store, relatives, 0.0).any()
    aside = kept_aside(store, relatives, 1.0)
    assert aside.sum() == 2 and aside[relatives.chains].all()
    # Without a pair to learn from, there is nothing to train on.
    copies = replace(relatives, chains=np.array([[0, 1], [2, 3]]), weight=np.array([0.5, 0.5]))
    assert kept_aside(store, copies, 0.3).tolist().count(True) in (0, 2)
    options = [f"data.folder={taught}", *SMALL, "data.aside=1.0", "data.paired=0.0"]
    with pytest.raises(ProtokError, match="every pair of relatives is kept aside"):
        main(["--out", str(tmp_path / "run"), *(word for option in options for word in ("--set", option))])


def test_letters_join_a_model_of_shapes_and_change_nothing_of_it(taught, tmp_path):
    find(taught, taught / NAME, 1, 100)
    store = read_store(taught / "train.parquet")
    letters, shapes = small(BOTH).environment, small()
    counts = counted(letters, store, Relatives.read(taught / NAME, store.ids))
    joined = join(shapes, letters, score(letters, counts))
    joined.save_pretrained(tmp_path / "joined")
    loaded = ShapeTokenizer.from_pretrained(tmp_path / "joined")
    assert loaded.codebook == shapes.codebook and loaded.environment.codebook.endswith(letters.codebook[-8:])
    chain = store.backbone(0)
    tokens, before = loaded.encode(chain), shapes.encode(chain)
    assert np.array_equal(tokens.ids, before.ids) and tokens.keyframes.text == before.keyframes.text
    assert np.array_equal(tokens.environment.ids, letters.encode(chain).ids)
    scores = default_matrix(loaded.environment).scores
    assert np.diag(scores).mean() > scores.mean() and scores.any()
    reduced = protok.load(f"{tmp_path / 'joined'}:environment20")
    classes = reduced.encode(chain)
    assert np.array_equal(classes.ids, reduced.classes[tokens.environment.ids])
    assert np.array_equal(reduced.of(tokens).ids, classes.ids) and len(classes.letters) == len(chain)
    assert sorted(set(reduced.classes.tolist())) == list(range(20))
    assert np.diag(default_matrix(reduced).scores).min() > 0
    both = protok.load(f"{tmp_path / 'joined'}:both")
    ids, vectors = both.encode(chain).ids, both.code_vectors()
    assert np.array_equal(ids, tokens.ids * letters.size + tokens.environment.ids)
    parts = shapes.code_vectors()[tokens.ids], letters.code_vectors()[tokens.environment.ids]
    assert np.array_equal(vectors[ids], np.concatenate(parts, 1))
    for tokenizer in (reduced, both):
        for check in testing.contracts_for(tokenizer):
            options = {"radius": 60.0} if check is testing.check_missing else {}
            check(tokenizer, **options)
