"""Test whether one classifier is better than another on the same images."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import binom

from stages.scoring.intervals import difference_interval


def compare(right_a: np.ndarray, right_b: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Compare two classifiers on the same images.

    Args:
        right_a, right_b: bool, shape (n_images,): which answers are right.
        groups: int, shape (n_images,); copies have one number.
    Returns:
        accuracy_difference (a minus b), low and high (its 95 % interval), and mcnemar_p, the exact two-sided p-value
        for the hypothesis that both err equally often.
    """
    low, high = difference_interval(right_a, right_b, groups)
    return {
        "accuracy_difference": float(right_a.mean() - right_b.mean()),
        "low": low,
        "high": high,
        "mcnemar_p": flip_signs(right_a.astype(int) - right_b, groups),
    }


def flip_signs(differences: np.ndarray, groups: np.ndarray, is_mid: bool = False) -> float:
    """Return the two-sided p-value of a sum, if the sign of each group's difference were random.

    Args:
        differences: int, shape (n_images,): 1 if only the first is right, -1 if only the second is right; or sums of
            these over several trainings.
        is_mid: count sums of exactly this size half, which makes the test less conservative.
    Source: the sign-flip test, Fisher 1935, over all flips. Without copies it is McNemar's exact test, or McNemar's
        mid-p test (Fagerland, Lydersen and Laake 2013) if `is_mid`.
    """
    of_groups = np.abs(np.bincount(np.unique(groups, return_inverse=True)[1], differences)).astype(int)
    probabilities = np.ones(
        1
    )  # probabilities of the sums from -k to k; groups that differ by 1, by 2, ... are added in turn
    for size, n in enumerate(np.bincount(of_groups)[1:], start=1):
        of_size = np.zeros(2 * size * n + 1)
        of_size[:: 2 * size] = binom.pmf(np.arange(n + 1), n, 0.5)
        probabilities = np.convolve(probabilities, of_size)
    sums, found = np.abs(np.arange(len(probabilities)) - len(probabilities) // 2), abs(differences.sum())
    p = probabilities[sums >= found].sum() - is_mid * probabilities[sums == found].sum() / 2
    return min(float(p), 1.0)


def compare_pairs(right: Mapping[str, np.ndarray], groups: np.ndarray) -> list[dict[str, Any]]:
    """Compare all pairs of classifiers.

    Args:
        right: {name: bool, shape (n_images,)}.
        groups: int, shape (n_images,).
    Returns:
        A dict per pair: a and b (names), the keys of `compare`, and holm_p, corrected for the number of pairs.
    """
    pairs = [{"a": a, "b": b, **compare(right[a], right[b], groups)} for a, b in combinations(right, 2)]
    corrected = correct_by_holm(np.array([pair["mcnemar_p"] for pair in pairs]))
    return [{**pair, "holm_p": float(p)} for pair, p in zip(pairs, corrected, strict=True)]


def correct_by_holm(p_values: np.ndarray) -> np.ndarray:
    """Correct p-values for several tests: without real differences, any falls below 0.05 in at most 5 % of cases.

    Source: Holm 1979; as statsmodels' multipletests(method="holm").
    """
    order = np.argsort(p_values)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


def measure_agreement(answers: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return for each pair of classifiers the share of images with the same answer, right or wrong."""
    return {a: {b: float((answers[a] == answers[b]).mean()) for b in answers} for a in answers}
