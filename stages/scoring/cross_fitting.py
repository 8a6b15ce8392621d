"""Cross-fitting: score each image with an ensemble that was fitted without the fold of the image."""

import numpy as np

from stages.scoring.voting import EqualVote, Vote

N_FOLDS = 5


def cross_fit(kind: type[Vote], models: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return out-of-fold probabilities: for each fold, those of an ensemble fitted to the other folds.

    If all images belong to one group, and so to one fold, nothing is left for fitting: the models get equal weights.

    Args:
        models: probabilities, float, shape (n_models, n_images, n_classes).
        labels, groups: int, shape (n_images,); copies have one group.
        seed: seed of the folds.
    Returns:
        float, shape (n_images, n_classes); rows sum to 1.
    Source: out-of-fold predictions, as from scikit-learn's cross_val_predict.
    """
    folds, probabilities = assign_folds(labels, groups, seed), np.empty(models.shape[1:])
    for fold in np.unique(folds):
        held = folds == fold
        vote = (EqualVote if held.all() else kind).fit(models[:, ~held], labels[~held])
        probabilities[held] = vote.probabilities(models[:, held])
    return probabilities


def assign_folds(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Assign the groups of each class to folds in turn, the largest first; copies are always in one fold.

    The parts of a class differ by at most its largest group; without copies, folds differ by at most one image. Classes
    may be smaller than the number of folds, which scikit-learn's StratifiedGroupKFold warns about.

    Returns:
        int, shape (n_images,), from 0 to N_FOLDS - 1.
    """
    names, first, which, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    by_class = shuffled[np.lexsort((-sizes[shuffled], labels[first][shuffled]))]
    folds = np.empty(len(names), dtype=int)
    folds[by_class] = np.arange(len(names)) % N_FOLDS
    return folds[which]
