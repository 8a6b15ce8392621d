"""Out-of-fold predictions of a classifier on frozen features.

One thread computes them, so that the bits do not depend on the number of cores. Several threads would also be slower:
in small products they mostly wait, and two took nine times as long when other work shared the cores.
"""

import numpy as np

from stages.scoring.cross_fitting import assign_folds

SEED = 1  # for the folds
N_COMPONENTS = 500
STRENGTH = 3  # scikit-learn's C, for inputs whose variances sum to 1


def prepare(features: np.ndarray) -> np.ndarray:
    """Return principal components of standardised features, float32 (n_images, n_components), without using labels."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    inputs = StandardScaler().fit_transform(features) / np.sqrt(features.shape[1])
    n_components = min(N_COMPONENTS, *inputs.shape)
    with threadpool_limits(1):
        return PCA(n_components, svd_solver="covariance_eigh").fit_transform(inputs).astype(np.float32)


def predict_out_of_fold(inputs: np.ndarray, labels: np.ndarray, groups: np.ndarray, n_classes: int) -> np.ndarray:
    """Return out-of-fold probabilities: for each fold, those of a logistic regression fitted to the other folds.

    Args:
        inputs: float32, shape (n_images, n_components).
        labels, groups: int, shape (n_images,); the copies of a picture share a group and a fold.
    Returns:
        float64, shape (n_images, n_classes); if all pictures of a class are in one fold, it gets probability 0 there.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    folds, probabilities = assign_folds(labels, groups, SEED), np.zeros((len(labels), n_classes))
    for fold in np.unique(folds):
        held = folds == fold
        with threadpool_limits(1):
            model = LogisticRegression(C=STRENGTH, tol=1e-3).fit(inputs[~held], labels[~held])
            probabilities[np.ix_(held, model.classes_)] = model.predict_proba(inputs[held])
    return probabilities
