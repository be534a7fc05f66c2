"""Equality with vector-quantize-pytorch at equal weights: ids, vectors, gradients, next state."""

import warnings

import pytest
import torch

from protok.quantize import FSQ, LFQ, VQ, ProVQ, ResidualVQ, Schedule, SimVQ

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    theirs = pytest.importorskip("vector_quantize_pytorch")

N, K, D = 300, 32, 8


def sample(d=D, seed=0):
    return torch.randn(1, N, d, generator=torch.Generator().manual_seed(seed))


def both(mine, other, z, atol=1e-5):
    """Outputs of one training step of each, and the gradients at the input, compared."""
    outcomes = []
    for module in (mine, other):
        x = z.clone().requires_grad_()
        out = module.train()(x)
        vectors, ids, loss = (out.z, out.ids, out.loss) if module is mine else tuple(out)[:3]
        weight = torch.randn(z.shape, generator=torch.Generator().manual_seed(9))
        ((vectors * weight).sum() + 100 * loss.sum()).backward()
        outcomes.append((vectors.detach(), ids, loss.detach().sum(), x.grad))
    (a, i, loss, grad), (b, j, expected, reference) = outcomes
    assert torch.equal(i, j.long())
    assert torch.allclose(a, b, atol=atol)
    assert torch.allclose(loss, expected, atol=1e-5)
    assert torch.allclose(grad, reference, atol=1e-4)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_vq(metric):
    other = theirs.VectorQuantize(
        D,
        K,
        use_cosine_sim=metric == "cosine",
        decay=0.9,
        commitment_weight=0.25,
        rotation_trick=False,
        threshold_ema_dead_code=0,
    )
    mine = VQ(K, D, decay=0.9, metric=metric, init_and_revive="none")
    book = other._codebook
    mine.codebook.copy_(book.embed[0])
    mine.sums.copy_(mine.codebook)
    # Their usage counts vectors, ours is about a mean of one.
    book.cluster_size.fill_(N / K)
    book.embed_avg.copy_(book.embed * N / K)
    both(mine, other, sample())
    assert torch.allclose(mine.codebook, book.embed[0], atol=1e-4)
    assert torch.allclose(mine.usage * N / K, book.cluster_size[0], atol=1e-4)
    both(mine, other, sample(seed=1), atol=1e-4)
    z = sample(seed=2)
    assert torch.equal(mine.eval()(z).ids, other.eval()(z)[1])


def test_vq_by_gradient():
    other = theirs.VectorQuantize(
        D,
        K,
        learnable_codebook=True,
        ema_update=False,
        commitment_weight=1.0,
        rotation_trick=False,
        threshold_ema_dead_code=0,
    )
    mine = VQ(K, D, beta=1.0, decay=None, init_and_revive="none")
    mine.codebook.data.copy_(other._codebook.embed[0])
    z = sample()
    out, (_, ids, loss) = mine.train()(z), other.train()(z)
    assert torch.equal(out.ids, ids)
    out.loss.backward()
    loss.sum().backward()
    assert torch.allclose(mine.codebook.grad, other._codebook.embed.grad[0], atol=1e-6)


def test_rotation_trick():
    other = theirs.VectorQuantize(D, K, rotation_trick=True, threshold_ema_dead_code=0)
    mine = ProVQ(VQ(K, D, beta=1.0, init_and_revive="none"), Schedule("none"), "rotation", anchor=False)
    mine.inner.codebook.copy_(other._codebook.embed[0])
    both(mine, other, sample())


def test_simvq():
    other = theirs.SimVQ(D, K, rotation_trick=False)
    mine = SimVQ(K, D, beta=0.25)
    mine.basis.copy_(other.frozen_codebook)
    mine.map.weight.data.copy_(other.code_transform.weight)
    both(mine, other, sample())
    assert torch.allclose(mine.map.weight.grad, other.code_transform.weight.grad, atol=1e-3)


@pytest.mark.parametrize("levels", [[8, 6, 5], [3, 4], [8, 8, 8, 8]])
def test_fsq(levels):
    other, mine = theirs.FSQ(levels), FSQ(levels)
    z = 2 * sample(len(levels))
    vectors, ids = other(z)
    out = mine(z)
    assert torch.equal(out.ids, ids.long()) and torch.allclose(out.z, vectors, atol=1e-6)
    every = torch.arange(mine.size)
    assert torch.allclose(mine.lookup(every), other.indices_to_codes(every[None])[0])
    grads = []
    for module in (mine.train(), other.train()):
        x = z.clone().requires_grad_()
        result = module(x)
        (result.z if module is mine else result[0]).sum().backward()
        grads.append(x.grad)
    assert torch.allclose(*grads, atol=1e-6)


@pytest.mark.parametrize("spherical", [False, True])
def test_lfq(spherical):
    other = theirs.LFQ(
        codebook_size=64, dim=6, entropy_loss_weight=0.1, commitment_loss_weight=0.25, spherical=spherical
    )
    mine = LFQ(6, beta=0.25, entropy=0.1, temperature=1.0, spherical=spherical)
    z = sample(6)
    out, theirs_out = mine.train()(z), other.train()(z, inv_temperature=1.0)
    assert torch.equal(out.ids, theirs_out.indices)
    assert torch.allclose(out.z, theirs_out.quantized, atol=1e-6)
    assert torch.allclose(out.loss, theirs_out.entropy_aux_loss, atol=1e-4)
    every = torch.arange(64)
    assert torch.allclose(mine.lookup(every), other.indices_to_codes(every), atol=1e-6)


def test_residual():
    depth = 3
    other = theirs.ResidualVQ(
        dim=D,
        codebook_size=K,
        num_quantizers=depth,
        decay=0.9,
        rotation_trick=False,
        threshold_ema_dead_code=0,
    )
    mine = ResidualVQ([VQ(K, D, beta=1.0, decay=0.9, init_and_revive="none") for _ in range(depth)], 0.0)
    for level, layer in zip(mine.levels, other.layers, strict=True):
        book = layer._codebook
        level.codebook.copy_(book.embed[0])
        level.sums.copy_(level.codebook)
        book.cluster_size.fill_(N / K)
        book.embed_avg.copy_(book.embed * N / K)
    z = sample()
    vectors, ids, losses = other.train()(z)
    out = mine.train()(z)
    assert torch.equal(out.ids, ids) and torch.allclose(out.z, vectors, atol=1e-5)
    assert torch.allclose(out.loss, losses.sum(), atol=1e-5)
    for level, layer in zip(mine.levels, other.layers, strict=True):
        assert torch.allclose(level.codebook, layer._codebook.embed[0], atol=1e-4)
    vectors, ids, _ = other.eval()(z)
    out = mine.eval()(z)
    assert torch.equal(out.ids, ids) and torch.allclose(out.z, vectors, atol=1e-4)
    prefix = other.get_output_from_indices(torch.cat([ids[..., :2], ids[..., 2:] * 0 - 1], -1))
    assert torch.allclose(mine.lookup(out.ids[..., :2]), prefix, atol=1e-4)
