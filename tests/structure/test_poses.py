"""Rigid motions against scipy and against themselves."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from protok.structure.poses import Poses, orthonormal, rotation, rotation_vector


def turns(n, seed=0):
    return torch.from_numpy(Rotation.random(n, random_state=seed).as_matrix())


def poses(n, seed=0):
    rng = np.random.default_rng(seed)
    return Poses(torch.from_numpy(rng.normal(0, 20, (n, 3))), turns(n, seed))


def test_rotation_vectors_are_those_of_scipy():
    matrices = turns(200)
    expected = Rotation.from_matrix(matrices.numpy()).as_rotvec()
    np.testing.assert_allclose(rotation_vector(matrices), expected, atol=1e-9)
    np.testing.assert_allclose(rotation(torch.from_numpy(expected)), matrices, atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 3.0, math.pi - 1e-7, math.pi])
def test_rotation_vectors_near_nothing_and_near_half_a_turn(angle):
    axes = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    back = rotation(rotation_vector(rotation(angle * axes)))
    torch.testing.assert_close(back, rotation(angle * axes), atol=1e-7, rtol=0)


def test_motions_compose_and_undo():
    a, b, c = (poses(20, seed) for seed in range(3))
    once, other = a.then(b).then(c), a.then(b.then(c))
    torch.testing.assert_close(once.shift, other.shift)
    still = a.then(a.back())
    assert still.shift.abs().max() < 1e-12
    torch.testing.assert_close(still.turn, torch.eye(3, dtype=torch.float64).expand(20, 3, 3))
    there = a.then(a.to_reach(b))
    torch.testing.assert_close(there.shift, b.shift)
    torch.testing.assert_close(there.turn, b.turn)


def test_what_is_seen_from_a_frame_turns_with_it():
    a, b, g = (poses(20, seed) for seed in range(3))
    seen, moved = a.to_reach(b), g.then(a).to_reach(g.then(b))
    torch.testing.assert_close(seen.shift, moved.shift)
    torch.testing.assert_close(seen.turn, moved.turn)


def test_a_blend_lies_between_and_is_a_frame():
    a = poses(20)
    b = a.then(Poses(torch.ones(20, 3).double(), rotation(0.3 * torch.randn(20, 3).double())))
    weight = torch.linspace(0, 1, 20).double()
    blended = a.blend(b, weight)
    torch.testing.assert_close(blended.shift[-1], a.shift[-1])
    torch.testing.assert_close(blended.turn[0], b.turn[0])
    torch.testing.assert_close(torch.linalg.det(blended.turn), torch.ones(20).double())
    way, back = (rotation_vector(p.to_reach(blended).turn).norm(dim=-1) for p in (a, b))
    whole = rotation_vector(a.to_reach(b).turn).norm(dim=-1)
    assert (torch.maximum(way, back) <= whole + 1e-9).all()


def test_orthonormal_axes_are_right_handed():
    turn = orthonormal(torch.randn(100, 6))
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(100, 3, 3), atol=1e-5, rtol=0)
    assert (torch.linalg.det(turn) > 0.99).all()
