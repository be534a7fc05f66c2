"""Relatives among training chains, on a store of the bundled examples and a changed copy of one."""

import csv

import numpy as np
import pytest

import protok
from protok.structure.backbone import AMINO_ACIDS, Backbone
from protok.structure.store import read_store, write_store
from recipes.environments.relatives import NAME, Relatives, consensus, find

pytest.importorskip("tmtools", reason="needs pip install '.[prior]'")


@pytest.fixture
def folder(examples, tmp_path):
    chains = [protok.read(path) for path in sorted(examples.glob("*.pdb"))]
    longest = max(chains, key=len)
    cut = longest[10:]
    noise = np.random.default_rng(0).normal(0, 0.3, cut.coords.shape).astype(np.float32)
    # A third of the residues changed, so that it is no copy.
    letters = "".join("G" if i % 3 == 0 else letter for i, letter in enumerate(cut.sequence))
    chains.append(Backbone.from_arrays(cut.coords + noise, letters, name="relative"))
    write_store(chains, tmp_path / "train.parquet")
    store = read_store(tmp_path / "train.parquet")
    with (tmp_path / "manifest.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(
            [("id", "split", "cluster30"), *((id, "train", f"c{n}") for n, id in enumerate(store.ids))]
        )
    profile = np.zeros((len(store.sequence[0]), 20), np.uint16)
    profile[1:, AMINO_ACIDS.index("W")] = 10_000
    np.savez(tmp_path / "train.extras.npz", id=store.ids[:1], length=[len(profile)], profile=profile)
    return tmp_path


def test_likeliest_residues_stand_for_a_chain_with_a_profile(folder):
    store = read_store(folder / "train.parquet")
    texts = consensus(store, folder / "train.extras.npz")
    assert texts[0] == "X" + "W" * (len(store.sequence[0]) - 1)
    assert texts[1:] == store.sequence[1:]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_relative_is_found_and_its_residues_correspond(folder, jobs):
    relatives = find(folder, folder / NAME, jobs, 100)
    store = read_store(folder / "train.parquet")
    ((later, earlier),) = relatives.chains.tolist()
    assert store.ids[later].startswith("relative") and relatives.weight.tolist() == [1.0]
    assert relatives.start.tolist() == [0, len(relatives.rows)]
    assert np.mean(relatives.rows[:, 1] - relatives.rows[:, 0] == 10) > 0.95
    read = Relatives.read(folder / NAME, store.ids)
    assert np.array_equal(read.rows, relatives.rows)
    with pytest.raises(ValueError, match="of another store: make it again"):
        Relatives.read(folder / NAME, store.ids[1:])
