"""Stars of a sweep: compared with SciPy's Tukey test, and with the common effect of seeds removed."""

import numpy as np
from scipy.stats import tukey_hsd

from stages.scoring.best_set import find_behind


def _name_seeds(scores: np.ndarray, *, shared: bool) -> list[dict]:
    return [{(0 if shared else row, seed): score for seed, score in enumerate(each)} for row, each in enumerate(scores)]


def test_rows_without_common_seeds_are_compared_as_by_tukey():
    random = np.random.default_rng(1)
    for _ in range(5):
        scores = [random.normal(size=size) + shift for size, shift in ((3, 0), (4, 1), (5, 3), (3, 3))]
        best = int(np.argmax([row.mean() for row in scores]))
        theirs = tukey_hsd(*scores).pvalue[best] < 0.05
        assert find_behind(_name_seeds(scores, shared=False)).tolist() == theirs.tolist()


def test_what_a_seed_does_to_all_rows_is_no_noise_between_them():
    # residuals by rows and seeds are +-0.1: variance 8 * 0.01 / ((4 - 1) * (2 - 1)), so that noise is up to
    # 4.5007 (Tukey, two rows, three degrees of freedom) * sqrt(0.02667 / 4) = 0.3675
    noise, seeds = 0.1 * np.array([[1, -1, 1, -1], [-1, 1, -1, 1]]), 10 * np.arange(4)
    for difference, expected in ((0.3, False), (0.4, True)):
        rows = _name_seeds(noise + seeds + np.array([[difference], [0]]), shared=True)
        assert find_behind(rows).tolist() == [False, expected]
        assert find_behind(rows[::-1]).tolist() == [expected, False]
    assert not find_behind(_name_seeds(noise + seeds + np.array([[5], [0]]), shared=False)).any()


def test_one_seed_each_or_one_row_says_nothing():
    assert find_behind([{1: 0.9}, {1: 0.1}]).tolist() == [False, False]
    assert find_behind([{1: 0.9}, {1: 0.1}]).dtype == bool
    assert find_behind([{1: 0.9}, {2: 0.1}]).tolist() == [False, False]
    assert find_behind([{1: 0.9, 2: 0.1}]).tolist() == [False]
