"""Letters as weights: the nearest codes, and a decode whose gradient is that of finite differences."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

import protok
from protok.errors import CodebookMismatch, ProtokError
from protok.testing import random_backbone
from tests.helpers.models import small


@pytest.fixture(scope="module")
def tok():
    return protok.load("protok-1")


@pytest.fixture(scope="module")
def chain(examples):
    return protok.read(examples / "7w89.A.pdb")[:60]


def holed(backbone):
    """Two chains that take turns, one residue without CA."""
    coords = backbone.coords.copy()
    coords[17, 1] = np.nan
    names = np.where(np.arange(len(backbone)) // 20 % 2, "B", "A")
    return replace(backbone, coords=coords, chain=names)


def hard(tokens):
    return one_hot(torch.from_numpy(tokens.ids).long().clamp(min=0), tokens.size).float()


def test_alternatives_are_the_nearest_codes(tok, chain):
    backbone = holed(chain)
    nearest = tok.alternatives(backbone, 5)
    assert nearest.codes.shape == nearest.distances.shape == (60, 5)
    assert np.array_equal(nearest.codes[:, 0], tok.encode(backbone).ids)
    there = backbone.mask
    assert (nearest.codes[~there] == -1).all() and np.isnan(nearest.margin[~there]).all()
    away = np.linalg.norm(tok.embed(backbone)[:, None] - tok.code_vectors(), axis=-1)
    np.testing.assert_allclose(nearest.distances[there], np.sort(away, 1)[there, :5], atol=1e-5)
    taken = np.take_along_axis(away, nearest.codes.clip(0), 1)
    np.testing.assert_allclose(nearest.distances[there], taken[there], atol=1e-5)
    assert (nearest.margin[there] >= 0).all() and nearest.margin[there].max() > 0.3
    for k in (1, 65):
        with pytest.raises(ProtokError, match=f"{k} alternatives of 64 codes; ask for 2 to 64"):
            tok.alternatives(backbone, k)


def test_soft_letters_go_from_the_nearest_to_all(tok, chain):
    backbone = holed(chain)
    cold, warm = tok.soft(backbone, 1e-6), tok.soft(backbone, 1.0)
    there = torch.from_numpy(backbone.mask)
    for weights in (cold, warm):
        torch.testing.assert_close(weights.sum(1), torch.ones(60))
        assert torch.equal(weights[~there], torch.full_like(weights[~there], 1 / 64))
    assert torch.equal(cold[there].argmax(1), torch.from_numpy(tok.encode(backbone).ids).long()[there])
    assert cold[there].amax(1).median() > 0.999 > 0.5 > warm[there].amax(1).median()


@pytest.mark.parametrize("keyframes", [0, 4, 16])
@pytest.mark.parametrize("shape", [lambda s: s, holed])
def test_single_letters_decode_as_they_do(tok, chain, keyframes, shape):
    tokens = tok.encode(shape(chain), keyframes=keyframes)
    expected, built = tok.decode(tokens, letters_alone=True), tok.decode_soft(hard(tokens), tokens)
    # Decoding rounds steps to a 1/1024 of an Å, which adds up from keyframe to keyframe.
    np.testing.assert_allclose(built.coords.numpy(), expected.coords, atol=0.1)
    assert np.isnan(built.confidence.numpy()).tolist() == np.isnan(expected.bfactor).tolist()
    assert abs(np.nanmean(built.confidence.numpy()) - np.nanmean(expected.bfactor)) < 3
    if keyframes == 0 and shape is not holed:
        torch.testing.assert_close(tok.decode_soft(hard(tokens)).coords, built.coords)


@pytest.mark.parametrize("keyframes", [0, 4, 16])
@pytest.mark.parametrize("target", ["ends", "confidence", "oxygen"])
def test_gradients_are_those_of_finite_differences(tok, chain, keyframes, target):
    tokens = tok.encode(chain, keyframes=keyframes)

    def loss(logits):
        built = tok.decode_soft(logits.softmax(-1), tokens)
        x = built.coords.double()
        if target == "confidence":
            return built.confidence.double().mean()
        return (x[2, 1] - x[-3, 1]).norm() if target == "ends" else (x[11, 3] - x[30, 0]).norm()

    logits = tok.soft(chain).log().clamp(min=-8).requires_grad_()
    loss(logits).backward()
    gradient = logits.grad
    assert not any(weight.grad is not None for weight in tok.network.parameters())
    assert all(weight.requires_grad for weight in tok.network.parameters())
    torch.manual_seed(0)
    ways = [gradient, gradient + gradient.norm() * torch.randn_like(gradient) / 30]
    for way in ways:
        way = way / way.norm()
        with torch.no_grad():
            slope = (loss(logits + 0.02 * way) - loss(logits - 0.02 * way)) / 0.04
        assert float((gradient * way).sum()) == pytest.approx(float(slope), rel=0.02)


def test_two_residues_are_pulled_together(tok, chain):
    tokens = tok.encode(chain, keyframes=16)
    logits = tok.soft(chain).log().clamp(min=-8).requires_grad_()
    optimiser, losses, letters = torch.optim.Adam([logits], 0.2), [], tokens
    for _ in range(12):
        weights, ids = logits.softmax(-1), logits.argmax(-1)
        straight = one_hot(ids, tok.size) + weights - weights.detach()
        ca = tok.decode_soft(straight, tokens).coords[:, 1]
        loss = (ca[5] - ca[50]).norm()
        losses.append(loss.item())
        if losses[-1] == min(losses):
            letters = replace(tokens, ids=ids.numpy())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert min(losses) < losses[0] / 2
    ca = tok.decode(letters).coords[:, 1]
    assert np.linalg.norm(ca[5] - ca[50]) == pytest.approx(min(losses), abs=0.2), "as letters too"


def test_what_is_no_weights_is_refused(tok, chain):
    tokens = tok.encode(chain)
    with pytest.raises(ValueError, match=r"weights of shape \(60, 63\), not \(60, 64\)"):
        tok.decode_soft(hard(tokens)[:, 1:], tokens)
    with pytest.raises(ValueError, match=r"do not sum to 1; give logits\.softmax"):
        tok.decode_soft(torch.randn(60, 64), tokens)
    with pytest.raises(CodebookMismatch, match="the decoder of small"):
        small().decode_soft(hard(tokens), tokens)


def test_nothing_decodes_to_nothing(tok):
    tokens = tok.encode(random_backbone(3))
    none = replace(tokens, ids=np.full(3, -1), keyframes=None)
    assert tok.decode_soft(torch.full((3, 64), 1 / 64), none).coords.isnan().all()
    assert tok.decode_soft(torch.zeros(0, 64)).coords.shape == (0, 4, 3)
    assert tok.alternatives(random_backbone(3)[:0]).codes.shape == (0, 4)
