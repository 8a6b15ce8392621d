"""The members' class probabilities in, their soft vote out; weights and temperatures fitted where that is asked for."""

import numpy as np
from scipy.optimize import minimize_scalar

TINY = 1e-12
MAX_STEPS = 1000


def soft_vote(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average the models' class probabilities.

    Args:
        probabilities: float, shape (n_models, n_images, n_classes); rows sum to 1.
        weights: float, shape (n_models,); non-negative, sum to 1.
    Returns:
        float, shape (n_images, n_classes); rows sum to 1.
    Raises:
        ValueError: a row, or the weights, do not sum to 1, or a weight is negative.
    Source: soft voting, as in scikit-learn's VotingClassifier(voting="soft").
    """
    if not np.isclose(weights.sum(), 1) or (weights < 0).any():
        raise ValueError(f"expected non-negative weights that sum to 1, found {weights}")
    if not np.allclose(probabilities.sum(axis=2), 1, atol=1e-4):
        raise ValueError("expected probabilities whose rows sum to 1")
    return np.tensordot(weights, probabilities, axes=1)


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Soften (above 1) or sharpen (below 1) probabilities, (n_images, n_classes), as a softmax temperature does."""
    logits = np.log(np.maximum(probabilities, TINY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the least cross-entropy on these images, between 1/20 and 20.

    Source: temperature scaling, Guo et al. 2017.
    """

    def loss(log_temperature: float) -> float:
        tempered = temper(probabilities, np.exp(log_temperature))
        return -np.log(np.maximum(tempered[np.arange(len(labels)), labels], TINY)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-np.log(20), np.log(20)), method="bounded").x))


def fit_weights(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the weights on the simplex whose vote has the least cross-entropy on these images.

    Args:
        probabilities: float, shape (n_models, n_images, n_classes).
        labels: int, shape (n_images,).
    Returns:
        float, shape (n_models,); non-negative, sum to 1.
    Source: expectation-maximisation for the proportions of a mixture; the loss is convex in them, so the limit is
        the optimum from any start.
    """
    right_ones = np.maximum(probabilities[:, np.arange(len(labels)), labels], TINY)  # (n_models, n_images)
    weights = np.full(len(probabilities), 1 / len(probabilities))
    for _ in range(MAX_STEPS):
        shares = weights[:, None] * right_ones
        updated = (shares / shares.sum(axis=0)).mean(axis=1)
        if np.abs(updated - weights).max() < 1e-7:
            break
        weights = updated
    return updated / updated.sum()
