"""Answering only when sure: calculated by hand for six pictures."""

import numpy as np
import pytest

from stages.doubt.selection import accuracy_curve, measure_selection
from stages.scoring.intervals import accuracy_interval

CONFIDENCE = np.array([0.97, 0.6, 0.9, 0.6, 0.97, 0.3])
RIGHT = np.array([True, False, True, True, True, False])


def test_the_curve_takes_equally_sure_pictures_together():
    expected = [[2 / 6, 1], [3 / 6, 1], [5 / 6, 4 / 5], [1, 4 / 6]]
    assert accuracy_curve(CONFIDENCE, RIGHT) == [pytest.approx(point) for point in expected]


def test_the_surest_pictures_have_their_accuracy():
    measured = measure_selection(CONFIDENCE, RIGHT, np.arange(6))
    shares = [(row["at_least"], row["n_images"], row["accuracy"]) for row in measured["surest"]]
    assert shares == [(0.9, 3, 1), (0.6, 5, 0.8), (0.3, 6, 4 / 6), (0.3, 6, 4 / 6)]  # at least these shares
    assert [measured["surest"][0][key] for key in ("low", "high")] == accuracy_interval(np.full(3, True), np.arange(3))
