"""Calibration: reliability bins, and the expected calibration error."""

from typing import Any

import numpy as np

N_BINS = 15
Z = 1.959964  # quantile of a normal distribution, exceeded in one case of forty


def reliability_bins(labels: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Compare confidence with accuracy in bins of equal width; empty bins are left out.

    Args:
        labels: int, shape (n_images,).
        probabilities: float, shape (n_images, n_classes); rows sum to 1.
    Returns:
        A dict per bin, lowest confidence first: confidence and accuracy (means over its images), n_images.
    Source: reliability diagrams, as scikit-learn's calibration_curve, which takes seconds to import.
    """
    confidence, bins = _find_bins(probabilities)
    right = probabilities.argmax(axis=1) == labels
    counts, sure, correct = (np.bincount(bins, weights) for weights in (None, confidence, right))
    return [
        {
            "confidence": float(sure[i] / counts[i]),
            "accuracy": float(correct[i] / counts[i]),
            "n_images": int(counts[i]),
        }
        for i in np.flatnonzero(counts)
    ]


def _find_bins(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence of each answer, and its bin."""
    confidence = probabilities.max(axis=1).astype(float)
    return confidence, np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)


def calibration_errors(labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Return the expected calibration error, and the values that a calibrated model has by chance.

    Args:
        labels, groups: int, shape (n_images,); copies have one group and are assumed to be right or wrong together.
        probabilities: float, shape (n_images, n_classes); rows sum to 1.
    Returns:
        ece: the mean gap between confidence and accuracy of the bins, weighted by images. For a perfectly calibrated
        model on as many images: ece_expected, its mean ECE, and ece_bound, which it exceeds in one case of forty.
    Source: Guo et al. 2017, with 15 bins. By chance the gap of a bin is nearly normal, so its absolute value is
        half-normal.
    """
    bins = reliability_bins(labels, probabilities)
    error = sum(each["n_images"] * abs(each["confidence"] - each["accuracy"]) for each in bins) / len(labels)
    confidence, bin_of = _find_bins(probabilities)
    cells, which = np.unique(np.stack([bin_of, groups]), axis=1, return_inverse=True)
    deviations = np.bincount(which, np.sqrt(confidence * (1 - confidence)))  # sum over the copies in a bin
    variances = np.bincount(cells[0], deviations**2)
    expected, spread = np.sqrt(2 / np.pi * variances).sum(), np.sqrt((1 - 2 / np.pi) * variances.sum())
    by_chance = {"ece_expected": expected / len(labels), "ece_bound": (expected + Z * spread) / len(labels)}
    return {"ece": error, **{name: float(value) for name, value in by_chance.items()}}
