"""Encoder, decoder, reconciliation and their training loss, on small untrained networks."""

import dataclasses

import numpy as np
import pytest
import torch

import protok
from protok.model.decoder import Trace, pad
from protok.model.encoder import Encoder
from protok.model.features import PLACE, Batch, featurize
from protok.model.network import Network
from protok.model.pair_geometry import MOST, ViewDecoder, Views, predicted_lddt, reconcile, view_loss
from protok.model.refine import add_oxygen, relax
from protok.structure.geometry import frames, linked, torsions
from protok.testing import exclude, mirrored, moved, random_backbone, random_complex, random_rotation
from tests.helpers.models import PLACED, SMALL

both = pytest.mark.parametrize("global_frame", [False, True], ids=["local", "placed"])


@pytest.fixture(scope="module", params=[SMALL, PLACED], ids=["local", "placed"])
def network(request):
    torch.manual_seed(0)
    return Network(request.param)


@both
def test_features_are_invariant_and_see_the_mirror(global_frame):
    backbone = random_backbone(50, seed=1)
    graph = featurize(Batch.of([backbone]), 8, global_frame)
    turned = featurize(Batch.of([moved(backbone, random_rotation(2), [50.0, -20.0, 10.0])]), 8, global_frame)
    # The bonded neighbours are equally far, so only their order may differ.
    assert torch.equal(graph.index.sort().values, turned.index.sort().values)
    assert torch.allclose(graph.node, turned.node, atol=2e-3)
    assert torch.allclose(graph.edge.sum(1), turned.edge.sum(1), atol=1e-2)
    mirror = featurize(Batch.of([mirrored(backbone)]), 8, global_frame)
    assert (graph.edge.sum(1) - mirror.edge.sum(1)).abs().max() > 0.5


@both
def test_latents_do_not_depend_on_the_rest_of_a_batch(global_frame):
    torch.manual_seed(0)
    encoder = Encoder(8, hidden=32, global_frame=global_frame).eval()
    parts = [random_backbone(n, seed=n) for n in (3, 40, 1, 25)]
    with torch.no_grad():
        joint = encoder(Batch.of(parts)).split([len(p) for p in parts])
        for part, z in zip(parts, joint, strict=True):
            assert torch.allclose(z, encoder(Batch.of([part])), atol=1e-5)


def test_each_chain_of_a_structure_has_its_own_place_features():
    pair = random_complex([30, 40], seed=4)
    joint = featurize(Batch.of([pair]), 8, True).node[:, -PLACE:]
    alone = [featurize(Batch.of([part]), 8, True).node[:, -PLACE:] for part in pair.by_chain()]
    assert torch.allclose(joint, torch.cat(alone), atol=1e-4)


@both
def test_incomplete_residues_are_not_seen(global_frame):
    torch.manual_seed(0)
    encoder = Encoder(8, hidden=32, global_frame=global_frame).eval()
    gap = exclude(random_backbone(40, seed=1), [20])
    moved_gap = dataclasses.replace(gap, coords=gap.coords.copy())
    moved_gap.coords[20, 3] = 99.0
    with torch.no_grad():
        a, b = encoder(Batch.of([gap])), encoder(Batch.of([moved_gap]))
    assert torch.equal(a[np.flatnonzero(gap.mask)], b[np.flatnonzero(gap.mask)])
    assert a.isfinite().all()


def test_an_empty_batch_has_no_latents():
    assert Encoder(8)(Batch.of([])).shape == (0, 8)


def test_padding_does_not_reach_the_trunk(network):
    network.train()
    z, keep = pad(torch.randn(30, 8), [10, 20])
    present = keep.clone()
    h = network.decoder.trunk(z, present, keep)[0, :10]
    alone = network.decoder.trunk(z[:1, :10], present[:1, :10], keep[:1, :10])[0]
    assert torch.allclose(h, alone, atol=1e-5)


def test_both_ways_of_attention_agree(network):
    z, keep = pad(torch.randn(30, 8), [10, 20])
    plain = network.train().decoder.trunk(z, keep, keep)
    fused = network.eval().decoder.trunk(z, keep, keep)
    assert torch.allclose(plain[keep], fused[keep], atol=1e-5)


def test_view_loss_is_least_at_the_truth_and_knows_its_scale():
    target = torch.randn(1, 4, 6, 3)
    weight = torch.ones(1, 4, 6)
    sigma = torch.full((1, 4, 6), 0.5)
    best, error = view_loss(Views(target, sigma), target, weight)
    off, far = view_loss(Views(target + 1.0, sigma), target, weight)
    assert error < 0.04 < far and best < off
    surer, _ = view_loss(Views(target, sigma / 2), target, weight)
    assert surer < best
    weight[0, 0] = 0
    target[0, 0] = 1e6
    assert view_loss(Views(torch.zeros_like(target), sigma), target, weight)[1] < 10


@pytest.mark.slow
@pytest.mark.parametrize(("config", "rate"), [(SMALL, 3e-3), (PLACED, 1e-2)], ids=["local", "placed"])
def test_a_network_learns_one_chain(config, rate):
    torch.manual_seed(0)
    network = Network(
        dataclasses.replace(config, quantizer=dataclasses.replace(config.quantizer, kind="none"))
    )
    batch = Batch.of([random_backbone(24, seed=5)])
    optimiser = torch.optim.Adam(network.parameters(), rate)
    errors = []
    # Seeds end between 0.17 and 0.35 of the first error.
    for _ in range(160):
        losses = network(batch, 24)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        errors.append(float(losses.error.detach()))
    assert errors[-1] < 0.6 * errors[0]


def test_loss_reaches_every_weight(network):
    network.train()
    network.quantizer.progress(0.2)
    torch.manual_seed(0)
    network(
        Batch.of([exclude(random_backbone(30, seed=1), [12]), random_backbone(20, seed=2)]), 8
    ).total.backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


def test_noise_on_what_is_seen_costs_steadiness(network):
    clean = Batch.of([random_backbone(40, seed=3)])
    noisy = dataclasses.replace(clean, coords=clean.coords + 0.3 * torch.randn_like(clean.coords))
    network.eval()
    losses = []
    for seen, consistency_weight in ((None, 5.0), (clean, 5.0), (noisy, 0.0), (noisy, 5.0)):
        torch.manual_seed(0)
        losses.append(float(network(clean, 8, seen, consistency_weight).total.detach()))
    assert losses[0] == losses[1] and losses[3] > losses[2] + 0.1


class Knowing(ViewDecoder):
    """A pair head that knows the answer, plus noise that grows with distance."""

    def __init__(self, backbone, noise):
        torch.nn.Module.__init__(self)
        coords = torch.from_numpy(backbone.coords)
        turn = frames(*coords[:, :3].unbind(1))
        self.truth = torch.einsum("iba,ijb->ija", turn, coords[None, :, 1] - coords[:, None, 1])
        self.sigma = 0.1 + noise * self.truth.norm(dim=-1) / 10
        self.error = self.sigma[..., None] * torch.randn(
            self.truth.shape, generator=torch.Generator().manual_seed(0)
        )

    def views(self, h, rows):
        rows = rows[0]
        return Views((self.truth + self.error)[rows][None], self.sigma[rows][None])


@pytest.mark.parametrize("length", [1, 2, 30, MOST + 20])
def test_views_that_agree_give_the_chain(length):
    backbone = random_backbone(length, seed=1)
    trace = reconcile(Knowing(backbone, noise=0.0), torch.zeros(length, 4))
    coords = np.full((length, 4, 3), np.nan, np.float32)
    coords[:, 1] = trace.ca
    assert length < 3 or protok.rmsd(dataclasses.replace(backbone, coords=coords), backbone) < 0.1


def test_noisy_views_are_averaged():
    backbone = random_backbone(80, seed=1)
    decoder = Knowing(backbone, noise=1.0)
    trace = reconcile(decoder, torch.zeros(80, 4))
    coords = np.full((80, 4, 3), np.nan, np.float32)
    coords[:, 1] = trace.ca
    single = (decoder.error[40]).norm(dim=-1).square().mean().sqrt()
    assert protok.rmsd(dataclasses.replace(backbone, coords=coords), backbone) < 0.5 * single


def test_confidence_falls_with_the_claimed_scale():
    ca = torch.from_numpy(random_backbone(40, seed=1).coords[:, 1])
    rows = torch.arange(40)
    low, high = (predicted_lddt(ca, rows, torch.full((40, 40), s)) for s in (5.0, 0.1))
    assert (high > 95).all() and (low < 50).all() and (low >= 0).all() and (high <= 100).all()


def test_relaxation_mends_bonds_and_keeps_the_place():
    backbone = random_backbone(60, seed=2)
    coords = torch.from_numpy(backbone.coords)
    bonded = linked(coords, torch.ones(60, dtype=torch.bool))
    angles, _ = torsions(coords, bonded)
    torsion = torch.stack([angles.sin(), angles.cos()], dim=-1)
    g = torch.Generator().manual_seed(0)
    ca = coords[:, 1] + 0.3 * torch.randn(60, 3, generator=g)
    turn = frames(*coords[:, :3].unbind(1))
    loose = Trace(ca, turn, torch.zeros(60))
    placed, rotation = relax(loose, torsion, bonded)
    from protok.structure.geometry import residue_atoms

    built = add_oxygen(residue_atoms(rotation, placed), torsion, bonded)
    gap = (built[:-1, 2] - built[1:, 0]).norm(dim=-1)
    before = residue_atoms(turn, ca)
    assert (gap - 1.329).abs().mean() < 0.2 * (
        (before[:-1, 2] - before[1:, 0]).norm(dim=-1) - 1.329
    ).abs().mean()
    assert (placed - ca).norm(dim=-1).mean() < 0.6
    o = (built[:, 3] - built[:, 2]).norm(dim=-1)
    assert torch.allclose(o, torch.full((60,), 1.231), atol=1e-3)
