"""Temperatures: their effect, calculated by hand, and recovery of a known temperature."""

import numpy as np
import pytest

from stages.scoring.predictions import Predictions
from stages.scoring.temperatures import calibrate, fit_temperature, temper


def test_temperature_is_a_power_of_the_probabilities():
    # temperature 1/2 squares: 9/16 : 1/16 = 0.9 : 0.1; temperature 2 takes roots: 0.9 : 0.1 becomes 3 : 1
    np.testing.assert_allclose(temper(np.array([[0.75, 0.25]]), 0.5), [[0.9, 0.1]], rtol=0, atol=1e-12)
    np.testing.assert_allclose(temper(np.array([[0.9, 0.1]]), 2), [[0.75, 0.25]], rtol=0, atol=1e-12)
    assert np.isfinite(temper(np.array([[1.0, 0.0]]), 20)).all()


@pytest.mark.parametrize("temperature", [0.5, 3])
def test_a_known_temperature_is_found_again(temperature):
    # Three of four images are class 0: the best probability of class 0 is 3/4, odds of 3.
    # With odds of 3 ** t, the temperature t restores them.
    odds = 3.0**temperature
    probabilities = np.tile([odds / (1 + odds), 1 / (1 + odds)], (40_000, 1))
    assert fit_temperature(probabilities, np.arange(40_000) % 4 // 3) == pytest.approx(temperature, rel=1e-3)


def test_the_temperature_of_one_that_is_always_right_or_always_wrong_has_a_bound():
    probabilities = np.tile([0.51, 0.49], (40_000, 1))
    for label, temperature in ((0, 1 / 20), (1, 20)):
        assert fit_temperature(probabilities, np.full(40_000, label)) == pytest.approx(temperature, rel=1e-6)


def test_few_images_leave_the_temperature_near_1():
    # certainty would be the best fit for two right answers. At odds of e ** 2 and the power w = 1.2, the loss falls by
    # 2 / (1 + exp(2.4)) = 0.166 with w, and the prior grows by (1.2 - 1) / (0.25 * 2) = 0.4; at 1.1 by 0.2 each
    probabilities = np.tile([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))], (2, 1))
    assert fit_temperature(probabilities, np.zeros(2, int)) == pytest.approx(1 / 1.1, abs=2e-3)


def test_calibration_is_learnt_on_the_validation_images_and_measured_on_those_of_the_test():
    # at odds of 27, three of four are right in val; odds of 3 would be correct, so the temperature is 3;
    # in test, one of two is right: the error is 27/28 - 1/2 before, and 3/4 - 1/2 after
    val, test = np.tile([27 / 28, 1 / 28], (40_000, 1)), np.tile([27 / 28, 1 / 28], (2, 1))
    labels = np.arange(40_000) % 4 // 3
    found = calibrate(Predictions(val, labels, labels, test, np.array([0, 1]), np.arange(2), None))
    assert found["temperature"] == pytest.approx(3, rel=1e-3)
    assert (found["ece"], found["tempered_ece"]) == pytest.approx((27 / 28 - 1 / 2, 3 / 4 - 1 / 2), abs=1e-4)
    assert found["tempered_ece_bound"] > found["ece_bound"] > found["ece_expected"]
    assert found["bins"] == [{"confidence": pytest.approx(27 / 28, abs=1e-12), "accuracy": 0.5, "n_images": 2}]
    assert found["tempered_bins"][0]["confidence"] == pytest.approx(3 / 4, abs=1e-4)


def test_the_temperature_is_that_of_a_search_over_many():
    random = np.random.default_rng(1)
    probabilities, labels = random.dirichlet(np.full(5, 0.3), 200), random.integers(0, 5, 200)
    probabilities[::2] = 0.9 * np.eye(5)[labels[::2]] + 0.02
    grid = np.geomspace(0.5, 20, 4001)
    losses = [-np.log(temper(probabilities, each)[np.arange(200), labels]).mean() for each in grid]
    losses += (1 / grid - 1) ** 2 / (2 * 0.5**2 * 200)
    assert fit_temperature(probabilities, labels) == pytest.approx(grid[np.argmin(losses)], rel=2e-3)
