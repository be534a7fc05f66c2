"""The curriculum: schedules, what is fed at each hardness, resuming, several processes."""

import math
import subprocess
import sys

import pytest
import torch

from protok.quantize import VQ, ProVQ, ResidualVQ, Schedule, build_quantizer
from protok.quantize.curriculum import ESTIMATORS, feed
from protok.quantize.provq import UNTOLD
from tests.helpers.paths import ROOT
from tests.helpers.quantizers import JOINED, trained


def blobs(k: int = 8, n: int = 2000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    centres = 10 * torch.randn(k, 4, generator=g)
    return centres, centres[torch.randint(k, (n,), generator=g)] + 0.1 * torch.randn(n, 4, generator=g)


@pytest.mark.parametrize("kind", ["cosine", "linear", "exponential", "power", "sigmoid"])
def test_schedules_rise_from_0_to_exactly_1(kind):
    s = Schedule(kind, continuous_share=0.2, ramp=0.3)
    values = [s.hardness(i / 100) for i in range(101)]
    assert values[:21] == [0.0] * 21 and values[50:] == [1.0] * 51
    assert values == sorted(values) and 0.2 < s.hardness(0.35) < 0.95


def test_schedule_values():
    assert math.isclose(Schedule("cosine", 0.0, 1.0).hardness(0.25), (1 - math.sqrt(0.5)) / 2)
    assert Schedule("linear", 0.0, 1.0).hardness(0.25) == 0.25
    assert math.isclose(Schedule("exponential", 0.0, 1.0).hardness(0.2), 1 - 1 / math.e)
    assert Schedule("step", 0.3).hardness(0.29) == 0 and Schedule("step", 0.3).hardness(0.3) == 1
    assert Schedule("none").hardness(0.0) == 1


@pytest.mark.parametrize("wrong", [{"kind": "cosin"}, {"continuous_share": 0.9, "ramp": 0.2}])
def test_senseless_schedules_are_refused(wrong):
    with pytest.raises(ValueError, match="cosine|fractions"):
        Schedule(**wrong)


def test_provq_passes_latents_then_anchors_then_hardens():
    torch.manual_seed(0)
    _, z = blobs()
    # So many codes that k-means cannot miss a cluster.
    q = ProVQ(VQ(64, 4), Schedule("cosine", 0.2, 0.4)).train()
    q.progress(0.1)
    out = q(z)
    assert torch.equal(out.z, z) and out.loss == 0 and not q.initialised
    assert q.progress(0.4) == 0.5
    half = q(z)
    assert q.initialised and half.error < 0.05
    discrete = (half.z != z).any(1).float().mean()
    assert 0.4 < discrete < 0.6
    q.progress(0.9)
    codebook = q.inner.codebook.clone()
    full = q(z)
    assert torch.allclose(full.z, codebook[full.ids], atol=1e-5)


def test_ste_mix_moves_part_of_the_way():
    torch.manual_seed(0)
    _, z = blobs()
    q = ProVQ(VQ(8, 4), Schedule("linear", 0.0, 1.0), estimator="ste").train()
    q.progress(0.0)
    q(z)
    q.progress(0.25)
    q._anchor_on_recent()
    codebook = q.inner.codebook.clone()
    out = q(z)
    code = codebook[out.ids]
    share = ((out.z - z) * (code - z)).sum() / (code - z).square().sum()
    assert abs(float(share) - 0.25) < 1e-4


def published_half_way(loss_weight: str) -> tuple[ProVQ, torch.Tensor]:
    """Codes at 0 and 4, in the middle of the ramp, and latents one and two from the first of them."""
    q = ProVQ.published(2, 1, loss_weight=loss_weight).train()
    q.inner.codebook.data = torch.tensor([[0.0], [4.0]])
    q.initialised.fill_(True)
    assert q.progress(0.19) == 0 and q.progress(0.19 + 0.09) == 1
    assert abs(q.progress(0.19 + 0.045) - 0.5) < 1e-6
    return q, torch.tensor([[1.0], [-2.0]], requires_grad=True)


def test_the_published_form_moves_half_way_with_the_gradient_of_the_latent():
    q, z = published_half_way("full")
    out = q(z)
    assert out.ids.tolist() == [0, 0]
    assert torch.allclose(out.z, torch.tensor([[0.5], [-1.0]]), atol=1e-5)
    out.z.sum().backward()
    assert z.grad.tolist() == [[1.0], [1.0]]
    assert q.eval()(z).z.tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(
    ("kind", "all_of_it", "pull"), [("full", 1, 1), ("soft", 0.75, 1), ("ramped", 1, 0.5)]
)
def test_losses_half_way_are_those_computed_by_hand(kind, all_of_it, pull):
    q, z = published_half_way(kind)
    loss = q(z).loss
    # Mean squares of 1 and 2 are 2.5: of the latents times a quarter, of the code times 1.
    assert math.isclose(loss.item(), all_of_it * (0.25 * pull + 1) * 2.5, rel_tol=1e-5)
    loss.backward()
    assert torch.allclose(z.grad, all_of_it * 0.25 * pull * torch.tensor([[1.0], [-2.0]]), atol=1e-5)
    # The code at 0 is drawn to the mean of its latents, that at 4 stays.
    assert torch.allclose(q.inner.codebook.grad, all_of_it * torch.tensor([[1.0], [0.0]]), atol=1e-5)


def test_the_published_form_is_placed_by_kmeans_and_nothing_else():
    torch.manual_seed(0)
    centres, z = blobs()
    q = ProVQ.published(64, 4).train()
    q.progress(0.1)
    q(z)
    q.progress(0.2)
    out = q(z)
    assert out.error < 0.05
    assert q.inner.codebook.requires_grad
    before = q.inner.codebook.clone()
    q.inner.usage.zero_()  # all dead
    q(z)
    assert torch.equal(q.inner.codebook, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("ProVQ(512, 8)", "inner is 512, not a quantizer: give ProVQ(VQ(512, 8)), for example"),
        (
            "ProVQ(VQ(64, 8), 'linear')",
            "schedule is 'linear', not a Schedule: give Schedule('cosine', 0.2, 0.4)",
        ),
    ],
)
def test_what_is_no_quantizer_or_schedule_is_named(call, message):
    # Types are checked before that under pytest.
    done = subprocess.run(
        [sys.executable, "-c", f"from protok.quantize import VQ, ProVQ; {call}"],
        capture_output=True,
        text=True,
    )
    assert done.stderr.strip().endswith(f"TypeError: {message}")


def test_training_without_progress_is_said_once_and_only_then(recwarn):
    _, z = blobs()
    q = ProVQ(VQ(8, 4)).eval()
    q(z)
    for _ in range(UNTOLD):
        q.eval()(z)
        assert not recwarn
        q.train()(z)
    with pytest.warns(UserWarning, match=r"`progress` was never called: hardness is 0"):
        q.eval()(z)
    q(z)
    q.progress(0.1)
    for _ in range(UNTOLD):
        q.train()(z)
    q.eval()(z)
    assert not recwarn


def test_a_name_that_is_no_loss_weight_is_refused():
    with pytest.raises(ValueError, match="loss_weight 'half' is not one of ramped, full, soft"):
        ProVQ(VQ(8, 4), loss_weight="half")


def test_eval_is_hard_whatever_the_hardness():
    _, z = blobs()
    q = ProVQ(VQ(8, 4)).train()
    q(z)
    q.eval()
    out = q(z)
    assert torch.allclose(out.z, q.lookup(out.ids), atol=1e-6)


RESUMED = {
    "bernoulli": lambda: ProVQ(VQ(16, 4), Schedule("cosine", 0.1, 0.5), reservoir=1000),
    "soft": lambda: ProVQ(VQ(16, 4), Schedule("sigmoid", 0.1, 0.5), "soft", reservoir=1000),
    "adaptive": lambda: ProVQ(VQ(16, 4), Schedule("adaptive", 0.4, 0.3), "ste", reservoir=1000),
    "residual": lambda: ProVQ(ResidualVQ([VQ(8, 4), VQ(8, 4)]), Schedule("power"), reservoir=1000),
}


@pytest.mark.parametrize("kind", RESUMED)
def test_a_run_resumed_in_the_ramp_goes_on_bit_for_bit(kind):
    _, z = blobs()

    def steps(q, begin, stop):
        for i in range(begin, stop):
            torch.manual_seed(i)
            q.progress(i / 150)
            last = q(z[torch.randint(len(z), (200,))])
        return last

    torch.manual_seed(1)
    whole, resumed = (RESUMED[kind]().train() for _ in range(2))
    steps(whole, 0, 45)
    assert kind == "adaptive" or 0 < whole.hardness < 1
    resumed.load_state_dict({k: v.clone() for k, v in whole.state_dict().items()})
    # A hundred steps: through the rest of the ramp and into the phase where ids settle.
    a, b = steps(whole, 45, 145), steps(resumed, 45, 145)
    assert torch.equal(a.z, b.z) and torch.equal(a.ids, b.ids) and whole.hardness == 1
    for (key, x), y in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(x, y), key


def test_the_state_of_a_run_under_way_keeps_its_names():
    names = ("hardness", "initialised", "usage", "recent", "seen", "inner.hardness")
    names += ("inner.initialised", "inner.usage", "inner.codebook", "inner.sums")
    assert tuple(ProVQ(VQ(8, 4)).state_dict()) == names


def test_dead_codes_stay_in_the_last_fifth():
    torch.manual_seed(0)
    _, z = blobs()
    moved = {}
    for fraction in (0.5, 0.85):
        q = ProVQ(VQ(16, 4)).train()
        q(z)
        q.progress(0.5)
        q(z)
        q.inner.codebook[0] = q.inner.sums[0] = 1e3
        q.inner.usage[0] = 1e-2
        q.progress(fraction)
        q(z)
        moved[fraction] = bool(q.inner.codebook[0, 0] < 100)
    assert moved == {0.5: True, 0.85: False}


def test_anchoring_can_be_left_out():
    torch.manual_seed(0)
    _, z = blobs()
    q = ProVQ(VQ(16, 4, init_and_revive="none", decay=0.999999), anchor=False).train()
    before = q.inner.codebook.clone()
    q(z)
    q.progress(0.2)
    q(z)
    assert (q.inner.codebook - before).abs().max() < 1e-3


def test_adaptive_waits_while_the_dimension_grows():
    torch.manual_seed(0)

    def start(grows_until):
        q = ProVQ(VQ(8, 6), Schedule("adaptive", 0.6, 0.2), "ste", reservoir=4096).train()
        for i in range(80):
            if q.progress(i / 100) > 0:
                return i / 100
            width = torch.full((6,), 0.1 + 0.9 * min(i / 100 / grows_until, 1.0))
            width[0] = 1.0
            q(torch.randn(4096, 6) * width)
        return None

    assert 0.15 < start(0.2) < 0.36
    assert 0.3 < start(0.4) < 0.56
    assert 0.6 < start(1.2) < 0.63


def test_what_is_fed_between():
    torch.manual_seed(0)
    vq = VQ(8, 4)
    c = torch.randn(200, 4, requires_grad=True)
    q = vq.codes(vq.nearest(c.detach()))
    g = torch.randn(200, 4)
    grad = {}
    for estimator in ESTIMATORS:
        out = feed(vq.table, c, q, 0.3, estimator)
        (grad[estimator],) = torch.autograd.grad(out, c, g)
        if estimator in ("ste", "mix", "rotation"):
            assert torch.allclose(out, c + 0.3 * (q - c), atol=1e-6)
    assert torch.equal(grad["ste"], g) and torch.equal(grad["bernoulli"], g)
    assert torch.allclose(grad["mix"], 0.7 * g)
    # A rotation and a scaling: angles to the vector are kept, lengths in proportion.
    aim = c + 0.3 * (q - c)
    scale = aim.norm(dim=-1) / c.norm(dim=-1)
    assert torch.allclose(grad["rotation"].norm(dim=-1), scale * g.norm(dim=-1), rtol=1e-3)
    along = (g * aim).sum(-1)
    assert torch.allclose((grad["rotation"] * c).sum(-1), along, atol=1e-3)
    soft = feed(vq.table, c, q, 0.999, "soft")
    assert (soft - q).norm(dim=-1).median() < 0.01
    for estimator in ESTIMATORS:
        assert torch.allclose(feed(vq.table, c, q, 1.0, estimator), q, atol=1e-6)


def test_the_true_gradient_reaches_a_codebook_that_learns():
    torch.manual_seed(0)
    vq = VQ(8, 4, decay=None)
    c = torch.randn(20, 4)
    q = vq.codes(vq.nearest(c))
    for estimator, share in (("mix", 0.3), ("ste", 0.0)):
        vq.zero_grad()
        (feed(vq.table, c.requires_grad_(), q, 0.3, estimator).sum() + 0 * q.sum()).backward(
            retain_graph=True
        )
        counts = torch.bincount(vq.nearest(c.detach()), minlength=8)
        assert torch.allclose(vq.codebook.grad[:, 0], share * counts)


SEVERAL = """
import sys, torch
from tests.helpers.quantizers import rank_share, trained
rank, world, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
torch.distributed.init_process_group("gloo", "file://" + store, rank=rank, world_size=world)
torch.save(trained(lambda z, whole=False: rank_share(z, rank, whole)), f"{out}.{rank}")
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_joined_batch(tmp_path):
    path = [str(ROOT)]
    code = f"import sys; sys.path[:0] = {path!r}\n{SEVERAL}"
    arguments = [str(tmp_path / "store"), str(tmp_path / "state")]
    both = [subprocess.Popen([sys.executable, "-c", code, str(rank), "2", *arguments]) for rank in range(2)]
    alone = trained(lambda z, whole=False: z)
    assert [p.wait() for p in both] == [0, 0]
    first, second = (torch.load(f"{arguments[1]}.{rank}", weights_only=True) for rank in range(2))
    for name in JOINED:
        for key in first[name]:
            assert torch.equal(first[name][key], second[name][key]), (name, key)
            error = (first[name][key].double() - alone[name][key].double()).abs().max()
            assert error < 1e-4, (name, key, float(error))


@pytest.mark.parametrize("kind", ["vq", "simvq", "fsq", "lfq"])
def test_a_configuration_builds_every_kind_bare_and_in_a_curriculum(kind):
    bare = build_quantizer(kind, 64, 6, update="gradient")
    inside = build_quantizer("provq", 64, 6, inner=kind, estimator="ste")
    assert type(bare) is type(inside.inner) and isinstance(inside, ProVQ)
    for q in (bare, inside):
        assert (q.size, q.dim) == (64, 6) and q.eval()(torch.randn(5, 6)).ids.shape == (5,)


def test_a_configuration_without_sense_is_refused():
    assert build_quantizer("none", 64, 6) is None
    for wrong, message in (
        ({"kind": "vqq"}, "provq, vq, simvq, fsq, lfq, none"),
        ({"inner": "provq"}, "vq, simvq, fsq, lfq"),
        ({"kind": "fsq", "size": 500}, "power of two"),
        ({"inner": "residual"}, "vq, simvq, fsq, lfq"),
        ({"update": "sometimes"}, "ema, gradient"),
    ):
        with pytest.raises(ValueError, match=message):
            build_quantizer(**{"kind": "provq", "size": 64, "dim": 6, **wrong})
