"""Fit a linear head to the features of a frozen backbone: logistic regression instead of epochs."""

import numpy as np
import torch
from torch import nn

N_FOLDS = 3
# scikit-learn's C, for hundreds of standardised features: smaller values underfit, larger ones make no difference
STRENGTHS = (0.003, 0.03, 0.3)
MAX_ITERATIONS = 300
ABSENT = -30.0  # the logit of a class without a training image


def fit_head(head: nn.Sequential, features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> None:
    """Set the head's linear layer to a logistic regression on standardised features.

    Args:
        head: its last layer is its only linear layer.
        features: float32, shape (n_views, n_images, ...): outputs of the backbone.
        labels: int64, shape (n_images,).
        groups: int64, shape (n_images,); the copies of a picture share a number.
    Source: scikit-learn's LogisticRegression, with the penalty that has the smallest cross-validation loss, and
        StandardScaler, which becomes part of the weights.
    """
    from sklearn.preprocessing import StandardScaler

    n_views, layer = len(features), head[-1]
    with torch.no_grad():
        views = [head[:-1].eval()(torch.from_numpy(np.array(view))) for view in features]
    scaler = StandardScaler()
    inputs = scaler.fit_transform(torch.cat(views).numpy())
    best = fit_regression(inputs, np.tile(labels, n_views), np.tile(groups, n_views), np.array(STRENGTHS) / n_views)
    coefficients, intercepts = best.coef_, best.intercept_
    if len(best.classes_) == 2:  # scikit-learn returns only the second class
        coefficients, intercepts = (np.stack([-part[0] / 2, part[0] / 2]) for part in (coefficients, intercepts))
    weights = coefficients / scaler.scale_
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(ABSENT)
        layer.weight[best.classes_] = torch.from_numpy(weights).to(layer.weight)
        layer.bias[best.classes_] = torch.from_numpy(intercepts - weights @ scaler.mean_).to(layer.bias)


def fit_regression(inputs: np.ndarray, targets: np.ndarray, groups: np.ndarray, strengths: np.ndarray):
    """Fit a logistic regression with the strength that has the smallest cross-validation loss; a group is in one fold.

    For each strength, a fold starts from its coefficients for the previous one: three times as fast as separate fits.

    Args:
        inputs: float32, shape (n, n_features).
        strengths: scikit-learn's C, ascending.
    Returns:
        scikit-learn's estimator, fitted to all rows.
    """
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.model_selection import GroupKFold

    n_folds = min(N_FOLDS, len(np.unique(groups)))
    folds = [*GroupKFold(n_folds).split(inputs, targets, groups)] if n_folds > 1 else []
    if not folds or any(np.ptp(targets[learnt]) == 0 for learnt, _ in folds):  # a fold would train on one class only
        return LogisticRegression(C=strengths[0], max_iter=MAX_ITERATIONS).fit(inputs, targets)
    options = {"l1_ratios": (0,), "scoring": "neg_log_loss", "use_legacy_attributes": False}
    return LogisticRegressionCV(Cs=strengths, cv=folds, max_iter=MAX_ITERATIONS, **options).fit(inputs, targets)
