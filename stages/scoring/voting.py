"""The soft vote of several models; its weights and temperatures, where they are fitted; and scores that stay honest."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

TINY = 1e-12
MAX_STEPS = 1000
N_FOLDS = 5


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


@dataclass(frozen=True)
class Vote:
    """A way to vote: a weight and a temperature per model, shapes (n_models,)."""

    weights: np.ndarray
    temperatures: np.ndarray

    def probabilities(self, models: np.ndarray) -> np.ndarray:
        """Return the vote's probabilities, (n_images, n_classes), from those of the models, with n_models before."""
        return soft_vote(np.stack(list(map(temper, models, self.temperatures))), self.weights)


def equal_vote(n_models: int) -> Vote:
    """Return the assignment's vote: the plain mean."""
    return Vote(np.full(n_models, 1 / n_models), np.ones(n_models))


def fit_vote(models: np.ndarray, labels: np.ndarray) -> Vote:
    """Fit a temperature for each model, then the weights of all.

    Args:
        models: their probabilities, float, shape (n_models, n_images, n_classes).
        labels: int, shape (n_images,).
    """
    if not len(labels):  # what is left of one image without itself
        return equal_vote(len(models))
    temperatures = np.array([fit_temperature(each, labels) for each in models])
    return Vote(fit_weights(np.stack(list(map(temper, models, temperatures))), labels), temperatures)


def cross_fit(models: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return what fitted votes say of images that they were not fitted to: a vote for each fold, fitted to the others.

    Args:
        models: their probabilities, float, shape (n_models, n_images, n_classes).
        labels: int, shape (n_images,).
        seed: of the folds.
    Returns:
        float, shape (n_images, n_classes); rows sum to 1.
    Source: out-of-fold predictions, as scikit-learn's cross_val_predict gives them.
    """
    folds, probabilities = assign_folds(labels, seed), np.empty(models.shape[1:])
    for fold in np.unique(folds):
        held = folds == fold
        probabilities[held] = fit_vote(models[:, ~held], labels[~held]).probabilities(models[:, held])
    return probabilities


def assign_folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """Deal the images of each class out in turn: folds, and a class's share of each, differ by one image at most.

    Classes may be smaller than the number of folds, which scikit-learn's StratifiedKFold warns of.

    Returns:
        int, shape (n_images,), from 0 to N_FOLDS - 1.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.empty(len(labels), dtype=int)
    folds[by_class] = np.arange(len(labels)) % N_FOLDS
    return folds


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
