"""How sure a model is, set right by one number: its temperature, fitted on images that it did not learn from."""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from stages.scoring.calibration import expected_calibration_error, reliability_bins
from stages.scoring.predictions import Predictions

TINY = 1e-12


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Soften (above 1) or sharpen (below 1) probabilities, (n_images, n_classes), as a softmax temperature does."""
    return softmax(log(probabilities) / temperature)


def log(probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithm, of zero that of a tiny number."""
    return np.log(np.maximum(probabilities, TINY))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return rows that sum to 1."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the least cross-entropy on these images, between 1/20 and 20.

    Source: temperature scaling, Guo et al. 2017.
    """
    logits = log(probabilities).astype(float)
    logits -= logits.max(axis=1, keepdims=True)
    right_one = logits[np.arange(len(labels)), labels].mean()

    def loss(log_temperature: float) -> float:
        sharpness = np.exp(-log_temperature)
        return np.log(np.exp(logits * sharpness).sum(axis=1)).mean() - sharpness * right_one

    return float(np.exp(minimize_scalar(loss, bounds=(-np.log(20), np.log(20)), method="bounded").x))


def calibrate(predictions: Predictions) -> dict[str, Any]:
    """Fit a temperature to the validation images, and say what it does to the test images.

    Returns:
        temperature; ece and bins of the probabilities as they are; tempered_ece and tempered_bins of the tempered ones.
    """
    temperature = fit_temperature(predictions.val_probabilities, predictions.val_labels)
    bins, tempered = (
        reliability_bins(predictions.test_labels, probabilities)
        for probabilities in (predictions.test_probabilities, temper(predictions.test_probabilities, temperature))
    )
    return {
        "temperature": temperature,
        "ece": expected_calibration_error(bins),
        "tempered_ece": expected_calibration_error(tempered),
        "bins": bins,
        "tempered_bins": tempered,
    }
