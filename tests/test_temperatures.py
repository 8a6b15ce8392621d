"""Temperatures: what they do, by hand, and that a known one is found again."""

import numpy as np
import pytest

from stages.scoring.temperatures import fit_temperature, temper


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
