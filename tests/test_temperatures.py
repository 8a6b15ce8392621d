"""Temperatures: what they do, by hand, and that a known one is found again."""

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
    # Four images of which three are class 0: the best probability of class 0 is 3/4, at odds of 3.
    # Given odds of 3 ** t, the temperature t brings them back.
    odds = 3.0**temperature
    probabilities = np.tile([odds / (1 + odds), 1 / (1 + odds)], (4, 1))
    assert fit_temperature(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(temperature, rel=1e-3)


def test_calibration_is_learnt_on_the_validation_images_and_measured_on_those_of_the_test():
    # at odds of 27 three of four are right in val, so that odds of 3 would be, and the temperature is 3;
    # in test one of two is right: the error is 27/28 - 1/2 before, and 3/4 - 1/2 after
    sure = np.array([27 / 28, 1 / 28])
    model = Predictions(np.tile(sure, (4, 1)), np.array([0, 0, 0, 1]), np.tile(sure, (2, 1)), np.array([0, 1]), None)
    found = calibrate(model)
    assert found["temperature"] == pytest.approx(3, rel=1e-3)
    assert (found["ece"], found["tempered_ece"]) == pytest.approx((27 / 28 - 1 / 2, 3 / 4 - 1 / 2), abs=1e-4)
    assert found["bins"] == [{"confidence": pytest.approx(27 / 28, abs=1e-12), "accuracy": 0.5, "n_images": 2}]
    assert found["tempered_bins"][0]["confidence"] == pytest.approx(3 / 4, abs=1e-4)


def test_the_temperature_is_that_of_a_search_over_many():
    random = np.random.default_rng(1)
    probabilities, labels = random.dirichlet(np.full(5, 0.3), 200), random.integers(0, 5, 200)
    probabilities[::2] = 0.9 * np.eye(5)[labels[::2]] + 0.02
    grid = np.geomspace(0.5, 20, 4001)
    losses = [-np.log(temper(probabilities, each)[np.arange(200), labels]).mean() for each in grid]
    assert fit_temperature(probabilities, labels) == pytest.approx(grid[np.argmin(losses)], rel=2e-3)
