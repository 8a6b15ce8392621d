"""Reliability bins and calibration errors, by hand and beside scikit-learn's."""

import numpy as np
import pytest

from stages.scoring.calibration import expected_calibration_error, reliability_bins


def _error(labels: list[int], probabilities: np.ndarray) -> float:
    return expected_calibration_error(reliability_bins(np.array(labels), probabilities))


def test_gaps_of_opposite_sign_cancel_in_a_bin_but_not_between_bins():
    # 0.7: wrong, +0.7; 0.7: right, -0.3; one bin, so |0.4| in all
    same_bin = np.array([[0.7, 0.3], [0.7, 0.3]])
    assert _error([1, 0], same_bin) == pytest.approx(0.2, abs=1e-12)
    # 0.61: wrong, +0.61; 0.69: right, -0.31; 2/3 = 10/15 lies between them, so 0.92 in all
    two_bins = np.array([[0.61, 0.39], [0.69, 0.31]])
    assert _error([1, 0], two_bins) == pytest.approx(0.46, abs=1e-12)
