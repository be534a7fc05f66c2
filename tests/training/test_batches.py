"""Batches of a training run: a function of the step, chains drawn by weight."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("lightning", reason="training is an extra")

from protok.structure.store import read_store, write_store
from protok.testing import random_backbone
from protok.training.batches import PLAN, Stream

CURRICULUM = ((0.0, 16), (0.5, 64))


@pytest.fixture
def store(tmp_path):
    chains = [dataclasses.replace(random_backbone(n, seed=n), name=f"c{n}") for n in (10, 20, 40, 70, 90)]
    write_store(chains, tmp_path / "s.parquet")
    return read_store(tmp_path / "s.parquet")


def test_batches_follow_from_the_step(store):
    stream = Stream(store, 100, CURRICULUM, seed=3)
    assert stream.batch(21, 100) == Stream(store, 100, CURRICULUM, seed=3).batch(21, 100)
    assert stream.batch(21, 100) != Stream(store, 100, CURRICULUM, seed=4).batch(21, 100)
    assert stream.batch(21, 100) != stream.batch(22, 100)


def test_batches_keep_to_curriculum_and_size(store):
    stream = Stream(store, 100, CURRICULUM, seed=0)
    for step in range(0, 10 * PLAN):
        crops = stream.batch(step, 10 * PLAN)
        longest = 16 if step < 5 * PLAN else 64
        sizes = [c.stop - c.begin for c in crops]
        assert crops and max(sizes) <= longest and sum(sizes) <= 100 + 2 * longest
        for c in crops:
            assert 0 <= c.begin < c.stop <= store.lengths()[c.chain]


def test_chains_are_drawn_by_weight(store):
    weight = np.array([0.0, 0.5, 0.5, 0.0, 0.0])
    stream = Stream(dataclasses.replace(store, weight=weight), 60, CURRICULUM, seed=0)
    drawn = [c.chain for step in range(4 * PLAN) for c in stream.batch(step, 4 * PLAN)]
    share = np.bincount(drawn, minlength=5) / len(drawn)
    assert share[[0, 3, 4]].sum() == 0 and abs(share[1] - 0.5) < 0.1
