"""Kinds of ensembles, with weights fitted on images that no member learnt from."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stages.scoring.cross_entropy import TINY, fit_powers, log, softmax
from stages.scoring.temperatures import fit_temperature, temper

MAX_STEPS = 1000


@dataclass(frozen=True)
class EqualVote:
    """The plain mean of the probabilities: the assignment's ensemble, and the only kind that needs no labels.

    Source: soft voting, as in scikit-learn's VotingClassifier(voting="soft").
    """

    weights: np.ndarray  # (n_models,)

    @classmethod
    def fit(cls, models: np.ndarray, labels: np.ndarray) -> "EqualVote":
        """Give each model the same weight."""
        return cls(np.full(len(models), 1 / len(models)))

    def probabilities(self, models: np.ndarray) -> np.ndarray:
        """Return probabilities (n_images, n_classes) from those of the models (n_models, n_images, n_classes)."""
        return models.mean(axis=0)


@dataclass(frozen=True)
class LinearPool:
    """The weighted mean of tempered probabilities: one confident model can decide alone.

    Source: the linear opinion pool, Stone 1961.
    """

    weights: np.ndarray  # (n_models,), non-negative, sum to 1
    temperatures: np.ndarray  # (n_models,)

    @classmethod
    def fit(cls, models: np.ndarray, labels: np.ndarray) -> "LinearPool":
        """Fit a temperature for each model, then all weights."""
        temperatures = np.array([fit_temperature(each, labels) for each in models])
        return cls(fit_weights(np.stack(list(map(temper, models, temperatures))), labels), temperatures)

    def probabilities(self, models: np.ndarray) -> np.ndarray:
        """Return probabilities (n_images, n_classes) from those of the models (n_models, n_images, n_classes)."""
        return _add(self.weights, map(temper, models, self.temperatures))


@dataclass(frozen=True)
class LogarithmicPool:
    """The product of the probabilities, each to the power of its weight: every model can veto a class.

    Source: the logarithmic opinion pool, Genest and Zidek 1986. The weights may have any sum, so they
        include temperatures.
    """

    weights: np.ndarray  # (n_models,), non-negative

    @classmethod
    def fit(cls, models: np.ndarray, labels: np.ndarray) -> "LogarithmicPool":
        """Find the weights with the smallest cross-entropy on these images; few images keep the weights nearly equal.

        If all weights would be zero, because no member is better than guessing, they are equal.
        """
        weights = fit_powers(models, labels)
        return cls(weights if weights.any() else np.full(len(models), 1 / len(models)))

    def probabilities(self, models: np.ndarray) -> np.ndarray:
        """Return probabilities (n_images, n_classes) from those of the models (n_models, n_images, n_classes)."""
        return softmax(_add(self.weights, map(log, models)))


def _add(weights: np.ndarray, arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Return the weighted sum. Its bits do not depend on the batch size or the processor, as those of `@` do."""
    return sum(weight * array for weight, array in zip(weights, arrays, strict=True))


Vote = EqualVote | LinearPool | LogarithmicPool
VOTES: dict[str, type[Vote]] = {"equal": EqualVote, "linear_pool": LinearPool, "logarithmic_pool": LogarithmicPool}


def fit_weights(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the weights on the simplex whose mean has the smallest cross-entropy on these images.

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
