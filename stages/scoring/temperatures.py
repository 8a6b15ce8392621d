"""Temperature scaling: correct the confidence of a model by one number, fitted on images it did not learn from."""

from typing import Any

import numpy as np

from stages.scoring.calibration import calibration_errors, reliability_bins
from stages.scoring.cross_entropy import fit_powers, log, softmax
from stages.scoring.predictions import Predictions


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Soften (above 1) or sharpen (below 1) probabilities, (n_images, n_classes), with a softmax temperature."""
    return softmax(log(probabilities) / temperature)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the smallest cross-entropy on these images, at most 20; few images keep it near 1.

    Source: temperature scaling, Guo et al. 2017.
    """
    return float(1 / fit_powers(probabilities[None], labels, lowest=1 / 20)[0])


def calibrate(predictions: Predictions) -> dict[str, Any]:
    """Fit a temperature to the validation images, and measure its effect on the test images.

    Returns:
        temperature; the keys of `calibration_errors`, and bins; the same for the tempered probabilities, as tempered_
    """
    temperature = fit_temperature(predictions.val_probabilities, predictions.val_labels)
    labels, before, found = predictions.test_labels, predictions.test_probabilities, {"temperature": temperature}
    for prefix, probabilities in (("", before), ("tempered_", temper(before, temperature))):
        errors = calibration_errors(labels, probabilities, predictions.test_groups)
        found |= {f"{prefix}{key}": value for key, value in errors.items()}
        found[f"{prefix}bins"] = reliability_bins(labels, probabilities)
    return found
