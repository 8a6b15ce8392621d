"""Two classifiers on the same images: the difference, its interval, and McNemar's p-value by hand."""

import numpy as np
import pytest

from stages.scoring.comparison import compare


def _answers(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    right_a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    right_b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return right_a, right_b


def test_the_difference_is_that_of_the_accuracies_and_turns_with_the_sides():
    right_a, right_b = _answers(50, 10, 4, 36)
    forth, back = compare(right_a, right_b, seed=1), compare(right_b, right_a, seed=1)
    assert forth["accuracy_difference"] == -back["accuracy_difference"] == 0.06  # (50 + 10) / 100 - (50 + 4) / 100
    assert forth["mcnemar_p"] == back["mcnemar_p"]


def test_mcnemars_p_is_the_exact_two_sided_binomial_one():
    # 1 against 5 of 6 in doubt: 2 * (1 + 6) / 2 ** 6 = 14 / 64
    assert compare(*_answers(10, 1, 5, 10), seed=1)["mcnemar_p"] == 0.21875
    # 3 against 3
    assert compare(*_answers(10, 3, 3, 10), seed=1)["mcnemar_p"] == 1


def test_equal_answers_differ_by_nothing_with_certainty():
    right = np.array([True, False, True])
    assert compare(right, right, seed=1) == {"accuracy_difference": 0, "low": 0, "high": 0, "mcnemar_p": 1}


def test_the_interval_has_the_width_of_a_normal_one_for_many_images():
    # variance of an image's difference: 0.06 + 0.04 - 0.02 ** 2 = 0.0996; 1.96 * sqrt(0.0996 / 1000) = 0.01956
    result = compare(*_answers(500, 60, 40, 400), seed=1)
    assert result["low"] == pytest.approx(0.02 - 0.01956, abs=0.0015)
    assert result["high"] == pytest.approx(0.02 + 0.01956, abs=0.0015)
