"""What a fitted vote is worth: each image is judged by a vote that was fitted without its fold."""

import numpy as np

from stages.scoring.voting import EqualVote, Vote

N_FOLDS = 5


def cross_fit(kind: type[Vote], models: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return what votes say of images that they were not fitted to: a vote for each fold, fitted to the others.

    Where all images are of one group, and so in one fold, nothing is left to fit a vote to: models count the same.

    Args:
        models: their probabilities, float, shape (n_models, n_images, n_classes).
        labels, groups: int, shape (n_images,); copies have one group.
        seed: of the folds.
    Returns:
        float, shape (n_images, n_classes); rows sum to 1.
    Source: out-of-fold predictions, as scikit-learn's cross_val_predict gives them.
    """
    folds, probabilities = assign_folds(labels, groups, seed), np.empty(models.shape[1:])
    for fold in np.unique(folds):
        held = folds == fold
        vote = (EqualVote if held.all() else kind).fit(models[:, ~held], labels[~held])
        probabilities[held] = vote.probabilities(models[:, held])
    return probabilities


def assign_folds(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Deal the groups of each class out in turn, the largest first: no fold has a copy of another's image.

    A class's shares of the folds differ by its largest group at most, and without copies folds do by one image. Classes
    may be smaller than the number of folds, which scikit-learn's StratifiedGroupKFold warns of.

    Returns:
        int, shape (n_images,), from 0 to N_FOLDS - 1.
    """
    names, first, which, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    by_class = shuffled[np.lexsort((-sizes[shuffled], labels[first][shuffled]))]
    folds = np.empty(len(names), dtype=int)
    folds[by_class] = np.arange(len(names)) % N_FOLDS
    return folds[which]
