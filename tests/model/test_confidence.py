"""Confidence among neighbours: by hand, and where residues lie in a heap."""

import numpy as np
import pytest

from protok.model.confidence import CROWDED, OWN, among_neighbours


def test_neighbours_count_once_and_a_residue_as_often_as_said():
    ca = np.array([[0, 0, 0], [14.9, 0, 0], [29.9, 0, 0], [100, 0, 0]], np.float32)
    own = np.array([90, 50, 30, 10], np.float32)
    out = among_neighbours(ca, own, np.zeros(4, int))
    # 14.9 and 15.0 Å are near, 29.9 is not.
    expected = [
        (OWN * 90 + 50) / (OWN + 1),
        (OWN * 50 + 90 + 30) / (OWN + 2),
        (OWN * 30 + 50) / (OWN + 1),
        10,
    ]
    assert out == pytest.approx(expected, abs=1e-4) and out.dtype == np.float32
    apart = among_neighbours(ca, own, np.array([0, 1, 1, 1]))
    assert apart == pytest.approx(
        [90, (OWN * 50 + 30) / (OWN + 1), (OWN * 30 + 50) / (OWN + 1), 10], abs=1e-4
    )


def test_nothing_a_heap_and_broken_places_stay_as_they_are():
    nothing = np.zeros(0, np.float32)
    assert among_neighbours(np.zeros((0, 3), np.float32), nothing, np.zeros(0, int)).shape == (0,)
    heap = np.random.default_rng(0).normal(size=(CROWDED + 50, 3)).astype(np.float32)
    own = np.linspace(0, 100, len(heap), dtype=np.float32)
    together = np.zeros(len(heap), int)
    assert among_neighbours(heap, own, together) is own
    heap[3, 1] = np.nan
    assert among_neighbours(heap, own, together) is own
