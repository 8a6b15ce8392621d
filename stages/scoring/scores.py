"""Scores of class probabilities: fractions from 0 to 1, and the loss in nats."""

import numpy as np
import pandas as pd

from stages.scoring.calibration import calibration_errors
from stages.scoring.cross_entropy import log


def score(labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Score a split.

    Args:
        labels: int, shape (n_images,).
        probabilities: float, shape (n_images, n_classes); rows sum to 1.
        groups: int, shape (n_images,); copies have one number.
    Returns:
        accuracy, loss (mean cross-entropy), f1_macro, top5 (for more than five classes), and the keys
        of `calibration_errors`; rounded to six decimals.
    """
    right_ones = probabilities[np.arange(len(labels)), labels]
    top5 = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]  # ties as in argmax: the first class wins
    scores = {
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "loss": float(-log(right_ones).mean()),
        "f1_macro": float(per_class(labels, probabilities)["f1"].mean()),
        **({"top5": float((top5 == labels[:, None]).any(axis=1).mean())} if probabilities.shape[1] > 5 else {}),
        **calibration_errors(labels, probabilities, groups),
    }
    return {name: round(value, 6) for name, value in scores.items()}


def per_class(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return precision, recall, f1 and support of each class; a score without a defined value is 0.

    Same as scikit-learn's precision_recall_fscore_support, which takes seconds to import.
    """
    n_classes, answers = probabilities.shape[1], probabilities.argmax(axis=1)
    support, answered = np.bincount(labels, minlength=n_classes), np.bincount(answers, minlength=n_classes)
    right = np.bincount(labels[answers == labels], minlength=n_classes)
    columns = {
        "precision": right / np.maximum(answered, 1),
        "recall": right / np.maximum(support, 1),
        "f1": 2 * right / np.maximum(answered + support, 1),
        "support": support,
    }
    return pd.DataFrame(columns)
