"""RMSD, TM-score and lDDT against other programs, worked cases, and a plain TM-score search."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from protok.structure import metrics
from protok.structure.backbone import Backbone, joined
from protok.structure.io.read import read
from protok.testing import exclude, mirrored, moved, random_backbone, random_rotation
from tests.helpers.paths import GOLDEN

SCORES = json.loads((GOLDEN / "metrics_scores.json").read_text())


def of_ca(ca, sequence=None) -> Backbone:
    coords = np.full((len(ca), 4, 3), np.nan, np.float32)
    coords[:, 1] = ca
    return Backbone.from_arrays(coords, sequence)


def noisy(backbone: Backbone, sigma: float, seed: int = 0) -> Backbone:
    noise = np.random.default_rng(seed).normal(0, sigma, backbone.coords.shape)
    return replace(backbone, coords=(backbone.coords + noise).astype(np.float32))


# Other programs -----------------------------------------------------------------------


@pytest.mark.parametrize("name", SCORES)
def test_equals_other_programs(name):
    expected = SCORES[name]
    with np.load(GOLDEN / "metrics_pairs.npz") as pairs:
        model, reference = of_ca(pairs[f"{name}/model"]), of_ca(pairs[f"{name}/reference"])
    scores = metrics.compare(model, reference)
    assert scores.n == expected["n"]
    assert scores.rmsd == pytest.approx(expected["rmsd"], abs=2e-5)
    assert scores.lddt == pytest.approx(expected["lddt"], abs=2e-5)
    # Both searches are heuristic: ours may be the better one, and loses little.
    assert -2e-4 < scores.tm_score - expected["tm_align"] < 2e-3
    per_residue = metrics.lddt(model, reference, per_residue=True)
    assert per_residue == pytest.approx(np.array(expected["lddt_of_residues"]), abs=2e-4)


def test_tm_score_against_tm_align_on_conformational_pairs(shared):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_parquet(shared("structtokenbench/sensitivity.parquet")).set_index("id")
    pairs = pandas.read_parquet(shared("structtokenbench/sensitivity_pairs.parquet"))

    def read(key):
        xyz = np.array(table.xyz[key], np.float32).reshape(-1, 4, 3)
        return Backbone.from_arrays(np.where(xyz == -32768, np.nan, xyz / 100), table.seq[key])

    ours, theirs = [], []
    for pair in pairs.itertuples():
        if not {pair.file1, pair.file2} <= set(table.index):
            continue
        model, reference = read(pair.file1), read(pair.file2)
        if model.sequence == reference.sequence:
            ours.append(metrics.tm_score(model, reference))
            theirs.append(pair.tm2)
    difference = np.array(ours) - np.array(theirs)
    high = np.array(theirs) > 0.95
    assert len(ours) > 90 and high.sum() > 10
    # TM-align may shift the alignment, which only raises its score; but it tries fewer
    # superpositions, so that ours is at times the better one.
    assert difference.max() < 0.02
    assert np.mean(difference < 0.005) > 0.95
    assert np.median(np.abs(difference[high])) < 1e-4
    assert np.abs(difference[high]).max() < 6e-3


def tm_program(x: np.ndarray, y: np.ndarray) -> float:
    """The search of Zhang & Skolnick's TM-score program, loop by loop."""
    n = len(x)
    d0 = max(0.5, 1.24 * np.cbrt(n - 15) - 1.8)
    search = min(max(d0, 4.5), 8.0)

    def superposed(chosen):
        a, b = x[chosen] - x[chosen].mean(0), y[chosen] - y[chosen].mean(0)
        u, _, vt = np.linalg.svd(a.T @ b)
        u[:, -1] *= np.sign(np.linalg.det(u @ vt))
        return np.linalg.norm((x - x[chosen].mean(0)) @ (u @ vt) + y[chosen].mean(0) - y, axis=1)

    def close(distance, cutoff):
        while (distance < cutoff).sum() < 3:
            cutoff += 0.5
        return np.flatnonzero(distance < cutoff)

    best = 0.0
    for size in [n, n // 2, n // 4, n // 8, n // 16, 4]:
        for start in range(n - size + 1) if size >= 4 else ():
            distance = superposed(np.arange(start, start + size))
            chosen = close(distance, search - 1)
            best = max(best, (1 / (1 + (distance / d0) ** 2)).sum() / n)
            for _ in range(20):
                distance = superposed(chosen)
                best = max(best, (1 / (1 + (distance / d0) ** 2)).sum() / n)
                before, chosen = chosen, close(distance, search + 1)
                if np.array_equal(before, chosen):
                    break
    return best


@pytest.mark.parametrize("sigma", [0.5, 3.0, 30.0])
def test_tm_score_equals_a_plain_search(sigma):
    reference = random_backbone(50, seed=1)
    model = moved(noisy(reference, sigma), random_rotation(2), (5.0, 80.0, -20.0))
    expected = tm_program(model.coords[:, 1].astype(float), reference.coords[:, 1].astype(float))
    assert metrics.tm_score(model, reference) == pytest.approx(expected, abs=2e-4)


def test_backbone_rmsd_equals_biotite_and_biopython():
    pytest.importorskip("Bio", reason="needs biopython")
    from Bio.SVDSuperimposer import SVDSuperimposer
    from biotite.structure import rmsd, superimpose

    reference = random_backbone(60, seed=3)
    model = moved(noisy(reference, 1.5), random_rotation(4), (30.0, 0.0, -7.0))
    for atoms, picked in (("CA", slice(1, 2)), ("backbone", slice(0, 3))):
        x = model.coords[:, picked].reshape(-1, 3)
        y = reference.coords[:, picked].reshape(-1, 3)
        deviation = metrics.rmsd(model, reference, atoms=atoms)
        fit = superimpose(y, x)
        fitted = fit[0] if isinstance(fit, tuple) else fit.apply(x)  # biotite 1 or 2
        assert deviation == pytest.approx(rmsd(y, fitted), rel=1e-4)
        superimposer = SVDSuperimposer()
        superimposer.set(y.astype(float), x.astype(float))
        superimposer.run()
        assert deviation == pytest.approx(superimposer.get_rms(), rel=1e-5)


# Worked cases -------------------------------------------------------------------------


def test_a_moved_copy_is_perfect():
    reference = random_backbone(80, seed=5)
    model = moved(reference, random_rotation(6), (100.0, -50.0, 20.0))
    scores = metrics.compare(model, reference)
    assert scores.n == 80
    assert scores.rmsd < 1e-4
    assert scores.tm_score == pytest.approx(1.0, abs=1e-6) and scores.tm_score <= 1.0
    assert scores.lddt == 1.0
    assert metrics.rmsd(model, reference, atoms="backbone") < 1e-4
    assert str(scores) == "80 residues, RMSD 0.00 Å, TM-score 1.000, lDDT 1.000"


def test_scores_do_not_depend_on_position():
    reference = random_backbone(70, seed=7)
    model = noisy(reference, 2.0)
    plain = metrics.compare(model, reference)
    turned = metrics.compare(moved(model, random_rotation(8), (300.0, -900.0, 40.0)), reference)
    assert turned.rmsd == pytest.approx(plain.rmsd, abs=1e-3)
    assert turned.tm_score == pytest.approx(plain.tm_score, abs=1e-3)
    assert turned.lddt == pytest.approx(plain.lddt, abs=2e-3)


def test_mirror_images_do_not_superpose():
    reference = random_backbone(100, seed=9)
    scores = metrics.compare(mirrored(reference), reference)
    assert scores.rmsd > 2.0
    assert scores.tm_score < 0.5
    # Distances know no hand.
    assert scores.lddt == 1.0


def test_rmsd_of_a_stretched_line():
    # Points 0, 3, 6 on 0, 4, 8: best with the middles on each other, 1, 0 and 1 Å off.
    line = np.array([[0.0, 0, 0], [3, 0, 0], [6, 0, 0]])
    assert metrics.rmsd(of_ca(line), of_ca(line * 4 / 3)) == pytest.approx(np.sqrt(2 / 3))


def test_tm_score_counts_the_half_that_fits():
    # The second half lies a kilometre away: half of the residues fit exactly.
    reference = random_backbone(100, seed=10)
    coords = reference.coords.copy()
    coords[50:] += 1e4
    assert metrics.tm_score(replace(reference, coords=coords), reference) == pytest.approx(0.5, abs=1e-4)


def test_tm_score_of_one_displaced_residue():
    # d0 of 115 residues is 1.24 * 100 ** (1/3) - 1.8 = 3.956 Å. The rest fits exactly, so a
    # residue displaced by d0 counts a half, up to the little that tilting the rest can gain.
    d0 = 1.24 * 100 ** (1 / 3) - 1.8
    reference = random_backbone(115, seed=11)
    coords = reference.coords.copy()
    coords[60, 1, 0] += d0
    score = metrics.tm_score(replace(reference, coords=coords), reference)
    assert 114.5 / 115 - 1e-6 <= score < 114.5 / 115 + 5e-4


def test_tm_score_is_normalised_by_the_reference():
    reference = random_backbone(100, seed=12)
    lacking = exclude(reference, range(30, 50))
    assert metrics.tm_score(lacking, reference) == pytest.approx(0.8, abs=1e-6)
    assert metrics.tm_score(reference, lacking) == pytest.approx(1.0, abs=1e-6)


def test_lddt_by_hand():
    # Distances of the reference 3, 4, 5 Å; of the model 3, 7, sqrt(58) = 7.616: off by 0, 3
    # and 2.616, so kept at 4, 1 and 1 of the four thresholds.
    reference = of_ca(np.array([[0.0, 0, 0], [3, 0, 0], [0, 4, 0]]))
    model = of_ca(np.array([[0.0, 0, 0], [3, 0, 0], [0, 7, 0]]))
    assert metrics.lddt(model, reference) == pytest.approx((1 + 0.25 + 0.25) / 3)
    assert metrics.lddt(model, reference, per_residue=True) == pytest.approx([0.625, 0.625, 0.25])


def test_lddt_looks_15_angstroms_far():
    reference = of_ca(np.array([[0.0, 0, 0], [14.9, 0, 0], [0, 0, 15.1]]))
    model = of_ca(np.array([[0.0, 0, 0], [14.9, 0, 0], [0, 0, 99.0]]))
    assert metrics.lddt(model, reference) == 1.0
    scores = metrics.lddt(model, reference, per_residue=True)
    assert scores[0] == scores[1] == 1.0 and np.isnan(scores[2])


# What is missing ----------------------------------------------------------------------


def test_missing_residues_are_those_missing_in_either():
    reference = random_backbone(60, seed=13)
    model = noisy(reference, 1.0)
    kept = np.ones(60, bool)
    kept[[0, 7, 30, 31, 59]] = False
    scores = metrics.compare(exclude(model, [0, 30]), exclude(reference, [7, 31, 59], atoms=1))
    assert scores.n == 55
    assert scores.rmsd == pytest.approx(metrics.rmsd(model[kept], reference[kept]))
    assert scores.lddt == pytest.approx(metrics.lddt(model[kept], reference[kept]))
    scores = metrics.lddt(exclude(model, [0, 30]), reference, per_residue=True)
    assert scores.shape == (60,) and np.flatnonzero(np.isnan(scores)).tolist() == [0, 30]


def test_ca_scores_do_not_need_other_atoms_but_backbone_rmsd_does():
    reference = random_backbone(40, seed=14)
    model = noisy(reference, 1.0)
    without_c = exclude(model, [5, 6], atoms=2)
    assert metrics.compare(without_c, reference) == metrics.compare(model, reference)
    kept = np.delete(np.arange(40), [5, 6])
    assert metrics.rmsd(without_c, reference, "backbone") == pytest.approx(
        metrics.rmsd(model[kept], reference[kept], "backbone")
    )


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5])
def test_tiny(n):
    backbone = random_backbone(max(n, 1), seed=15)[:n]
    scores = metrics.compare(backbone, backbone)
    assert scores.n == n
    if n == 0:
        assert np.isnan([scores.rmsd, scores.tm_score, scores.lddt]).all()
        return
    assert scores.rmsd < 1e-5 and scores.tm_score == pytest.approx(1.0)
    assert np.isnan(scores.lddt) if n == 1 else scores.lddt == 1.0


def test_nothing_in_common_is_nan():
    backbone = random_backbone(10, seed=16)
    model, reference = exclude(backbone, range(5)), exclude(backbone, range(5, 10))
    scores = metrics.compare(model, reference)
    assert scores.n == 0 and np.isnan([scores.rmsd, scores.tm_score, scores.lddt]).all()
    assert np.isnan(metrics.rmsd(model, reference, atoms="backbone"))
    assert np.isnan(metrics.lddt(model, reference, per_residue=True)).all()


def test_all_points_in_one_place_is_no_crash():
    scores = metrics.compare(of_ca(np.ones((20, 3))), random_backbone(20, seed=17))
    assert np.isfinite([scores.rmsd, scores.tm_score, scores.lddt]).all()


@pytest.mark.parametrize("score", [metrics.rmsd, metrics.tm_score, metrics.lddt, metrics.compare])
def test_lengths_must_agree(score):
    with pytest.raises(ValueError, match="model has 10 residues and the reference 12"):
        score(random_backbone(10), random_backbone(12))


def test_unknown_atoms():
    with pytest.raises(ValueError, match="'CA' or 'backbone', not 'all'"):
        metrics.rmsd(random_backbone(5), random_backbone(5), atoms="all")


# Cost ---------------------------------------------------------------------------------


def test_long_chains_in_bounded_memory():
    import tracemalloc

    chain = random_backbone(150, seed=18)
    reference = joined(moved(chain, shift=(60.0 * i, 0, 0)) for i in range(14))
    model = noisy(reference, 3.0)
    tracemalloc.start()
    began = time.process_time()
    scores = metrics.compare(model, reference)
    seconds = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scores.n == 2100 and 0.5 < scores.tm_score < 1
    assert peak < 200e6, f"{peak / 1e6:.0f} MB"
    assert seconds < 20


def test_even_starts_lose_nothing_to_all_starts(monkeypatch):
    # A hinge: the two halves of 500 residues turned against each other.
    reference = joined(moved(random_backbone(125, seed=19 + i), shift=(45.0 * i, 0, 0)) for i in range(4))
    coords = noisy(reference, 1.0).coords
    coords[230:] = coords[230:] @ random_rotation(20).T.astype(np.float32)
    model = replace(reference, coords=coords)
    even = metrics.tm_score(model, reference)
    monkeypatch.setattr(metrics, "_STARTS", 10**9)
    assert even == pytest.approx(metrics.tm_score(model, reference), abs=1e-3)


def test_superpose_moves_chains_together_or_each_onto_its_reference(examples):
    first = read(examples / "7soo.A.pdb")
    second = replace(read(examples / "7vmf.A.cif"), chain=np.full(96, "B"))
    reference = joined([first, second])
    turned = joined(
        [
            moved(first, random_rotation(1), (500.0, 0.0, 9.0)),
            moved(second, random_rotation(2), (0.0, -70.0, 0.0)),
        ]
    )
    turned.coords[3] = np.nan
    back = metrics.superpose(turned, reference, each_chain=True)
    kept = np.arange(len(reference)) != 3
    assert np.allclose(back.coords[kept], reference.coords[kept], atol=2e-3)
    assert np.isnan(back.coords[3]).all()
    assert metrics.rmsd(turned[kept], reference[kept]) > 10
    assert metrics.rmsd(turned[kept], reference[kept], each_chain=True) < 2e-3
    whole = moved(reference, random_rotation(3), (1.0, 2.0, 3.0))
    assert np.allclose(metrics.superpose(whole, reference).coords, reference.coords, atol=2e-3)
    mirror = metrics.superpose(mirrored(first), first)  # never by a reflection
    assert np.linalg.norm(mirror.coords[:, 1] - first.coords[:, 1], axis=1).mean() > 3
    with pytest.raises(ValueError, match="same"):
        metrics.superpose(first, second)


def test_chains_are_compared_together_or_one_by_one(examples):
    """Each mean by itself, chains counting by their residues, and what is printed says which."""
    first = read(examples / "7soo.A.pdb")
    second = replace(read(examples / "7vmf.A.cif"), chain=np.full(96, "B"))
    reference = joined([first, second])
    models = [noisy(first, 0.5), moved(noisy(second, 1.0), random_rotation(2), (60.0, 0.0, 0.0))]
    model = joined(models)
    together, apart = metrics.compare(model, reference), metrics.compare(model, reference, each_chain=True)
    alone = [metrics.compare(m, r) for m, r in zip(models, (first, second), strict=True)]
    n = np.array([89, 96])
    assert apart.rmsd == pytest.approx(np.sqrt((n * [c.rmsd**2 for c in alone]).sum() / n.sum()), abs=1e-4)
    assert apart.tm_score == pytest.approx((n * [c.tm_score for c in alone]).sum() / n.sum(), abs=1e-4)
    assert together.rmsd > 10 > apart.rmsd and together.lddt < apart.lddt
    assert "185 residues of 2 chains superposed together, RMSD" in str(together)
    assert "185 residues of 2 chains superposed one by one, RMSD" in str(apart)
    assert str(alone[0]).startswith("89 residues, RMSD")
