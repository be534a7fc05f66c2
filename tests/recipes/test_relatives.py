"""Relatives among training chains, on a store of the bundled examples and a changed copy of one."""

import numpy as np
import pytest

from protok.structure.store import read_store
from recipes.environments.relatives import NAME, Relatives, consensus, find

pytest.importorskip("tmtools", reason="needs pip install 'protok[prior]'")


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
