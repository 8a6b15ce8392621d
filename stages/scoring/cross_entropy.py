"""The loss that votes and temperatures are fitted by: of products of models' probabilities, each to a power."""

import numpy as np

TINY = 1e-12
MAX_NUMBERS = 20_000  # of a model at a time: they stay in the cache of a core, which is twice as fast


def log(probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithm, of zero that of a tiny number."""
    return np.log(np.maximum(probabilities, TINY))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return rows that sum to 1."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def margins(models: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how much the logarithm of each class exceeds that of the right one.

    Args:
        models: probabilities, float, shape (n_models, n_images, n_classes).
        labels: int, shape (n_images,).
    Returns:
        float, of the same shape.
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
        The loss in nats, which is convex in the weights; and its gradient, float, shape (n_models,).
    """
    n_models, n_images, n_classes = margins.shape
    loss, gradient, at_once = 0.0, np.zeros(n_models), max(1, MAX_NUMBERS // n_classes)
    for start in range(0, n_images, at_once):
        part = margins[:, start : start + at_once].reshape(n_models, -1).astype(float)
        powers = (weights @ part).reshape(-1, n_classes)
        highest = powers.max(axis=1, keepdims=True)
        powers = np.exp(powers - highest)
        sums = powers.sum(axis=1, keepdims=True)
        loss += (np.log(sums) + highest).sum()
        gradient += part @ (powers / sums).ravel()
    return loss / n_images, gradient / n_images
