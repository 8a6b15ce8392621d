"""Reliability bins and calibration errors, calculated by hand and compared with scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from stages.scoring.calibration import N_BINS, calibration_errors, reliability_bins


def _error(labels: list[int], probabilities: np.ndarray) -> float:
    return calibration_errors(np.array(labels), probabilities, np.arange(len(labels)))["ece"]


def test_gaps_of_opposite_sign_cancel_in_a_bin_but_not_between_bins():
    # 0.7: wrong, +0.7; 0.7: right, -0.3; one bin, so |0.4| in all
    same_bin = np.array([[0.7, 0.3], [0.7, 0.3]])
    assert _error([1, 0], same_bin) == pytest.approx(0.2, abs=1e-12)
    # 0.61: wrong, +0.61; 0.69: right, -0.31; 2/3 = 10/15 lies between them, so 0.92 in all
    two_bins = np.array([[0.61, 0.39], [0.69, 0.31]])
    assert _error([1, 0], two_bins) == pytest.approx(0.46, abs=1e-12)


def test_a_bin_has_the_means_of_its_images_and_an_empty_one_is_left_out():
    # bins are fifteenths: 0.6 to 0.667 holds the first two, of which the second is right; 0.933 to 1 the last two
    probabilities = np.array([[0.61, 0.39], [0.65, 0.35], [0.0, 1.0], [0.05, 0.95]])
    assert reliability_bins(np.array([1, 0, 1, 1]), probabilities) == [
        {"confidence": pytest.approx(0.63, abs=1e-12), "accuracy": 0.5, "n_images": 2},
        {"confidence": pytest.approx(0.975, abs=1e-12), "accuracy": 1, "n_images": 2},
    ]


def test_bins_are_those_of_scikit_learn():
    random = np.random.default_rng(1)
    probabilities, labels = random.dirichlet(np.full(4, 0.5), 300), random.integers(0, 4, 300)
    right = probabilities.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=N_BINS)
    bins = reliability_bins(labels, probabilities)
    np.testing.assert_allclose([each["accuracy"] for each in bins], accuracy, rtol=0, atol=1e-12)
    np.testing.assert_allclose([each["confidence"] for each in bins], confidence, rtol=0, atol=1e-12)
    assert sum(each["n_images"] for each in bins) == 300


def test_the_error_of_a_calibrated_model_is_what_chance_leaves():
    # 100 images, sure to 0.8 and in one bin: the sum of their gaps has variance 16, and so a mean size of 4 * 0.7979;
    # half-normal, its own deviation is 4 * 0.6028
    probabilities, labels = np.tile([0.8, 0.2], (100, 1)), np.zeros(100, int)
    alone = calibration_errors(labels, probabilities, np.arange(100))
    assert alone["ece_expected"] == pytest.approx(0.04 * 0.7979, abs=1e-5)
    assert alone["ece_bound"] == pytest.approx(0.04 * (0.7979 + 1.96 * 0.6028), abs=1e-5)
    # 25 groups of 4 contain as much information as 25 images, whose error is twice as large
    copies = calibration_errors(labels, probabilities, np.arange(100) // 4)
    assert copies["ece_expected"] == pytest.approx(2 * alone["ece_expected"], rel=1e-9)
    assert copies["ece"] == alone["ece"] == pytest.approx(0.2)
