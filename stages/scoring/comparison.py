"""Whether one classifier is better than another on the same images, or whether the difference is noise."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import binomtest

N_RESAMPLES = 10_000


def compare(right_a: np.ndarray, right_b: np.ndarray, seed: int) -> dict[str, float]:
    """Compare two classifiers on the same images.

    Args:
        right_a, right_b: bool, shape (n_images,): whether each answered right.
        seed: of the bootstrap.
    Returns:
        accuracy_difference (a less b), low and high (its 95 % bootstrap interval over the images), and mcnemar_p,
        the exact two-sided p-value that both err equally often.
    Source: paired bootstrap, Efron 1979; McNemar 1947, exact binomial form.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    n = len(right_a)
    # a resample of n images holds multinomial counts of: only a right, only b right, neither or both
    counts = np.random.default_rng(seed).multinomial(
        n, [only_a / n, only_b / n, 1 - (only_a + only_b) / n], size=N_RESAMPLES
    )
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / n, [0.025, 0.975])
    return {
        "accuracy_difference": (only_a - only_b) / n,
        "low": float(low),
        "high": float(high),
        "mcnemar_p": float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0,
    }


def compare_pairs(right: Mapping[str, np.ndarray], seed: int) -> list[dict[str, Any]]:
    """Compare each classifier with each that comes after it.

    Args:
        right: {name: bool, shape (n_images,)}.
        seed: of the bootstrap.
    Returns:
        A dict a pair: a and b (names), what `compare` says, and holm_p, its p-value corrected for the number of pairs.
    """
    pairs = [{"a": a, "b": b, **compare(right[a], right[b], seed)} for a, b in combinations(right, 2)]
    corrected = correct_by_holm(np.array([pair["mcnemar_p"] for pair in pairs]))
    return [{**pair, "holm_p": float(p)} for pair, p in zip(pairs, corrected, strict=True)]


def correct_by_holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values of which, were no difference real, any falls below 0.05 in one of twenty cases at most.

    Source: Holm 1979; as statsmodels' multipletests(method="holm").
    """
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


def measure_agreement(answers: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return for each two classifiers the share of the images to which they give the same answer, right or wrong."""
    return {a: {b: float((answers[a] == answers[b]).mean()) for b in answers} for a in answers}
