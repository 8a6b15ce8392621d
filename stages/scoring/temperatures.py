"""How sure a model is, set right by one number: its temperature, fitted on images that it did not learn from."""

from typing import Any

import numpy as np

from stages.scoring.calibration import calibration_errors, reliability_bins
from stages.scoring.cross_entropy import fit_powers, log, softmax
from stages.scoring.predictions import Predictions


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Soften (above 1) or sharpen (below 1) probabilities, (n_images, n_classes), as a softmax temperature does."""
    return softmax(log(probabilities) / temperature)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the least cross-entropy on these images, at most 20; few images leave it near 1.

    Source: temperature scaling, Guo et al. 2017.
    """
    return float(1 / fit_powers(probabilities[None], labels, lowest=1 / 20)[0])


def calibrate(predictions: Predictions) -> dict[str, Any]:
    """Fit a temperature to the validation images, and say what it does to the test images.

    Returns:
        temperature; what `calibration_errors` returns, and bins; the same of the tempered probabilities, as tempered_
    """
    temperature = fit_temperature(predictions.val_probabilities, predictions.val_labels)
    labels, before, found = predictions.test_labels, predictions.test_probabilities, {"temperature": temperature}
    for prefix, probabilities in (("", before), ("tempered_", temper(before, temperature))):
        errors = calibration_errors(labels, probabilities, predictions.test_groups)
        found |= {f"{prefix}{key}": value for key, value in errors.items()}
        found[f"{prefix}bins"] = reliability_bins(labels, probabilities)
    return found
