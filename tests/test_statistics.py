"""Intervals, tests and ensembles on a few simulated splits; benchmarks/statistics.py simulates many."""

import numpy as np

from benchmarks.changes import compare_pairs, find_power
from benchmarks.statistics import (
    compare_equals,
    cover_accuracy,
    cover_f1,
    exceed_calibration,
    fit_few,
    star_equals,
)

N_RUNS = 200  # 95 % of them are 190 +- 3


def test_intervals_hold_the_accuracy_of_bursts_which_they_do_not_if_pictures_are_taken_for_independent():
    for burst in (3, 5):
        knowing, not_knowing = cover_accuracy(670, burst, 0.8, N_RUNS)
        assert knowing >= 0.92 > 0.85 > not_knowing
        assert cover_accuracy(100, burst, 0.99, N_RUNS)[0] >= 0.92  # often all answers are right


def test_no_more_than_one_test_in_twenty_finds_what_is_not_there():
    for burst in (3, 5):
        held, rejected, _, rejected_not_knowing = compare_equals(300, burst, 0.3, N_RUNS)
        assert held >= 0.92
        assert rejected <= 0.08 < 0.12 < rejected_not_knowing


def test_intervals_hold_macro_f1_also_of_small_classes():
    for burst in (1, 3):
        assert cover_f1(np.repeat([2, 4, 20], 5), burst, 6, 100) >= 0.9


def test_a_calibrated_model_seldom_exceeds_the_bound():
    assert exceed_calibration(300, 3, N_RUNS) <= 0.05


def test_few_images_of_good_members_cost_the_pool_little_and_many_are_fitted_as_without_a_prior():
    loss, total, of_one = fit_few(30, 3, 0.5, 5)
    free_loss, free_total, _ = fit_few(30, 3, np.inf, 5)
    assert loss < 0.7 * free_loss
    assert total < 3 < free_total
    assert loss < of_one
    (loss, *_), (free_loss, *_) = fit_few(670, 3, 0.5, 2), fit_few(670, 3, np.inf, 2)
    assert abs(loss - free_loss) < 0.003


def test_one_sweep_of_equal_settings_in_twenty_has_a_star():
    assert star_equals(20, 3, 2, 100) <= 0.1


def test_a_comparison_of_two_revisions_that_are_as_good_finds_a_difference_in_one_of_twenty():
    found = compare_pairs(200, 3, (1.0, 1.0), (0, 0), N_RUNS)
    assert min(found["accuracy"], found["loss"]) >= 0.92
    assert found["exact"] <= found["mid_p"] <= 0.08
    over_seeds = compare_pairs(60, 1, (1.0, 1.0), (0, 0), N_RUNS, n_seeds=3)
    assert min(over_seeds["accuracy"], over_seeds["loss"]) >= 0.92
    assert over_seeds["mid_p"] <= 0.08


def test_four_tests_of_five_find_a_difference_on_as_many_pictures_as_it_is_said_to_need():
    assert 0.7 <= find_power(3, (1.0, 1.4), 100)[1] <= 0.9
