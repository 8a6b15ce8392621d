"""A linear head that is fitted to the features of a frozen backbone: logistic regression instead of epochs."""

import warnings

import numpy as np
import torch
from torch import nn

N_FOLDS = 3
# scikit-learn's C, for standardised features, of which there are hundreds: less learns too little, more changes nothing
STRENGTHS = (0.003, 0.03, 0.3)
MAX_ITERATIONS = 300
ABSENT = -30.0  # the logit of a class without a training image


def fit_head(head: nn.Sequential, features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> None:
    """Set the head's linear layer to a logistic regression on features that are standardised by themselves.

    Args:
        head: ends in the one linear layer that it has.
        features: float32, shape (n_views, n_images, ...), as the backbone gives them.
        labels: int64, shape (n_images,).
        groups: int64, shape (n_images,); the copies of a picture share a number.
    Source: scikit-learn's LogisticRegression, with the penalty of the least cross-validated loss, and StandardScaler,
        which becomes part of the weights.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    n_views, layer = len(features), head[-1]
    with torch.no_grad():
        views = [head[:-1].eval()(torch.from_numpy(np.array(view))) for view in features]
    scaler = StandardScaler()
    inputs = scaler.fit_transform(torch.cat(views).numpy())
    targets, groups = np.tile(labels, n_views), np.tile(groups, n_views)
    candidates = [LogisticRegression(C=strength / n_views, max_iter=MAX_ITERATIONS) for strength in STRENGTHS]
    best = min(candidates, key=lambda candidate: cross_validate(candidate, inputs, targets, groups))
    best.fit(inputs, targets)
    coefficients, intercepts = best.coef_, best.intercept_
    if len(best.classes_) == 2:  # of which scikit-learn gives the second one's only
        coefficients, intercepts = (np.stack([-part[0] / 2, part[0] / 2]) for part in (coefficients, intercepts))
    weights = coefficients / scaler.scale_
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(ABSENT)
        layer.weight[best.classes_] = torch.from_numpy(weights).to(layer.weight)
        layer.bias[best.classes_] = torch.from_numpy(intercepts - weights @ scaler.mean_).to(layer.bias)


def cross_validate(model, inputs: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> float:
    """Return the mean log loss of rows that a model has not seen; all views and copies of a picture are in one fold.

    Returns:
        0 for every model where there are too few groups: without some fold, nothing of a second class would be left.
    """
    from sklearn.model_selection import GroupKFold, cross_val_predict

    n_folds = min(N_FOLDS, len(np.unique(groups)))
    folds = list(GroupKFold(n_folds).split(inputs, targets, groups)) if n_folds > 1 else []
    if not folds or any(np.ptp(targets[learnt]) == 0 for learnt, _ in folds):
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a class of which all images are in one fold gets 0 there
        probabilities = cross_val_predict(model, inputs, targets, cv=folds, method="predict_proba")
    columns = np.unique(targets, return_inverse=True)[1]
    return float(-np.log(probabilities[np.arange(len(columns)), columns].clip(1e-6)).mean())
