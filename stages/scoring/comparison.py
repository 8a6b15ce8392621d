"""Whether one classifier is better than another on the same images, or whether the difference is noise."""

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
        "accuracy_difference": round((only_a - only_b) / n, 6),
        "low": round(float(low), 6),
        "high": round(float(high), 6),
        "mcnemar_p": round(float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0, 6),
    }
