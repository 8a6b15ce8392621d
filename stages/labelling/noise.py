"""Estimate how many labels are wrong, and which: labels that out-of-fold probabilities do not explain are noise."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from stages.scoring.cross_entropy import log, softmax

TEMPERATURES = np.geomspace(0.1, 10, 21)
MOST = 0.9  # largest share of noise


@dataclass(frozen=True)
class Noise:
    """A model of labels: a `share` is drawn uniformly from all classes, the others from tempered probabilities."""

    temperature: float
    share: float


def fit_noise(probabilities: np.ndarray, labels: np.ndarray) -> Noise:
    """Return the noise that gives the labels the highest likelihood.

    A temperature fitted without the share would rise with every wrong label, and hide it.

    Args:
        probabilities: out-of-fold, float, shape (n_images, n_classes).
        labels: int, shape (n_images,).
    Source: temperature, Guo et al. 2017; label noise as a uniform part of a mixture, Lawrence and Schölkopf 2001.
    """
    logits = log(probabilities)

    def fit_share(temperature: float) -> tuple[float, float]:
        """Return the smallest loss at a temperature, and the share that gives it; the minimum is unique."""
        tempered = _temper(logits, labels, temperature)

        def loss(share: float) -> float:
            return -np.log((1 - share) * tempered + share / logits.shape[1]).mean()

        found = minimize_scalar(loss, bounds=(1e-6, MOST), method="bounded", options={"xatol": 1e-6})
        return float(found.fun), float(found.x)

    # there may be two minima: a higher temperature without noise, and a lower temperature with noise
    best = min(range(len(TEMPERATURES)), key=lambda place: fit_share(TEMPERATURES[place])[0])
    around = np.log(TEMPERATURES[[max(best - 1, 0), min(best + 1, len(TEMPERATURES) - 1)]])
    options = {"bounds": around, "method": "bounded", "options": {"xatol": 1e-3}}
    temperature = float(np.exp(minimize_scalar(lambda place: fit_share(np.exp(place))[0], **options).x))
    return Noise(temperature, fit_share(temperature)[1])


def judge(probabilities: np.ndarray, labels: np.ndarray, noise: Noise) -> np.ndarray:
    """Return the probability that each label is noise, float, shape (n_images,)."""
    by_chance = noise.share / probabilities.shape[1]
    return by_chance / ((1 - noise.share) * _temper(log(probabilities), labels, noise.temperature) + by_chance)


def _temper(logits: np.ndarray, labels: np.ndarray, temperature: float) -> np.ndarray:
    """Return the tempered probability of each label, float, shape (n_images,)."""
    return softmax(logits / temperature)[np.arange(len(labels)), labels]
