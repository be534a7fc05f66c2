"""Bits that a code saves of its partner's: domains that are shaken copies, and what cannot be measured."""

from dataclasses import replace

import numpy as np
import pytest

import protok
from protok.bench.data.source import Domain
from protok.bench.measures.homologs import homologs
from protok.bench.representations.controls import CONTROLS
from protok.bench.representations.representation import Representation
from protok.errors import Unsupported
from protok.structure.backbone import joined
from protok.testing import moved, random_backbone

pytest.importorskip("tmtools", reason="needs pip install '.[prior]'")


class Copies:
    """Three superfamilies of three domains, which are shaken copies, behind another stretch of chain."""

    def __init__(self):
        random, self.chains, self.domains = np.random.default_rng(0), {}, []
        for group in range(3):
            core = random_backbone(70, seed=group)
            for copy in range(3):
                head = moved(random_backbone(30, seed=10 + 3 * group + copy), shift=(150.0, 0, 0))
                noise = random.normal(0, 0.1, core.coords.shape).astype(np.float32)
                whole = joined([head, replace(core, coords=core.coords + noise)])
                name = f"c{group}{copy}"
                whole = replace(whole, chain=np.full(100, "A"), index=np.arange(1, 101), name=name)
                self.chains[name] = whole
                family = f"f{group}.{copy}"
                self.domains.append(Domain(name, (30, 100), f"f{group}", f"s{group}", family, name))

    def structure(self, id):
        return self.chains[id]


@pytest.fixture(scope="module")
def copies():
    return Copies()


def test_copies_save_nearly_all_bits(copies):
    scores, points = homologs(Representation(protok.load("3di")), copies, copies.domains)
    assert points["pairs"] == len(points["tm"]) == len(points["equal"]) == 9 and min(points["tm"]) > 0.8
    # Copies are all alike: agreement is that of the nearest relatives, and there are no far ones.
    assert scores["agreement_tm_0.8_to_1"].value == scores["agreement"].value
    assert np.isnan(scores["agreement_tm_0.5_to_0.65"].value)
    chance = (np.mean(points["equal"]) - scores["agreement"].value) / (1 - scores["agreement"].value)
    assert 0 < chance < 0.3
    assert scores["bits"].value > 1 and scores["agreement"].value > 0.5
    assert abs(scores["bits_inside"].value - scores["bits"].value) < 0.5


def test_codes_that_know_nothing_save_nothing(copies):
    scores, _ = homologs(Representation(CONTROLS["random-code"]()), copies, copies.domains)
    # What is counted in few pairs misleads, where there is nothing to count.
    assert -0.5 < scores["bits"].value < 0.1 and abs(scores["agreement"].value) < 0.1


def test_what_cannot_be_measured_says_so(copies):
    with pytest.raises(Unsupported, match="has no codes"):
        homologs(Representation(protok.load("protok-1"), "continuous"), copies, copies.domains)
    with pytest.raises(Unsupported, match="0 pairs of domains of one superfamily superpose; add domains"):
        homologs(Representation(protok.load("3di")), copies, copies.domains[::3])
