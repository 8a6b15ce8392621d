"""The loss for fitting ensembles and temperatures: cross-entropy of a product of probabilities, each to a power."""

import numpy as np

TINY = 1e-12
PRIOR_DEVIATION = (
    0.5  # deviation from equal powers: the best of 0.1 to 2 on 10 to 300 images (benchmarks/statistics.py)
)
MAX_NUMBERS = 20_000  # numbers per model at a time: they fit in the cache of a core, which doubles the speed


def log(probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithm; for zero, that of a tiny number."""
    return np.log(np.maximum(probabilities, TINY))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return rows that sum to 1, of logits (..., n_classes)."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def margins(models: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the log-probability of each class minus that of the right class.

    Args:
        models: probabilities, float, shape (n_models, n_images, n_classes).
        labels: int, shape (n_images,).
    Returns:
        float, same shape.
    """
    logits = log(models)
    logits -= logits[:, np.arange(len(labels)), labels, None]
    return logits


def cross_entropy(weights: np.ndarray, margins: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean cross-entropy of the product of the models' probabilities, each to the power of its weight.

    Args:
        weights: float, shape (n_models,).
        margins: float, shape (n_models, n_images, n_classes).
    Returns:
        The loss in nats, which is convex in the weights, and its gradient, float, shape (n_models,).
    """
    n_models, n_images, n_classes = margins.shape
    loss, gradient, at_once = 0.0, np.zeros(n_models), max(1, MAX_NUMBERS // n_classes)
    for start in range(0, n_images, at_once):
        part = margins[:, start : start + at_once].reshape(n_models, -1).astype(float)
        powers = (weights @ part).reshape(-1, n_classes)
        highest = powers.max(axis=1, keepdims=True)
        powers = np.exp(powers - highest)
        sums = powers.sum(axis=-1, keepdims=True)
        loss += (np.log(sums) + highest).sum()
        gradient += part @ (powers / sums).ravel()
    return loss / n_images, gradient / n_images


def fit_powers(models: np.ndarray, labels: np.ndarray, lowest: float = 0) -> np.ndarray:
    """Return the powers with which the product of the models has the smallest cross-entropy on these images.

    On few images that good models all get right, the best powers would be infinite. A prior therefore pulls them
    towards equal powers, with the weight of a handful of images; some hundred images outweigh it.

    Args:
        models: probabilities, float, shape (n_models, n_images, n_classes).
        labels: int, shape (n_images,).
    Returns:
        float, shape (n_models,); from `lowest` to 20.
    Source: ridge regression, Hoerl and Kennard 1970, with a normal prior's strength.
    """
    from scipy.optimize import minimize  # slow import (1 s), not needed to predict

    equal, of_all = np.full(len(models), 1 / len(models)), margins(models, labels)
    strength = 1 / (PRIOR_DEVIATION**2 * len(labels))

    def measure(powers: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = cross_entropy(powers, of_all)
        return loss + strength * ((powers - equal) ** 2).sum() / 2, gradient + strength * (powers - equal)

    return minimize(measure, equal, jac=True, method="L-BFGS-B", bounds=[(lowest, 20)] * len(models)).x
