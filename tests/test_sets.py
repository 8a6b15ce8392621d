"""Sets of classes: which classes they contain, and that they contain the right class as often as requested."""

import numpy as np
import pytest

from stages.doubt.sets import LEVELS, Calibration, calibrate_sets, choose_sets, likelier_mass, measure_sets
from stages.scoring.cross_entropy import softmax

PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]])


def test_the_mass_before_a_class_is_that_of_all_likelier_ones_and_of_equals_the_first_counts_as_likelier():
    expected = [[0, 0.5, 0.8], [0.9, 0, 0.6], [0.5, 0.75, 0]]
    np.testing.assert_allclose(likelier_mass(PROBABILITIES), expected, rtol=0, atol=1e-12)


def test_the_limit_is_the_order_statistic_with_the_finite_sample_correction():
    # right classes with 0, 0.6, 0.75 and 0 before them: of four pictures, 80 % need all of (4 + 1) x 0.8 = 4
    labels, groups = np.array([0, 2, 1, 0]), np.arange(4)
    calibration = calibrate_sets(PROBABILITIES[[0, 1, 2, 0]], labels, groups)
    assert [calibration.limit(level) for level in (0.4, 0.6, 0.8)] == pytest.approx([0, 0.6, 0.75])
    assert calibration.limit(0.81) is None  # this would need a fifth picture
    np.testing.assert_array_equal(choose_sets(PROBABILITIES, 0.6), [[1, 1, 0], [0, 1, 1], [1, 0, 1]])


def test_copies_count_as_one_picture_and_the_worst_of_them_decides():
    labels, groups = np.array([0, 1, 2, 0]), np.array([7, 7, 7, 2])
    assert calibrate_sets(PROBABILITIES[[0, 0, 0, 0]], labels, groups) == Calibration(2, [0.8])


def test_limits_and_sets_are_those_of_mapie_where_its_random_numbers_are_1():
    # mapie 1.6.0, SplitConformalClassifier with APSConformityScore and include_last_label="randomized"
    random = np.random.default_rng(7)
    probabilities = random.dirichlet(np.full(5, 0.6), 60)
    labels = np.array([random.choice(5, p=row) for row in probabilities])
    calibration = calibrate_sets(probabilities[:40], labels[:40], np.arange(40))
    limits = [calibration.limit(level) for level in (0.8, 0.9, 0.95)]
    assert limits == pytest.approx([0.45929601, 0.62020535, 0.75726254], abs=1e-8)
    sizes = [choose_sets(probabilities[40:], limit).sum(axis=1).tolist() for limit in limits]
    assert sizes[0] == [1, 2, 2, 1, 1, 2, 2, 1, 1, 1, 1, 2, 2, 1, 1, 2, 2, 2, 2, 1]
    assert sizes[1] == [2, 3, 2, 1, 2, 3, 2, 2, 2, 2, 2, 2, 3, 2, 1, 2, 2, 3, 2, 2]
    assert sum(sizes[2]) == 54


def simulate(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities of an overconfident model, labels, and groups."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (n, 10))
    labels = (logits + random.gumbel(0, 1, logits.shape)).argmax(axis=1)
    return softmax(3 * logits), labels, np.arange(n)


def test_sets_hold_the_right_class_as_often_as_was_asked_though_the_model_is_too_sure():
    # over calibrations of 199 pictures coverage is k / 200 on average, k = 180, 190 or 198: exactly the level
    covered, (probabilities, labels, _) = [], simulate(2000, 1000)
    of_right = likelier_mass(probabilities)[np.arange(2000), labels]
    for seed in range(100):
        calibration = calibrate_sets(*simulate(199, seed))
        covered.append([(of_right <= calibration.limit(level)).mean() for level in LEVELS])
    error = np.std(covered, axis=0) / 10 + np.sqrt(np.array(LEVELS) * (1 - np.array(LEVELS)) / 2000)
    assert (np.abs(np.mean(covered, axis=0) - LEVELS) < 3 * error).all()


def test_nineteen_of_twenty_measured_shares_lie_in_the_band():
    inside = []
    for seed in range(100):
        row = measure_sets(calibrate_sets(*simulate(99, seed)), *simulate(200, 1000 + seed))["95"]
        inside.append(row["low"] <= row["coverage"] <= row["high"])
    assert 0.91 <= np.mean(inside) <= 0.99


def test_a_level_that_needs_more_calibration_pictures_is_left_out():
    assert list(measure_sets(calibrate_sets(*simulate(98, 1)), *simulate(10, 2))) == ["90", "95"]
    assert list(measure_sets(calibrate_sets(*simulate(99, 1)), *simulate(10, 2))) == ["90", "95", "99"]
