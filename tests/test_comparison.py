"""Comparison of classifiers: differences, intervals, p-values and agreement, by hand and compared with libraries."""

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.rates import test_poisson_2indep as compare_counts

from stages.scoring.comparison import compare, compare_pairs, correct_by_holm, flip_signs, measure_agreement


def _answers(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    right_a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    right_b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return right_a, right_b, np.arange(len(right_a))


def test_the_difference_is_that_of_the_accuracies_and_turns_with_the_sides():
    right_a, right_b, groups = _answers(50, 10, 4, 36)
    forth, back = compare(right_a, right_b, groups), compare(right_b, right_a, groups)
    assert (
        forth["accuracy_difference"] == -back["accuracy_difference"] == pytest.approx(0.06)
    )  # (50 + 10) / 100 - (50 + 4) / 100
    assert (forth["low"], forth["high"]) == pytest.approx((-back["high"], -back["low"]))
    assert forth["mcnemar_p"] == back["mcnemar_p"]


def test_mcnemars_p_is_the_exact_two_sided_binomial_one():
    # 1 against 5 of 6 in doubt: 2 * (1 + 6) / 2 ** 6 = 14 / 64
    assert compare(*_answers(10, 1, 5, 10))["mcnemar_p"] == pytest.approx(0.21875, abs=1e-12)
    # 3 against 3
    assert compare(*_answers(10, 3, 3, 10))["mcnemar_p"] == 1


def test_mcnemars_p_is_that_of_statsmodels():
    for both, only_a, only_b, neither in [*np.random.default_rng(1).integers(0, 60, (20, 4)), (9, 0, 7, 9)]:
        theirs = mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue
        ours = compare(*_answers(both, only_a, only_b, neither))["mcnemar_p"]
        assert ours == pytest.approx(theirs, rel=1e-9)


def test_the_mid_p_value_counts_tables_as_likely_as_this_one_half():
    # the example of Fagerland et al. 2013, who have 0.039: 1 against 7 of 8 in doubt, 2 * (1 + 8 / 2) / 2 ** 8
    assert flip_signs(np.repeat([1, -1, 0], [1, 7, 13]), np.arange(21), is_mid=True) == pytest.approx(10 / 256)
    # 3 against 3: 1, less half of 20 / 64
    assert flip_signs(np.repeat([1, -1], [3, 3]), np.arange(6), is_mid=True) == pytest.approx(1 - 10 / 64)
    # whole groups: of the flips below, four of eight are as large, two of each side larger
    assert flip_signs(np.array([1, 1, 1, 0, -1]), np.array([7, 7, 3, 3, 5]), is_mid=True) == pytest.approx(4 / 8)


def test_the_mid_p_value_is_twice_the_one_sided_of_statsmodels():
    for only_a, more in np.random.default_rng(1).integers(1, 30, (20, 2)):
        only_b = only_a + more
        of_sides = [
            compare_counts(only_a, 1, only_b, 1, method="cond-midp", alternative=side).pvalue
            for side in ("smaller", "larger")
        ]
        differences = np.repeat([1, -1], [only_a, only_b])
        assert flip_signs(differences, np.arange(len(differences)), is_mid=True) == pytest.approx(
            2 * min(of_sides), rel=1e-9
        )


def test_a_group_is_flipped_as_a_whole():
    # three groups that differ by 2, 1 and -1: the sums of all eight flips are 4, 2, 2, 0, 0, -2, -2, -4
    assert flip_signs(np.array([1, 1, 1, 0, -1]), np.array([7, 7, 3, 3, 5])) == pytest.approx(6 / 8, abs=1e-12)
    # 5 copies that only one model got right prove no more than one picture
    assert flip_signs(np.ones(5, int), np.zeros(5, int)) == 1
    # 1 and -1 in one group cancel
    assert flip_signs(np.array([1, -1, 1]), np.array([0, 0, 1])) == 1


def test_many_groups_have_the_p_value_of_flips_that_are_drawn():
    random = np.random.default_rng(1)
    differences, groups = random.choice([-1, 0, 1], 300, p=[0.2, 0.5, 0.3]), random.integers(0, 90, 300)
    sums = random.choice([-1, 1], (20_000, 90)) @ np.bincount(groups, differences, 90)
    drawn = (np.abs(sums) >= abs(differences.sum())).mean()
    assert flip_signs(differences, groups) == pytest.approx(drawn, abs=4 * (drawn / 20_000) ** 0.5)


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
    pairs = compare_pairs(right, np.arange(80))
    assert [(pair["a"], pair["b"]) for pair in pairs] == [("vote", "a"), ("vote", "b"), ("a", "b")]
    assert {key: pairs[2][key] for key in ("low", "mcnemar_p")} == {
        key: compare(right["a"], right["b"], np.arange(80))[key] for key in ("low", "mcnemar_p")
    }
    theirs = multipletests([pair["mcnemar_p"] for pair in pairs], method="holm")[1]
    np.testing.assert_allclose([pair["holm_p"] for pair in pairs], theirs, rtol=1e-9)


def test_those_agree_who_answer_alike_right_or_wrong():
    answers = {"a": np.array([0, 1, 2, 2]), "b": np.array([0, 1, 1, 0])}
    assert measure_agreement(answers) == {"a": {"a": 1, "b": 0.5}, "b": {"a": 0.5, "b": 1}}
