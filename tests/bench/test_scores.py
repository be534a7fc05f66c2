"""Scores of the harness against their definitions, and bootstrap errors that can be trusted."""

import numpy as np
import pytest

from protok.bench.measures import scores


def pairs_auroc(score, label):
    """By definition: the share of (positive, negative) pairs in the right order."""
    apart = score[label == 1][:, None] - score[label == 0]
    return float(((apart > 0) + 0.5 * (apart == 0)).mean())


@pytest.mark.parametrize("digits", [8, 1, 0])  # few digits make many ties
def test_auroc_is_the_share_of_pairs_in_order(digits):
    random = np.random.default_rng(digits)
    score = random.normal(size=300).round(digits)
    label = (random.random(300) < 0.2 + 0.3 * (score > 0)).astype(float)
    assert scores.auroc(score, label) == pytest.approx(pairs_auroc(score, label))
    assert scores.auroc(-score, label) == pytest.approx(1 - pairs_auroc(score, label))


def test_auroc_of_one_class_is_unknown():
    assert np.isnan(scores.auroc(np.arange(3.0), np.ones(3)))


def test_spearman_is_the_correlation_of_midranks():
    x, y = np.array([1.0, 2, 2, 4, 9]), np.array([3.0, 1, 5, 5, 8])
    ranks = np.array([1, 2.5, 2.5, 4, 5]), np.array([2, 1, 3.5, 3.5, 5])
    assert scores.spearman(x, y) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert np.isnan(scores.spearman(np.full(5, 0.1), y))


def test_macro_f1_counts_every_class_alike():
    label = np.array([0, 0, 0, 0, 1, 2])
    predicted = np.array([0, 0, 0, 1, 1, 1])
    f1 = [6 / 7, 2 * 1 / (3 + 1), 0.0]
    assert scores.macro_f1(predicted, label) == pytest.approx(np.mean(f1))


def test_weights_are_repetitions():
    random = np.random.default_rng(3)
    score, label = random.normal(size=60).round(1), (random.random(60) < 0.4).astype(float)
    weight = random.integers(0, 4, 60)
    ranks = scores._Ranks(score)
    repeated = scores.auroc(np.repeat(score, weight), np.repeat(label, weight))
    assert scores._auroc(ranks, label, weight.astype(float)) == pytest.approx(repeated)
    other = random.normal(size=60).round(1)
    got = scores._weighted_spearman(ranks, scores._Ranks(other), weight.astype(float))
    wanted = scores.spearman(np.repeat(score, weight), np.repeat(other, weight))
    assert got == pytest.approx(wanted)


def test_standard_error_counts_proteins_not_residues():
    # Residues of a protein are copies of one another: the error is that of 40 proteins.
    random = np.random.default_rng(0)
    label = (np.arange(40) % 2).astype(float)
    score = random.normal(size=40) + label
    once = scores.site_scores(score, label, np.arange(40))["auroc"]
    many = (np.repeat(x, 50) for x in (score, label, np.arange(40)))
    copies = scores.site_scores(*many)["auroc"]
    assert copies.value == pytest.approx(once.value)
    assert copies.se == pytest.approx(once.se)
    # Hanley & McNeil's error of an area of 0.76 with 20 + 20 is 0.075.
    assert 0.04 < once.se < 0.12


def test_parity_is_the_mean_over_batches_of_eight_proteins():
    random = np.random.default_rng(1)
    protein = np.repeat(np.arange(20), 30)
    label = (random.random(600) < 0.2).astype(float)
    score = random.normal(size=600) + label + 10 * (protein // 8)  # batches differ in level
    got = scores.site_scores(score, label, protein)["auroc"]
    parts = [protein // 8 == i for i in range(3)]
    assert got.parity == pytest.approx(np.mean([scores.auroc(score[p], label[p]) for p in parts]))
    assert got.parity > got.value + 0.02


def test_what_tells_proteins_apart_says_nothing_within_them():
    random = np.random.default_rng(2)
    protein = np.repeat(np.arange(30), 40)
    label = (random.random(1200) < 0.05 + 0.4 * (protein % 2)).astype(float)
    label[protein == 7] = 0
    level = scores.site_scores(100.0 * (protein % 2) + random.normal(size=1200), label, protein)
    assert level["auroc"].value > 0.65 and abs(level["auroc_within"].value - 0.5) < 0.05
    told = scores.site_scores(label + 3 * random.normal(size=30)[protein], label, protein)["auroc_within"]
    assert told.value == 1 and told.each[7] is None and set(told.each) == {None, 1.0}
    assert len(told.each) == 30 and told.se == 0


def test_a_protein_without_labels_counts_for_nothing():
    random = np.random.default_rng(0)
    score, label = random.normal(size=(2, 60))
    measured = scores.value_scores(score, label, np.repeat([0, 2], 30))
    each = [scores.spearman(score[part], label[part]) for part in (slice(30), slice(30, 60))]
    assert measured["spearman_per_protein"].value == pytest.approx(np.mean(each))
    assert measured["spearman_per_protein"].each == [round(each[0], 5), None, round(each[1], 5)]


def test_a_ratio_of_sums_and_its_error():
    score = scores.ratio_of([1, 3], [2, 2])
    # A resample has the first, the second or both: 1/2, 3/2 or 1, at odds of 1 to 1 to 2.
    assert score.value == 1 and score.se == pytest.approx(np.sqrt(1 / 8), rel=0.15)
    assert scores.ratio_of([2, 4], [1, 2]).se == 0
    assert np.isnan(scores.ratio_of([0], [0]).value)
    assert scores.values({"a": {"b": score}, "c": 3}) == {"a": {"b": 1}, "c": 3}
