"""The design search: its variants are recipes, its parts change what they say and nothing else."""

import tomllib

import pytest
import torch
from protok.model.decoder import Decoder

import protok
from protok.model.batch import Batch
from protok.structure.store import write_store
from protok.training.config import read_recipe
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow

RECIPE = tomllib.loads((ROOT / "benchmarks" / "accuracy" / "design.toml").read_text())


@pytest.fixture
def parts():
    from benchmarks.accuracy import design_parts

    return design_parts


@pytest.fixture(scope="module")
def chains():
    return [protok.read(ROOT / "data" / f"{name}.pdb") for name in ("7w89.A", "7vmf.A")]


def lose(kind, chains, **known):
    """Terms of a decoder of a kind on real chains; all kinds have the same weights."""
    batch = Batch.of([c[:40] for c in chains])
    coords = batch.coords.view(len(chains), 40, 4, 3)
    present = batch.mask.view(len(chains), 40)
    torch.manual_seed(0)
    decoder = kind(5, 32, 1, 2)
    for key, value in known.items():
        setattr(decoder, key, value)
    torch.manual_seed(1)
    z = torch.randn(len(chains), 40, 5)
    h = decoder.trunk(z, present, torch.ones_like(present))
    torch.manual_seed(2)
    return decoder.terms(h, coords, present, 8)


@pytest.mark.parametrize("name", ["no-view", "no-axes", "superposed", "distances", "bonds"])
def test_a_loss_changes_its_own_term(parts, chains, name):
    base, terms = lose(Decoder, chains), lose(parts.PARTS[name], chains)
    changed = {k for k in terms if k not in base or not torch.equal(base[k], terms[k])}
    assert (
        changed
        == {
            "no-view": {"view"},
            "no-axes": {"axes"},
            "superposed": {"place"},
            "distances": {"distances"},
            "bonds": {"bonds"},
        }[name]
    )
    assert all(v.isfinite() for v in terms.values())


def test_amino_acids_are_asked_for_where_they_are_known(parts, chains):
    kinds = torch.full((len(chains), 40), -1)
    kinds[0, 3] = 7
    terms = lose(parts.Sequence, chains, kinds=kinds)
    assert 1.0 < terms["sequence"] < 8.0


def test_the_second_pass_sees_the_first(parts, chains):
    base, again = lose(Decoder, chains), lose(parts.Recycled, chains)
    assert not torch.equal(base["place"], again["place"])


def test_variants_are_recipes(parts):
    from benchmarks.accuracy import design

    base = design.flat(RECIPE["base"])
    for name, changes in RECIPE["variants"].items():
        own = {k: v for k, v in changes.items() if k not in ("about", "part", "relax")}
        read_recipe(None, base | own)
        assert changes.get("part") in (None, *parts.PARTS), name


def test_a_variant_is_trained_and_scored(parts, chains, tmp_path, monkeypatch):
    from benchmarks.accuracy import design

    monkeypatch.setattr(design, "LENGTHS", ((20, 500),))
    monkeypatch.setattr(design, "CHAINS", 2)
    (tmp_path / "structures").mkdir()
    for side in ("train", "valid"):
        write_store(chains, tmp_path / "structures" / f"{side}.parquet")
    tiny = {
        "optim.steps": 3,
        "optim.lr_warmup_steps": 1,
        "valid.every": 3,
        "data.residues": 80,
        "data.curriculum": [[0.0, 40]],
        "model.decoder.width": 32,
        "model.decoder.layers": 1,
        "model.quantizer.size": 8,
        "part": "sequence",
    }
    scores = design.measure(design.flat(RECIPE["base"]) | tiny, tmp_path)
    assert scores["by_length"]["20-500"]["chains"] == 2
    assert scores["by_length"]["20-500"]["rmsd"] > 0
    assert 0 <= scores["amino_acids_recovered"] < 0.5
