"""Codebooks, search and diagnostics; the shared contracts are in protok.testing."""

import subprocess
import sys
import warnings

import pytest
import torch

from protok.quantize import (
    FSQ,
    LFQ,
    VQ,
    CollapseWarning,
    ProVQ,
    ResidualVQ,
    SimVQ,
    diagnose,
    draw,
    effective_dimension,
    fsq_levels,
    kmeans,
    nearest,
    perplexity,
)
from protok.quantize import centres as search


def blobs(k: int = 8, n: int = 2000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    centres = 10 * torch.randn(k, 4, generator=g)
    return centres, centres[torch.randint(k, (n,), generator=g)] + 0.1 * torch.randn(n, 4, generator=g)


def test_nearest_equals_distances_in_any_tile(monkeypatch):
    z, book = torch.randn(50, 6), torch.randn(9, 6)
    book[7] = book[2]
    expected = torch.cdist(z, book).argmin(1)
    assert torch.equal(nearest(z, book), expected)
    for tile in (1, 4, 9, 49):
        monkeypatch.setitem(search.TILE, "cpu", tile)
        assert torch.equal(nearest(z, book), expected)
        assert nearest(z[:0], book).shape == (0,)


def test_kmeans_on_more_centres_than_vectors_is_finite():
    centres, counts = kmeans(torch.randn(5, 3), 16)
    assert centres.shape == (16, 3) and centres.isfinite().all() and (counts > 0).all()


def test_vq_moves_to_the_mean_of_its_latents():
    torch.manual_seed(0)
    vq = VQ(1, 3, decay=0.5, init_and_revive="none").train()
    target = torch.tensor([1.0, -2.0, 3.0])
    for _ in range(40):
        vq(target.expand(10, 3))
    assert torch.allclose(vq.codebook[0], target, atol=1e-4)


def test_respawn_brings_dead_codes_back():
    torch.manual_seed(0)
    _, z = blobs()
    used = {}
    for init_and_revive in ("none", "respawn"):
        vq = VQ(16, 4, decay=0.9, init_and_revive=init_and_revive).train()
        vq.codebook[1:] += 1000
        vq.sums.copy_(vq.codebook)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapseWarning)
            for _ in range(300):
                vq(z[torch.randint(len(z), (256,))])
        used[init_and_revive] = len(vq.eval()(z).ids.unique())
    assert used["none"] <= 2 < 8 <= used["respawn"]


def test_latents_that_are_not_finite_are_refused_and_say_so():
    z = torch.randn(4, 3)
    z[1, 2] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        VQ(4, 3)(z)
    with pytest.raises(ValueError, match="do not end in dim 3"):
        VQ(4, 3)(torch.randn(3, 6))
    mask = torch.tensor([True, False, True, True])
    assert VQ(4, 3)(z, mask).ids.tolist()[1] == -1


KINDS = {
    "vq": lambda: VQ(4, 3),
    "gradient": lambda: VQ(4, 3, decay=None),
    "cosine": lambda: VQ(4, 3, metric="cosine"),
    "simvq": lambda: SimVQ(4, 3, kmeans=True),
    "fsq": lambda: FSQ([3, 4, 5]),
    "lfq": lambda: LFQ(3),
    "lfq-in-groups": lambda: LFQ(11, dim=3),
    "residual": lambda: ResidualVQ([VQ(4, 3), VQ(4, 3)]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1])
def test_nothing_and_one_vector(kind, n):
    for q in (KINDS[kind]().train(), ProVQ(KINDS[kind]()).train()):
        out = q(torch.randn(n, 3))
        assert len(out.ids) == n and out.loss.isfinite()
        assert all(v.isfinite().all() for v in q.state_dict().values())


@pytest.mark.parametrize("n", [1, 3])
def test_a_ramp_that_begins_with_few_vectors_is_finite(n):
    for make in KINDS.values():
        q = ProVQ(make()).train()
        q(torch.randn(n, 3))
        q.progress(0.3)
        out = q(torch.randn(n, 3))
        assert out.z.isfinite().all() and out.loss.isfinite()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: VQ(4, 3, metric="manhattan"), "not one of euclidean, cosine"),
        (lambda: VQ(4, 3, init_and_revive="always"), r"not one of kmeans\+respawn"),
        (lambda: FSQ([8, 2]), "at least 3"),
        (lambda: LFQ(40), "more than"),
        (lambda: ResidualVQ([VQ(4, 3), VQ(8, 3)]), "one size and dimension"),
        (lambda: ResidualVQ([VQ(4, 3)] * 2), "must not share"),
        (lambda: ResidualVQ([VQ(4, 3, metric="cosine")]), "change the residual"),
        (lambda: ProVQ(VQ(4, 3), estimator="half"), "not one of bernoulli"),
        (lambda: ProVQ(FSQ([4, 4]), estimator="soft"), "FSQ has no table"),
        (lambda: ProVQ(ProVQ(VQ(4, 3))), "schedule around a schedule"),
        (lambda: fsq_levels(500), "power of two"),
    ],
)
def test_senseless_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_levels_of_fsq_multiply_to_the_size():
    for bits in range(2, 17):
        levels = fsq_levels(1 << bits)
        assert torch.tensor(levels).prod() == 1 << bits and set(levels) <= {4, 8}


def test_constructors_have_at_most_six_arguments():
    import inspect

    for kind in (VQ, SimVQ, FSQ, LFQ, ResidualVQ, ProVQ):
        assert len(inspect.signature(kind).parameters) <= 6
        assert kind.__doc__


@pytest.mark.slow
def test_many_vectors_are_assigned_in_bounded_memory():
    # Of the process as a whole: what is freed in small pieces may still not be reused.
    code = """
import resource, torch
from protok.quantize import nearest
z, book = torch.randn(200_000, 8), torch.randn(4096, 8)
nearest(z[:5000], book)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(nearest(z, book)) == 200_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # All scores at once would take 3.3 GB; the unit is kB on Linux and bytes on macOS.
    assert int(out.stdout) < 200_000 * (1024 if sys.platform == "darwin" else 1)


def test_a_gradient_codebook_is_moved_by_its_loss_alone():
    torch.manual_seed(0)
    vq = VQ(8, 4, decay=None, init_and_revive="none").train()
    z = torch.randn(50, 4, requires_grad=True)
    before = vq.codebook.detach().clone()
    out = vq(z)
    assert torch.equal(vq.codebook, before)
    (100 * out.z.sum()).backward(retain_graph=True)
    assert vq.codebook.grad is None
    out.loss.backward()
    used = out.ids.unique()
    assert (vq.codebook.grad[used].abs().sum(-1) > 0).all()


def test_simvq_moves_codes_that_no_latent_chose():
    torch.manual_seed(0)
    q = SimVQ(16, 4).train()
    before = q.lookup(torch.arange(16)).detach()
    optimiser = torch.optim.SGD(q.parameters(), 0.1)
    out = q(torch.ones(5, 4))
    out.loss.backward()
    optimiser.step()
    assert ((q.lookup(torch.arange(16)) - before).abs().sum(-1) > 0).all()
    assert len(out.ids.unique()) == 1


def test_lfq_is_even_where_its_entropy_is_wanted():
    torch.manual_seed(0)
    used = {}
    for weight in (0.0, 1.0):
        q = LFQ(4, beta=0.0, entropy=weight, temperature=1.0).train()
        z = torch.nn.Parameter(0.5 + 0.1 * torch.randn(64, 4))
        optimiser = torch.optim.Adam([z], 0.05)
        for _ in range(100):
            optimiser.zero_grad()
            out = q(z)
            (out.loss + 0 * out.z.sum()).backward()
            optimiser.step()
        used[weight] = len(q.assign(z).unique())
    assert used[0.0] <= 2 and used[1.0] >= 12


def test_every_prefix_of_a_residual_decodes_better_than_a_shorter_one():
    torch.manual_seed(0)
    z = torch.randn(600, 6)
    q = ResidualVQ([VQ(16, 6) for _ in range(4)], prefix=0.5).train()
    lengths = set()
    for _ in range(30):
        out = q(z)
        parts = [q.lookup(out.ids[:, : m + 1]) for m in range(4)]
        lengths.add(min(range(4), key=lambda m: float((parts[m] - out.z).square().sum())))
    assert lengths == {0, 1, 2, 3}
    ids = q.eval()(z).ids
    errors = [float((q.lookup(ids[:, :m]) - z).square().mean()) for m in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True) and errors[3] < 0.5 * errors[0]


def test_collapse_is_warned_of_once_and_the_remedy_named():
    torch.manual_seed(0)
    q = VQ(64, 4, decay=0.5, init_and_revive="none").train()
    with pytest.warns(CollapseWarning, match=r"\d of 64 codes.*init_and_revive='kmeans\+respawn'") as seen:
        for _ in range(20):
            q(torch.ones(200, 4))
    assert len(seen) == 1


def test_diagnostics_of_known_latents():
    torch.manual_seed(0)
    centres, z = blobs(8)
    q = VQ(16, 4).train()
    q.codebook[:8], q.codebook[8:] = centres, 1000.0
    state = diagnose(q, z)
    assert state.usage == 0.5 and 7.5 < state.perplexity <= 8 and state.error < 0.01
    assert abs(state.latent_dimension - state.code_dimension) < 0.05
    assert q.training and not q.initialised and (q.usage == 1).all()
    empty = diagnose(q, z[:0])
    assert empty.perplexity == empty.usage == 0
    assert abs(perplexity(torch.tensor([2.0, 2.0, 0.0])) - 2) < 1e-5


def test_diagnostics_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [{"step": i, "hardness": i / 4, "continuous": 0.1, "quantized": 0.3} for i in range(5)]
    path = draw({"cosine": rows, "step": rows[2:]}, tmp_path / "runs.svg")
    text = path.read_text()
    assert "hardness" in text or len(text) > 5000
    with pytest.raises(ValueError, match="no rows"):
        draw({"x": [{"step": 0}]}, path)


def test_effective_dimension():
    torch.manual_seed(0)
    assert abs(effective_dimension(torch.randn(20000, 5)) - 5) < 0.05
    assert abs(effective_dimension(torch.randn(1000, 1) * torch.ones(5)) - 1) < 1e-6


def test_quantize_imports_nothing_of_proteins():
    code = (
        "import sys; from protok.quantize import ProVQ;"
        "print([m for m in sys.modules if m.split('.')[0] in ("
        "'biotite', 'Bio', 'torch_geometric', 'gemmi', 'numba', 'matplotlib') or "
        "m.startswith('protok.') and not m.startswith('protok.quantize')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
