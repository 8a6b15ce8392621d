"""95 % intervals of scores: how much a score depends on the choice of pictures, with copies taken into account.

They are score intervals, which are useful even if all answers are right. Copies are right or wrong together, so they
count as fewer pictures.
"""

from collections.abc import Iterator

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.stats import t

Z = 1.959964  # quantile of a normal distribution, 95 %, two-sided
TINY = 1e-9
N_RESAMPLES = 2_000  # for macro F1: a bound varies by about a twentieth of the standard error
MAX_COUNTS = 2_000_000  # counts in memory at a time: 16 MB


def accuracy_interval(right: np.ndarray, groups: np.ndarray) -> list[float]:
    """Return the interval of an accuracy.

    Args:
        right: bool, shape (n_images,).
        groups: int, shape (n_images,); copies have one number.
    Source: Wilson 1927.
    """
    return wilson(right.mean(), count_by_groups(right, groups))


def difference_interval(right_a: np.ndarray, right_b: np.ndarray, groups: np.ndarray) -> list[float]:
    """Return the interval of the accuracy difference of two classifiers on the same images.

    Source: Tango 1998.
    """
    differences = right_a.astype(int) - right_b
    n = count_by_groups(differences, groups)
    only_a, only_b = (n * (differences == sign).mean() for sign in (1, -1))

    def exceed(difference: float, z: float) -> float:
        """Return by how much the observed difference exceeds this one by more than z standard errors."""
        linear = (2 * n - only_a + only_b) * difference - only_a - only_b
        rest = difference * (1 - difference)
        likeliest = (np.sqrt(linear**2 + 8 * n * only_b * rest) - linear) / (4 * n)  # share of images with only b right
        return only_a - only_b - n * difference - z * np.sqrt(max(n * (2 * likeliest + rest), 0))

    found = differences.mean()
    return [brentq(exceed, -1, found - TINY, Z), brentq(exceed, found + TINY, 1, -Z)]


def wilson(share: float, n: float) -> list[float]:
    """Return Wilson's interval for a share of n pictures; n may be fractional."""
    middle, reach = share + Z**2 / (2 * n), Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return np.clip([middle - reach, middle + reach] / (1 + Z**2 / n), 0, 1).tolist()


def count_by_groups(values: np.ndarray, groups: np.ndarray) -> float:
    """Return the number of pictures without copies that give the same information on the mean of values (n_images,)."""
    of_groups = np.bincount(np.unique(groups, return_inverse=True)[1], values - values.mean())
    n, variance = len(values), values.var()
    return _count_independent(variance, max((of_groups**2).sum() / n**2, variance / n), groups)


def _count_independent(of_one: float, of_mean: float, groups: np.ndarray) -> float:
    """Return the effective number of pictures: the variance of one picture divided by that of the score.

    One imaginary group is added, because groups whose pictures all happen to be right show no dependence.
    Source: the design effect, Kish 1965; in intervals, Korn and Graubard 1998.
    """
    n_groups = len(groups) ** 2 / (np.unique(groups, return_counts=True)[1] ** 2).sum()  # as if of equal sizes
    return (of_one + 1 / n_groups) / (of_mean + 1 / n_groups**2)


def mean_interval(values: np.ndarray, groups: np.ndarray, doubt: float = 0) -> list[float]:
    """Return the interval of the mean of a value per image, for two groups or more.

    Args:
        values: float, shape (n_images,), unbounded.
        groups: int, shape (n_images,).
        doubt: the value (or its negative) of an imaginary group that is added: equal values do not mean certainty.
    Source: Student's t, with the variance between clusters (Liang and Zeger 1986). On simulated losses it contains the
        truth as often as a bootstrap over groups, and more often for few groups (benchmarks/changes.py).
    """
    which = np.unique(groups, return_inverse=True)[1]
    n, n_groups = len(values), which.max() + 1
    spread = (np.bincount(which, values - values.mean()) ** 2).sum() * n_groups / (n_groups - 1)
    reach = t.ppf(0.975, n_groups - 1) * np.sqrt(spread + (doubt * n / n_groups) ** 2) / n
    return [float(values.mean() - reach), float(values.mean() + reach)]


def f1_macro_interval(labels: np.ndarray, answers: np.ndarray, groups: np.ndarray, seed: int) -> list[float]:
    """Return the interval of macro F1: Wilson's, with bias and variance from a bootstrap over groups of each class.

    Args:
        labels, answers, groups: int, shape (n_images,).
        seed: seed of the bootstrap.
    """
    units, which = np.unique(np.stack([labels, groups]), axis=1, return_inverse=True)
    shape = units.shape[1], max(labels.max(), answers.max()) + 1
    right = csr_array(((labels == answers).astype(float), (which, labels)), shape)
    occurs = csr_array((np.ones(2 * len(which)), (np.tile(which, 2), np.concatenate([labels, answers]))), shape)
    resampled = np.concatenate([f1_macro(counts @ right, counts @ occurs) for counts in _resample(units[0], seed)])
    whole = f1_macro(*(each.sum(axis=0)[None] for each in (right, occurs)))[0]
    score = np.clip(2 * whole - resampled.mean(), 0, 1)
    return wilson(score, _count_independent(score * (1 - score), resampled.var(), groups))


def _resample(classes: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Yield the counts of each group in some of the resamples, float, shape (n_resamples, n_groups).

    Source: Rao and Wu 1988: n - 1 of the n groups of a class are drawn; with n, two groups would vary half too little.
    """
    n_groups, sizes = len(classes), np.bincount(classes)
    drawn = np.repeat(np.arange(len(sizes)), np.maximum(sizes - 1, 0))  # the class of each draw
    first, random, at_once = np.cumsum(sizes) - sizes, np.random.default_rng(seed), max(1, MAX_COUNTS // n_groups)
    for start in range(0, N_RESAMPLES, at_once):
        n = min(at_once, N_RESAMPLES - start)
        taken = first[drawn] + (random.random((n, len(drawn))) * sizes[drawn]).astype(int)
        taken += n_groups * np.arange(n)[:, None]
        counts = np.bincount(taken.ravel(), minlength=n * n_groups).reshape(n, n_groups)
        yield np.where(sizes[classes] > 1, counts * (sizes / np.maximum(sizes - 1, 1))[classes], 1)


def f1_macro(right: np.ndarray, occurs: np.ndarray) -> np.ndarray:
    """Return macro F1, float, shape (n,), over the classes that occur.

    Args:
        right: float, shape (n, n_classes): right answers per class.
        occurs: same shape: how often the class is a label plus how often it is an answer.
    Source: as scikit-learn's f1_score(average="macro").
    """
    return (2 * right / np.maximum(occurs, 1)).sum(axis=1) / (occurs > 0).sum(axis=1)
