"""Find the settings of a sweep that are worse than the best one by more than seeds explain."""

from collections.abc import Hashable, Mapping, Sequence
from functools import cache

import numpy as np

MOST_FALSE = 0.05  # share of sweeps of equal settings in which any setting is called worse


def find_behind(rows: Sequence[Mapping[Hashable, float]]) -> np.ndarray:
    """Return which rows are worse than the best by more than noise, corrected for all comparisons together.

    If all rows have the same seeds, the effect of a seed on all rows is removed first.

    Args:
        rows: {seed: score} of each setting; larger is better.
    Returns:
        bool, shape (n_rows,); all False if no setting has two seeds, because the noise is then unknown.
    Source: Tukey's studentized range, as scipy.stats.tukey_hsd; Kramer 1956 if rows have different numbers of seeds;
        with blocks, the residuals of an analysis of variance by rows and seeds.
    """
    scores = [np.array(list(row.values())) for row in rows]
    sizes, means = np.array([len(row) for row in rows]), np.array([row.mean() for row in scores])
    residuals, freedom = np.concatenate(scores) - means.repeat(sizes), int(sizes.sum()) - len(rows)
    if all(row.keys() == rows[0].keys() for row in rows):
        table = np.array([[row[seed] for seed in rows[0]] for row in rows])
        residuals, freedom = table - means[:, None] - table.mean(axis=0) + table.mean(), freedom - len(rows[0]) + 1
    if not freedom:
        return np.zeros(len(rows), bool)
    best, variance = means.argmax(), (residuals**2).sum() / freedom
    return means[best] - means > _find_range(len(rows), freedom) * np.sqrt(variance * (1 / sizes + 1 / sizes[best]) / 2)


@cache  # takes a tenth of a second
def _find_range(n_rows: int, freedom: int) -> float:
    from scipy.stats import studentized_range  # slow import (1 s), not needed for one row

    return studentized_range.isf(MOST_FALSE, n_rows, freedom)
