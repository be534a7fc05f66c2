"""Geometry against closed forms, other programs, and its own invariances."""

import math

import numpy as np
import pytest
import torch

from protok.structure import geometry as g
from protok.testing import random_backbone


@pytest.fixture(scope="module")
def coords():
    return torch.from_numpy(random_backbone(60, seed=3).coords).double()


def rotation(seed: int) -> torch.Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)).double())
    return q * torch.linalg.det(q)


def test_frames_are_right_handed_and_turn_with_the_chain(coords):
    r = rotation(0)
    frames = g.frames(*coords[:, :3].unbind(1))
    turned = g.frames(*(coords[:, :3] @ r.T + 5).unbind(1))
    assert torch.allclose(torch.linalg.det(frames), torch.ones(60).double())
    assert torch.allclose(turned, r @ frames, atol=1e-9)


def test_ideal_residue_is_its_own_frame():
    atoms = g.residue_atoms(torch.eye(3), torch.zeros(3))
    assert torch.allclose(g.frames(*atoms.unbind(0)), torch.eye(3), atol=1e-6)
    assert math.isclose((atoms[0] - atoms[1]).norm(), 1.461, abs_tol=2e-3)
    assert math.isclose((atoms[2] - atoms[1]).norm(), 1.526, abs_tol=2e-3)


@pytest.mark.parametrize("degrees", [-170, -60, 0, 45, 120, 180])
def test_place_and_dihedral_are_inverse(degrees):
    a, b, c = torch.tensor([[0.0, 1.0, 0.2], [0.0, 0.0, 0.0], [1.5, 0.0, 0.0]]).double()
    d = g.place(a, b, c, 1.33, 2.0, torch.tensor(math.radians(degrees), dtype=torch.float64))
    assert math.isclose((d - c).norm(), 1.33, abs_tol=1e-9)
    angle = math.degrees(g.dihedral(a, b, c, d))
    assert abs((angle - degrees + 180) % 360 - 180) < 1e-6


def test_torsions_equal_those_of_biotite(coords):
    import biotite.structure as struc

    array = struc.AtomArray(180)
    array.coord = coords[:, :3].reshape(-1, 3).numpy().astype(np.float32)
    array.atom_name = np.tile(["N", "CA", "C"], 60)
    array.res_id = np.repeat(np.arange(60), 3)
    array.res_name[:] = "ALA"
    array.chain_id[:] = "A"
    expected = np.stack(struc.dihedral_backbone(array), axis=-1)
    angles, defined = g.torsions(coords, torch.ones(59, dtype=torch.bool))
    shown = np.isfinite(expected)
    assert (defined.numpy() == shown).all()
    gap = np.angle(np.exp(1j * (angles.numpy() - np.nan_to_num(expected))))
    assert np.abs(gap[shown]).max() < 1e-3


def test_superpose_undoes_a_motion_and_refuses_a_mirror(coords):
    ca, r = coords[:, 1], rotation(1)
    target = ca @ r.T + torch.tensor([3.0, -2.0, 9.0]).double()
    turn, shift = g.superpose(ca, target)
    assert torch.allclose(ca @ turn.T + shift, target, atol=1e-9)
    mirror = ca * torch.tensor([-1.0, 1.0, 1.0]).double()
    turn, shift = g.superpose(mirror, ca)
    assert math.isclose(torch.linalg.det(turn), 1, abs_tol=1e-9)
    assert (mirror @ turn.T + shift - ca).norm(dim=-1).mean() > 1


def test_superpose_weighs(coords):
    ca = coords[:20, 1]
    target = ca.clone()
    target[0] += 30
    weight = torch.ones(20).double()
    weight[0] = 0
    turn, shift = g.superpose(ca, target, weight)
    assert torch.allclose((ca @ turn.T + shift)[1:], ca[1:], atol=1e-9)


def test_chain_frame_turns_with_the_chain_and_not_with_the_noise(coords):
    ca, every = coords[:, 1].float(), torch.ones(len(coords), dtype=torch.bool)
    axes, centre = g.chain_frame(ca, every)
    assert torch.allclose(axes.T @ axes, torch.eye(3), atol=1e-5)
    assert torch.linalg.det(axes) > 0.99
    assert torch.allclose(centre, ca.mean(0), atol=1e-4)
    turn = g.polar_rotation(torch.randn(3, 3))
    shift = torch.tensor([30.0, -5.0, 12.0])
    axes2, centre2 = g.chain_frame(ca @ turn.T + shift, every)
    assert torch.allclose(axes2, turn @ axes, atol=1e-4)
    assert torch.allclose(centre2, turn @ centre + shift, atol=1e-3)
    noisy, _ = g.chain_frame(ca + 0.2 * torch.randn_like(ca), every)
    assert (noisy - axes).abs().max() < 0.1


def test_chain_frame_is_that_of_the_present_residues(coords):
    mask = torch.ones(len(coords), dtype=torch.bool)
    mask[5:9] = False
    wild = coords[:, 1].clone()
    wild[5:9] = 1e4
    for a, b in zip(g.chain_frame(wild, mask), g.chain_frame(coords[mask, 1], mask[mask]), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_chain_frame_of_degenerate_chains_is_finite(n):
    line = torch.arange(n)[:, None] * torch.ones(1, 3)
    for mask in (torch.ones(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)):
        assert all(x.isfinite().all() for x in g.chain_frame(line, mask))
