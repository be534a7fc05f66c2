"""The probe learns what is there, finds nothing where nothing is, and the same way twice."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from protok.bench import probing
from protok.bench.measures import mlp_probe, reader_probe, samples

TINY = replace(samples.FAST, steps=60, every=15, warmup=5, hidden=16, residues=600, rates=(1e-2, 1e-3))
LINEAR = samples.LINEAR
READER = replace(samples.READER, steps=90, every=15, warmup=5, residues=600, rates=(1e-2, 3e-3))
CODES = 8


def made(kind, proteins, seed, *, shuffled=False, continuous=False, length=40):
    """Samples whose targets follow from the codes, or from nothing."""
    random = np.random.default_rng(seed)
    n = proteins * length
    owner = np.repeat(np.arange(proteins), length)
    ids = random.integers(0, CODES, n)
    level = np.arange(CODES) / CODES
    if kind == "class":
        y = random.integers(0, 3, proteins)
        ids = np.where(random.random(n) < 0.5, np.repeat(y, length), ids)
    elif kind == "site":
        y = (random.random(n) < level[ids] ** 2).astype(np.float32)
    else:
        y = (50 * level[ids] + 5 * random.normal(size=n)).astype(np.float32)
        y[::7] = np.nan
    if shuffled:
        y = random.permutation(y)
    known = np.random.default_rng(9).normal(size=(CODES, 6))
    known[:, 0] = level  # what a linear probe can read
    vectors = torch.from_numpy(np.r_[known, np.zeros((1, 6))].astype(np.float32))
    x = torch.from_numpy(ids)
    return samples.Samples(
        vectors[x] if continuous else x,
        None if continuous else vectors,
        torch.arange(n) % length,
        torch.from_numpy(owner),
        torch.from_numpy(y),
    )


def fitted(kind, settings, **options):
    parts = [made(kind, n, seed, **options) for seed, n in enumerate((60, 20, 40))]
    return probing.fit_probe(kind, parts[0], parts[1], {"test": parts[2]}, 3, settings)


METRIC = {"site": "auroc", "value": "spearman", "class": "macro_f1"}
#: What knowing the code is worth here, and what knowing nothing is.
KNOWING = {"site": 0.8, "value": 0.9, "class": 0.9}
CHANCE = {"site": 0.5, "value": 0.0, "class": 1 / 3}


@pytest.mark.parametrize("settings", [TINY, LINEAR, READER], ids=["mlp", "linear", "reader"])
@pytest.mark.parametrize("kind", METRIC)
def test_what_is_there_is_found(kind, settings):
    score = fitted(kind, settings).scores["test"][METRIC[kind]]
    assert score.value > KNOWING[kind]


@pytest.mark.parametrize("settings", [TINY, LINEAR, READER], ids=["mlp", "linear", "reader"])
@pytest.mark.parametrize("kind", METRIC)
def test_shuffled_labels_are_at_chance(kind, settings):
    score = fitted(kind, settings, shuffled=True).scores["test"][METRIC[kind]]
    assert abs(score.value - CHANCE[kind]) < (0.2 if kind == "class" else 0.08)


@pytest.mark.parametrize("kind", METRIC)
def test_embeddings_that_are_code_vectors_give_the_same_numbers(kind):
    first, second = fitted(kind, TINY), fitted(kind, TINY, continuous=True)
    metric = METRIC[kind]
    assert first.scores["test"][metric].value == second.scores["test"][metric].value


def test_places_count_in_one_regression_and_not_in_the_other():
    parts = [made("site", n, seed) for seed, n in enumerate((60, 20, 40))]
    for part in parts:
        part.y[:] = (part.position < 6).float()  # by place alone
    measured = probing.fit_probe("site", parts[0], parts[1], {"test": parts[2]}, 3, LINEAR).scores["test"]
    assert measured["auroc"].value > 0.95 and measured["auroc_alone"].value < 0.65
    assert measured["auroc_within"].value > 0.95 and measured["auroc_within_alone"].value < 0.65
    assert len(measured["auroc_within_alone"].each) == 40


@pytest.mark.slow
def test_twice_is_the_same_and_another_seed_is_not():
    first, second = fitted("site", TINY), fitted("site", TINY)
    assert first == second
    other = fitted("site", replace(TINY, seeds=(7,)))
    assert other.scores["test"]["auroc"].value != first.scores["test"]["auroc"].value


@pytest.mark.slow
def test_seeds_are_scored_apart_and_averaged():
    first, second = (fitted("site", replace(TINY, seeds=(seed,))) for seed in (1, 2))
    both = fitted("site", replace(TINY, seeds=(1, 2)))
    got, a, b = (fit.scores["test"]["auroc"].value for fit in (both, first, second))
    assert a != b and got == pytest.approx((a + b) / 2)


@pytest.mark.parametrize("select", ["auroc", "f1"])
@pytest.mark.parametrize("label", [0, 1])
def test_a_network_that_nothing_chose_is_not_scored(select, label):
    settings = replace(TINY, select=select)
    parts = [made("site", n, seed) for seed, n in enumerate((60, 20, 40))]
    parts[1].y[:] = label
    with pytest.raises(ValueError, match="labels of validation are of one class"):
        probing.fit_probe("site", parts[0], parts[1], {"test": parts[2]}, 3, settings)


@pytest.mark.slow
def test_a_rate_alone_trains_as_it_does_among_others():
    # Clipping and moments are a rate's own, so its neighbours must not matter.
    alone = fitted("site", replace(TINY, rates=(1e-2,)))
    among = fitted("site", replace(TINY, rates=(1e-2, 1e-12)))
    got, wanted = (f.scores["test"]["auroc"].value for f in (among, alone))
    assert got == pytest.approx(wanted, abs=1e-6)
    assert among.rate == 1e-2


def test_a_rate_that_diverges_is_not_chosen():
    assert fitted("value", replace(TINY, rates=(1e30, 1e-2))).rate == 1e-2


def test_one_step_is_that_of_torch():
    settings = replace(TINY, rates=(1e-3,), warmup=1, dropout=0.0)
    stack = mlp_probe._ProbesByRate(4, 1, settings, torch.Generator().manual_seed(0))
    start = {key: value[0].detach().clone() for key, value in stack.parameters.items()}
    copies = {key: value.clone().requires_grad_() for key, value in start.items()}
    decayed = [copies[key] for key in ("w1", "w2", "position")]
    rest = [copies[key] for key in ("b1", "b2", "scale", "shift")]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}],
        lr=1e-3,
        betas=(0.9, 0.98),
        eps=1e-8,
    )
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        labelled = samples.Samples(x, None, torch.arange(10), torch.zeros(10).long(), torch.zeros(10))
        rows = torch.arange(10)
        out = stack.head(stack.trunk(labelled, rows, stack.parameters, True), stack.parameters, True)
        stack.step(10 * out.square().mean((1, 2)))
        h = torch.nn.functional.layer_norm(x + copies["position"][:10], (4,), eps=1e-12)
        h = torch.relu((h * copies["scale"] + copies["shift"]) @ copies["w1"] + copies["b1"])
        optimiser.zero_grad()
        (10 * (h @ copies["w2"] + copies["b2"]).square().mean()).backward()
        torch.nn.utils.clip_grad_norm_(list(copies.values()), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * mlp_probe.schedule(stack.count, settings)
        optimiser.step()
    for key, value in copies.items():
        torch.testing.assert_close(stack.parameters[key][0], value, rtol=1e-4, atol=1e-6)


def test_paper_protocol_is_the_papers():
    paper = samples.PAPER
    assert (paper.steps, paper.warmup, paper.proteins, paper.domains) == (10_000, 200, 8, 64)
    assert len(paper.rates) == 8 and paper.hidden == 512 and paper.clip == 1.0
    rates = [mlp_probe.schedule(step, paper) for step in (1, 200, 1200, 10_000)]
    assert rates == pytest.approx([1 / 200, 1, 1, 0.1])
    # Once an epoch, batches of 8 proteins, the rest dropped.
    short = replace(paper, steps=14, warmup=2, hidden=8, rates=(1e-2,))
    fit = probing.fit_probe(
        "site", made("site", 60, 0), made("site", 20, 1), {"t": made("site", 9, 2)}, 0, short
    )
    assert fit.steps in (7, 14)


def test_balanced_loss_weighs_both_classes_alike():
    y = torch.tensor([1.0, 0, 0, 0])
    out = torch.zeros(1, 4, 1)
    assert mlp_probe.loss_of("site", out, y).item() == pytest.approx(np.log(2))
    out[0, 0, 0] = -5  # the one positive, quite wrong
    wrong_positive = mlp_probe.loss_of("site", out, y).item()
    out = torch.zeros(1, 4, 1)
    out[0, 1:, 0] = 5  # all three negatives, as wrong
    assert mlp_probe.loss_of("site", out, y).item() == pytest.approx(wrong_positive, rel=1e-4)


def test_a_wide_vector_of_noise_does_not_take_the_place_from_the_linear_probe():
    def wide(proteins, seed):
        random = np.random.default_rng(seed)
        narrow = made("value", proteins, seed, length=30)
        x = random.normal(size=(len(narrow.owner), 200)).astype(np.float32)
        y = narrow.position.float() + torch.from_numpy(random.normal(size=len(x)).astype(np.float32))
        return replace(narrow, x=torch.from_numpy(x), vectors=None, y=y)

    fit = probing.fit_probe("value", wide(12, 0), wide(6, 1), {"test": wide(20, 2)}, 0, LINEAR)
    assert fit.rate == 1e4, "the noise is penalised most"
    assert fit.scores["test"]["spearman"].value > 0.98


def shifted(proteins, seed):
    """A residue is a site where the code four places before it is one of some."""
    of = made("site", proteins, seed)
    before = of.x.roll(4).masked_fill(of.position < 4, 0)
    return replace(of, y=(before > CODES // 2).float())


def test_a_reader_knows_what_stands_elsewhere_in_the_chain_and_a_code_alone_does_not():
    parts = [shifted(n, seed) for seed, n in enumerate((120, 20, 40))]
    longer = replace(READER, steps=200, patience=9, rates=(1e-2,))
    auroc = {
        settings.name: probing.fit_probe("site", *parts[:2], {"test": parts[2]}, 2, settings).scores["test"]
        for settings in (longer, LINEAR)
    }
    assert auroc["reader"]["auroc_within"].value > 0.9
    assert auroc["linear"]["auroc_within"].value < 0.7


def test_a_reader_reads_one_chain_at_a_time():
    reader = reader_probe._Reader(6, 1, 0.2).eval()
    two = made("site", 2, 0)
    x = two.input(torch.arange(80))
    with torch.no_grad():
        # Among others, and padded.
        states = reader(torch.cat([x, x[:7]]), [30, 50, 7])
        for part in (slice(30), slice(30, 80)):
            torch.testing.assert_close(states[part], reader(x[part], [part.stop - (part.start or 0)]))
