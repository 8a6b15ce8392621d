"""How sure a model is, set right by one number: its temperature, fitted on images that it did not learn from."""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from stages.scoring.calibration import expected_calibration_error, reliability_bins
from stages.scoring.cross_entropy import cross_entropy, log, margins, softmax
from stages.scoring.predictions import Predictions


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Soften (above 1) or sharpen (below 1) probabilities, (n_images, n_classes), as a softmax temperature does."""
    return softmax(log(probabilities) / temperature)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the least cross-entropy on these images, between 1/20 and 20.

    Source: temperature scaling, Guo et al. 2017.
    """
    of_all = margins(probabilities[None], labels)

    def loss(log_temperature: float) -> float:
        return cross_entropy(np.exp([-log_temperature]), of_all)[0]

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
