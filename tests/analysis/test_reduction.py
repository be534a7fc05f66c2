"""Classes of codes: codes that are aligned with the same ones are joined, and information is kept."""

import numpy as np
import pytest

from protok.analysis.reduction import classes_of, merged, mutual_information


def planted(rng, groups=4, each=5, noise=0.02):
    """Codes of a group are aligned with one another, and with others now and then."""
    group = np.repeat(np.arange(groups), each)
    joint = (group[:, None] == group) * rng.uniform(0.5, 1.5, (len(group),) * 2) + noise
    return joint + joint.T, group


def test_information_of_known_tables():
    assert mutual_information(np.eye(8)) == pytest.approx(3)
    assert mutual_information(np.ones((8, 8))) == pytest.approx(0)
    assert mutual_information(np.array([[3.0, 1], [1, 3]])) == pytest.approx(
        1 + 0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)
    )


def test_planted_groups_become_classes():
    joint, group = planted(np.random.default_rng(0))
    classes = classes_of(joint, 4)
    assert len(set(zip(classes.tolist(), group.tolist(), strict=True))) == 4
    assert mutual_information(merged(joint, classes)) > 0.95 * mutual_information(joint)
    assert mutual_information(merged(joint, classes_of(joint, 3))) < 0.85 * mutual_information(joint)
    shares = merged(joint, classes).sum(0)
    assert (np.diff(shares) <= 0).all() and merged(joint, classes).sum() == pytest.approx(joint.sum())


def test_any_number_of_classes():
    joint, _ = planted(np.random.default_rng(1))
    assert sorted(classes_of(joint, 20).tolist()) == list(range(20))
    assert set(classes_of(joint, 1).tolist()) == {0}
    kept = [mutual_information(merged(joint, classes_of(joint, n))) for n in (1, 2, 4, 8, 20)]
    assert kept == sorted(kept) and kept[0] == pytest.approx(0, abs=1e-9)
    for wrong in (0, 21):
        with pytest.raises(ValueError, match="classes of 20 codes"):
            classes_of(joint, wrong)
