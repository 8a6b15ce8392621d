"""How several models vote, with weights fitted on images that none of them learnt from; and scores that stay honest."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.runtime.errors import UserError
from stages.runtime.files import write_json

TINY = 1e-12
MAX_STEPS = 1000
N_FOLDS = 5


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Soften (above 1) or sharpen (below 1) probabilities, (n_images, n_classes), as a softmax temperature does."""
    return softmax(log(probabilities) / temperature)


def log(probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithm, of zero that of a tiny number."""
    return np.log(np.maximum(probabilities, TINY))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return rows that sum to 1."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class EqualVote:
    """The plain mean of the models' probabilities: the assignment's, and all that can be had without labels.

    Source: soft voting, as in scikit-learn's VotingClassifier(voting="soft").
    """

    weights: np.ndarray  # (n_models,)

    @classmethod
    def fit(cls, models: np.ndarray, labels: np.ndarray) -> "EqualVote":
        """Count the models."""
        return cls(np.full(len(models), 1 / len(models)))

    def probabilities(self, models: np.ndarray) -> np.ndarray:
        """Return the vote's probabilities, (n_images, n_classes), from those of the models, with n_models before."""
        return models.mean(axis=0)


@dataclass(frozen=True)
class LinearPool:
    """The weighted mean of tempered probabilities: says so where one model is sure, whatever the others think.

    Source: the linear opinion pool, Stone 1961.
    """

    weights: np.ndarray  # (n_models,), non-negative, sum to 1
    temperatures: np.ndarray  # (n_models,)

    @classmethod
    def fit(cls, models: np.ndarray, labels: np.ndarray) -> "LinearPool":
        """Fit a temperature for each model, then the weights of all."""
        temperatures = np.array([fit_temperature(each, labels) for each in models])
        return cls(fit_weights(np.stack(list(map(temper, models, temperatures))), labels), temperatures)

    def probabilities(self, models: np.ndarray) -> np.ndarray:
        """Return the vote's probabilities, (n_images, n_classes), from those of the models, with n_models before."""
        return np.tensordot(self.weights, np.stack(list(map(temper, models, self.temperatures))), axes=1)


@dataclass(frozen=True)
class LogarithmicPool:
    """The product of the models' probabilities, each to the power of its weight: a class needs every model's consent.

    Source: the logarithmic opinion pool, Genest and Zidek 1986. Weights may have any sum, so that temperatures are
        part of them.
    """

    weights: np.ndarray  # (n_models,), non-negative

    @classmethod
    def fit(cls, models: np.ndarray, labels: np.ndarray) -> "LogarithmicPool":
        """Find the weights with the least cross-entropy on these images: it is convex in them.

        Where every member says less than nothing, so that all would be zero, they are equal.
        """
        from scipy.optimize import minimize  # a second, which an answer of the vote need not wait for

        logits, images = log(models), np.arange(len(labels))

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            pooled = softmax(np.tensordot(weights, logits, axes=1))
            pull = (pooled * logits).sum(axis=2) - logits[:, images, labels]  # (n_models, n_images)
            return -log(pooled[images, labels]).mean(), pull.mean(axis=1)

        start = np.full(len(models), 1 / len(models))
        weights = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, 20)] * len(models)).x
        return cls(weights if weights.any() else start)

    def probabilities(self, models: np.ndarray) -> np.ndarray:
        """Return the vote's probabilities, (n_images, n_classes), from those of the models, with n_models before."""
        return softmax(np.tensordot(self.weights, log(models), axes=1))


Vote = EqualVote | LinearPool | LogarithmicPool
VOTES: dict[str, type[Vote]] = {"equal": EqualVote, "linear_pool": LinearPool, "logarithmic_pool": LogarithmicPool}


def write_vote(path: Path, names: Sequence[str], kind: str, vote: Vote) -> None:
    """Write who votes and how, to the last bit: with the members' model files, all that an answer needs."""
    write_json(path, {"voting": kind, "members": names, **{key: part.tolist() for key, part in vars(vote).items()}})


def read_vote(path: Path) -> tuple[list[str], Vote]:
    """Return the members' names, and the vote that takes their probabilities in that order.

    Raises:
        UserError: there is no such file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro ensemble`") from None
    names, kind = content.pop("members"), content.pop("voting")
    return names, VOTES[kind](**{key: np.array(part) for key, part in content.items()})


def cross_fit(kind: type[Vote], models: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return what votes say of images that they were not fitted to: a vote for each fold, fitted to the others.

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
        vote = (EqualVote if held.all() else kind).fit(models[:, ~held], labels[~held])  # of one image nothing is left
        probabilities[held] = vote.probabilities(models[:, held])
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
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        tempered = temper(probabilities, np.exp(log_temperature))
        return -log(tempered[np.arange(len(labels)), labels]).mean()

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
