"""What a GPU computes of many chains at once is what is computed chain by chain."""

import dataclasses

import numpy as np
import pytest
import torch

import protok
from protok.model import features
from protok.model.features import Batch
from protok.structure import geometry_padded
from protok.structure.backbone import Backbone
from protok.structure.geometry import frames
from protok.structure.io.read import read


@pytest.fixture(scope="module")
def batch(examples):
    chains = [next(iter(read(file).by_chain())) for file in sorted(examples.iterdir())[:4]]
    holed = chains[0].coords.copy()
    holed[[0, 3, 4, -1]] = np.nan
    short = chains[1].coords[:9]
    return Batch.of([*chains, *(Backbone.from_arrays(x, "A" * len(x)) for x in (holed, short))])


def around(batch, work, global_frame):
    turn = frames(*batch.coords[:, :3].unbind(1))
    return work(batch, turn, 24, global_frame)


@pytest.mark.parametrize("global_frame", [False, True])
def test_rows_of_chains_see_what_chains_alone_see(batch, global_frame):
    alone, rows = (around(batch, f, global_frame) for f in (features._around, features._around_rows))
    there = batch.mask
    assert torch.equal(alone.valid, rows.valid)
    assert not rows.valid.all()
    assert (alone.index == rows.index).float().mean() > 0.999
    a, b = torch.cat(alone.node, 1)[there], torch.cat(rows.node, 1)[there]
    assert a.shape[1] == 30 + features.PLACE * global_frame
    assert torch.allclose(a, b, atol=2e-5)


def test_rows_are_laid_and_taken_up_again():
    flat = torch.randn(9, 2)
    rows = geometry_padded.PaddedRows.of([4, 0, 5], flat.device)
    assert rows.scatter(flat).shape == (3, 5, 2)
    assert torch.equal(rows.end_to_end(rows.scatter(flat)), flat)
    assert not rows.scatter(flat)[1].any()


def test_only_what_fits_and_has_one_chain_each_is_worked_on_together(batch):
    assert geometry_padded.fits([500] * 40)
    assert not geometry_padded.fits([100] * 40 + [5000])
    assert not geometry_padded.fits([]) and not geometry_padded.fits([0])
    assert features._one_chain_each(batch)
    two = batch.chain.clone()
    two[3] = 1
    assert not features._one_chain_each(dataclasses.replace(batch, chain=two))


@pytest.mark.parametrize("name", ["protok-512", "protok-512-sites"])
def test_codes_are_the_same(name, batch, examples, monkeypatch):
    tokenizer = protok.load(name)
    chains = [next(iter(read(file).by_chain())) for file in sorted(examples.glob("*.pdb"))]
    alone = tokenizer.encode_batch(chains)
    monkeypatch.setattr(features, "_around", features._around_rows)
    rows = tokenizer.encode_batch(chains)
    same = [np.mean(a.ids == b.ids) for a, b in zip(alone, rows, strict=True)]
    assert len(same) > 3 and np.mean(same) > 0.998
