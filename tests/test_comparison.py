"""Classifiers on the same images: differences, intervals, p-values and agreement, by hand and beside the libraries'."""

import numpy as np
import pytest
from scipy.stats import bootstrap
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from stages.scoring.comparison import compare, compare_pairs, correct_by_holm, measure_agreement


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
    assert compare(*_answers(10, 1, 5, 10), seed=1)["mcnemar_p"] == pytest.approx(0.21875, abs=1e-12)
    # 3 against 3
    assert compare(*_answers(10, 3, 3, 10), seed=1)["mcnemar_p"] == 1


def test_mcnemars_p_is_that_of_statsmodels():
    for both, only_a, only_b, neither in [*np.random.default_rng(1).integers(0, 60, (20, 4)), (9, 0, 7, 9)]:
        theirs = mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue
        ours = compare(*_answers(both, only_a, only_b, neither), seed=1)["mcnemar_p"]
        assert ours == pytest.approx(theirs, rel=1e-9)


def test_equal_answers_differ_by_nothing_with_certainty():
    right = np.array([True, False, True])
    assert compare(right, right, seed=1) == {"accuracy_difference": 0, "low": 0, "high": 0, "mcnemar_p": 1}


def test_the_interval_has_the_width_of_a_normal_one_for_many_images():
    # variance of an image's difference: 0.06 + 0.04 - 0.02 ** 2 = 0.0996; 1.96 * sqrt(0.0996 / 1000) = 0.01956
    result = compare(*_answers(500, 60, 40, 400), seed=1)
    assert result["low"] == pytest.approx(0.02 - 0.01956, abs=0.0015)
    assert result["high"] == pytest.approx(0.02 + 0.01956, abs=0.0015)


def test_the_interval_is_scipys_paired_percentile_bootstrap():
    right = np.random.default_rng(1).random((2, 300)) < [[0.7], [0.5]]
    theirs = bootstrap(
        right, lambda a, b, axis: a.mean(axis) - b.mean(axis), paired=True, method="percentile", rng=1
    ).confidence_interval
    ours = compare(*right, seed=1)
    assert (ours["low"], ours["high"]) == pytest.approx((theirs.low, theirs.high), abs=1 / 300)


def test_holm_takes_the_smallest_times_their_number_and_never_lets_a_larger_one_fall_below():
    # 0.01 * 3; 0.03 * 2 = 0.06; 0.04 * 1, which may not be less than the one before; 0.9 * 2 is no probability
    np.testing.assert_allclose(correct_by_holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06], rtol=0, atol=1e-12)
    np.testing.assert_allclose(correct_by_holm(np.array([0.9, 0.95])), [1, 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_tests", [1, 15])
def test_holms_correction_is_that_of_statsmodels(n_tests):
    p_values = np.random.default_rng(1).random(n_tests) ** 3
    p_values[-1] = p_values[0]  # a tie
    np.testing.assert_allclose(correct_by_holm(p_values), multipletests(p_values, method="holm")[1], rtol=1e-9)


def test_every_two_are_compared_once_and_corrected_for_all():
    random = np.random.default_rng(1)
    right = {name: random.random(80) < share for name, share in {"vote": 0.9, "a": 0.8, "b": 0.5}.items()}
    pairs = compare_pairs(right, seed=1)
    assert [(pair["a"], pair["b"]) for pair in pairs] == [("vote", "a"), ("vote", "b"), ("a", "b")]
    assert {key: pairs[2][key] for key in ("low", "mcnemar_p")} == {
        key: compare(right["a"], right["b"], seed=1)[key] for key in ("low", "mcnemar_p")
    }
    theirs = multipletests([pair["mcnemar_p"] for pair in pairs], method="holm")[1]
    np.testing.assert_allclose([pair["holm_p"] for pair in pairs], theirs, rtol=1e-9)


def test_those_agree_who_answer_alike_right_or_wrong():
    answers = {"a": np.array([0, 1, 2, 2]), "b": np.array([0, 1, 1, 0])}
    assert measure_agreement(answers) == {"a": {"a": 1, "b": 0.5}, "b": {"a": 0.5, "b": 1}}
