"""How much a score owes to the images that happen to be in the split: 95 % bootstrap intervals."""

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import binom

N_RESAMPLES = 2_000  # of macro F1: their number moves a bound by a twentieth of the standard error, about
MAX_COUNTS = 2_000_000  # at a time: 16 MB
QUANTILES = [0.025, 0.975]


def accuracy_interval(right: np.ndarray) -> list[float]:
    """Return the interval of an accuracy; right is bool, shape (n_images,).

    How many of n resampled images are right is binomial, so that nothing needs to be drawn.
    Source: percentile bootstrap, Efron 1979.
    """
    return (binom.ppf(QUANTILES, len(right), right.mean()) / len(right)).tolist()


def f1_macro_interval(labels: np.ndarray, answers: np.ndarray, seed: int) -> list[float]:
    """Return the interval of macro F1.

    A resample is scored on the classes that occur in it: many lack a class of two images, and to count that as 0
    would shift the interval below the score.

    Args:
        labels, answers: int, shape (n_images,).
        seed: of the bootstrap.
    Source: percentile bootstrap, Efron 1979, of scikit-learn's f1_score(average="macro").
    """
    cells, counts = np.unique(np.stack([labels, answers]), axis=1, return_counts=True)
    random, at_once = np.random.default_rng(seed), max(1, MAX_COUNTS // len(counts))
    scores = [
        f1_macro(cells, random.multinomial(len(labels), counts / len(labels), size=min(at_once, N_RESAMPLES - start)))
        for start in range(0, N_RESAMPLES, at_once)
    ]
    return np.quantile(np.concatenate(scores), QUANTILES).tolist()


def f1_macro(cells: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return macro F1 of confusion matrices, over the classes that occur in each as label or answer.

    Args:
        cells: int, shape (2, n_cells): label and answer.
        counts: int, shape (n_matrices, n_cells): images in them.
    Returns:
        float, shape (n_matrices,).
    Source: as scikit-learn's f1_score(average="macro").
    """
    n_cells, n_classes = cells.shape[1], cells.max() + 1
    actual, answered = (  # which cell counts for which class: (n_cells, n_classes)
        csr_array((np.ones(n_cells), (np.arange(n_cells), classes)), shape=(n_cells, n_classes)) for classes in cells
    )
    right, occurs = counts @ actual.multiply(answered), counts @ (actual + answered)
    return (2 * right / np.maximum(occurs, 1)).sum(axis=1) / (occurs > 0).sum(axis=1)
