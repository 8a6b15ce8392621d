"""What a fitted vote is worth: each image is judged by a vote that was fitted without its fold."""

from collections.abc import Iterator, Sequence

import numpy as np

from stages.scoring.voting import Vote

N_FOLDS = 5


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
        vote = kind.fit(models[:, ~held], labels[~held])
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


def leave_out(
    kind: type[Vote], names: Sequence[str], models: np.ndarray, labels: np.ndarray, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Give each member's name, and what the vote says without it, cross-fitted; nothing where it is the only one.

    Args:
        names: of the members, in the order of the models.
        models, labels, seed: as of `cross_fit`.
    """
    for i, name in enumerate(names if len(names) > 1 else ()):
        yield name, cross_fit(kind, np.delete(models, i, axis=0), labels, seed)
