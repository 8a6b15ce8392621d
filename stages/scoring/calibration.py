"""Whether a model is right as often as it says: reliability bins, and the error that sums them up."""

from typing import Any

import numpy as np

N_BINS = 15


def reliability_bins(labels: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Compare confidence with accuracy, over bins of equal width; bins without images are left out.

    Args:
        labels: int, shape (n_images,).
        probabilities: float, shape (n_images, n_classes); rows sum to 1.
    Returns:
        A dict a bin, the least sure first: confidence and accuracy (means over its images), n_images.
    Source: reliability diagrams, as scikit-learn's calibration_curve, which takes seconds to import.
    """
    confidence, right = probabilities.max(axis=1).astype(float), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    counts, sure, correct = (np.bincount(bins, weights, N_BINS) for weights in (None, confidence, right))
    return [
        {
            "confidence": float(sure[i] / counts[i]),
            "accuracy": float(correct[i] / counts[i]),
            "n_images": int(counts[i]),
        }
        for i in np.flatnonzero(counts)
    ]


def expected_calibration_error(bins: list[dict[str, Any]]) -> float:
    """Return the mean gap between confidence and accuracy of the bins, weighted by their images.

    Source: Guo et al. 2017, with 15 bins.
    """
    gaps = [each["n_images"] * abs(each["confidence"] - each["accuracy"]) for each in bins]
    return sum(gaps) / sum(each["n_images"] for each in bins)
