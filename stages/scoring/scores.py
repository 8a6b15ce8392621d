"""How good class probabilities are: scores as fractions from 0 to 1, and the loss in nats."""

import numpy as np
import pandas as pd

TINY = 1e-12  # the least probability that the loss counts
N_BINS = 15


def score(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Score a split.

    Args:
        labels: int, shape (n_images,).
        probabilities: float, shape (n_images, n_classes); rows sum to 1.
    Returns:
        accuracy, loss (mean cross-entropy), f1_macro, top5_accuracy, ece and n_images; rounded to six decimals.
    """
    right_ones = probabilities[np.arange(len(labels)), labels]
    top5 = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]  # ties as in argmax: the first class wins
    scores = {
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "loss": float(-np.log(np.maximum(right_ones, TINY)).mean()),
        "f1_macro": float(per_class(labels, probabilities)["f1"].mean()),
        "top5_accuracy": float((top5 == labels[:, None]).any(axis=1).mean()),
        "ece": expected_calibration_error(labels, probabilities),
    }
    return {**{name: round(value, 6) for name, value in scores.items()}, "n_images": len(labels)}


def per_class(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return precision, recall, f1 and support of each class; a score without a defined value is 0.

    As scikit-learn's precision_recall_fscore_support, which takes seconds to import.
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


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean gap between confidence and accuracy, over bins of equal width, weighted by their share of the images.

    Source: Guo et al. 2017, with 15 bins.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=N_BINS)  # sums over each bin
    return float(np.abs(gaps).sum() / len(labels))
