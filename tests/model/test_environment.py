"""What lies around residues: seen from their own frames, of their own chain alone."""

import dataclasses

import numpy as np
import pytest
import torch

import protok
from protok.model.batch import Batch
from protok.model.environment import EnvironmentEncoder
from protok.model.surroundings import BLOCK, EDGE, NODE, surroundings
from protok.structure.backbone import Backbone
from protok.structure.descriptors import half_sphere
from protok.structure.geometry import beta_carbon
from protok.structure.io.sources.paths import iter_files
from protok.testing import mirrored, moved, random_complex, random_rotation

NEAR = 12


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return EnvironmentEncoder(8, 32, 16, 2, NEAR).eval()


@pytest.fixture(scope="module")
def chains(examples):
    return [protok.read(path) for path in sorted(iter_files([examples]))]


@torch.no_grad()
def latents(encoder, *backbones):
    z = encoder(surroundings(Batch.of(backbones), NEAR))
    return z[torch.from_numpy(np.concatenate([b.mask for b in backbones]))]


def test_latents_stay_when_a_chain_is_moved_and_not_when_it_is_mirrored(encoder, chains):
    for chain in chains:
        z = latents(encoder, chain)
        assert torch.allclose(latents(encoder, moved(chain, random_rotation(1))), z, atol=1e-4)
        assert (latents(encoder, mirrored(chain)) - z).abs().mean() > 0.01


def test_a_chain_is_the_same_alone_in_a_batch_and_in_a_complex(encoder, chains):
    z = [latents(encoder, chain) for chain in chains]
    assert torch.allclose(latents(encoder, *chains), torch.cat(z), atol=1e-5)
    whole = random_complex([40, 25, 60])
    together = latents(encoder, whole)
    apart = torch.cat([latents(encoder, chain) for chain in whole.by_chain()])
    assert torch.allclose(together, apart, atol=1e-5)


def test_neighbours_are_the_nearest_others(chains):
    batch = Batch.of(chains)
    around = surroundings(batch, NEAR)
    assert around.nodes.shape == (len(batch.mask), NODE)
    assert around.edges.shape == (len(batch.mask), NEAR, EDGE)
    cb, first = beta_carbon(*batch.coords[:, :3].unbind(1)), 0
    for size in batch.sizes:
        rows = first + batch.mask[first : first + size].nonzero()[:, 0]
        apart = torch.cdist(cb[rows].double(), cb[rows].double()).fill_diagonal_(torch.inf)
        assert torch.equal(around.near[rows], rows[apart.topk(NEAR, largest=False).indices])
        first += size
    assert bool(around.there[batch.mask].all())


def test_densities_tell_the_core_from_the_surface(chains):
    nodes = surroundings(Batch.of(chains), NEAR).nodes[:, -8]  # residues within 12 Å
    buried = np.concatenate([half_sphere(chain) for chain in chains])
    known = np.isfinite(buried)
    assert np.corrcoef(nodes.numpy()[known], buried[known])[0, 1] > 0.7


def test_blocks_and_short_chains_and_gaps(encoder, chains, monkeypatch):
    z = latents(encoder, *chains)
    monkeypatch.setattr("protok.model.surroundings.BLOCK", BLOCK // 16)
    assert torch.allclose(latents(encoder, *chains), z, atol=1e-5)
    for length in (1, 2, 5):
        short = chains[0][:length]
        around = surroundings(Batch.of([short]), NEAR)
        assert int(around.there.sum()) == length * (length - 1)
        assert bool(latents(encoder, short).isfinite().all())
    gap = dataclasses.replace(chains[0], coords=chains[0].coords.copy())
    gap.coords[20:30] = np.nan
    around = surroundings(Batch.of([gap]), NEAR)
    assert not np.isin(around.near[torch.from_numpy(gap.mask)].numpy(), np.arange(20, 30)).any()
    assert latents(encoder, gap).shape == (int(gap.mask.sum()), 8)
    none = Backbone.from_arrays(np.full((3, 4, 3), np.nan, np.float32), "GGG")
    assert latents(encoder, none, chains[0]).isfinite().all()
    assert len(latents(encoder, none[:0])) == 0
