"""How many labels are wrong, and which: what probabilities out of fold cannot explain is put down to chance."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from stages.scoring.cross_entropy import log, softmax

TEMPERATURES = np.geomspace(0.1, 10, 21)
MOST = 0.9  # of the labels


@dataclass(frozen=True)
class Noise:
    """A model of labels: each is drawn from tempered probabilities, or else, in a share of all, from any class."""

    temperature: float
    share: float


def fit_noise(probabilities: np.ndarray, labels: np.ndarray) -> Noise:
    """Return the noise by which the labels are likeliest.

    A temperature that was fitted without the share would rise with every wrong label, and hide it.

    Args:
        probabilities: out of fold, float, shape (n_images, n_classes).
        labels: int, shape (n_images,).
    Source: temperature, Guo et al. 2017; label noise as a uniform part of a mixture, Lawrence and Schölkopf 2001.
    """
    logits = log(probabilities)

    def fit_share(temperature: float) -> tuple[float, float]:
        """Return the least loss at a temperature, and the share that it has it with; of shares there is one minimum."""
        tempered = _temper(logits, labels, temperature)

        def loss(share: float) -> float:
            return -np.log((1 - share) * tempered + share / logits.shape[1]).mean()

        found = minimize_scalar(loss, bounds=(1e-6, MOST), method="bounded", options={"xatol": 1e-6})
        return float(found.fun), float(found.x)

    # of temperatures there may be two: a warmer one without noise, and a colder one with it
    best = min(range(len(TEMPERATURES)), key=lambda place: fit_share(TEMPERATURES[place])[0])
    around = np.log(TEMPERATURES[[max(best - 1, 0), min(best + 1, len(TEMPERATURES) - 1)]])
    options = {"bounds": around, "method": "bounded", "options": {"xatol": 1e-3}}
    temperature = float(np.exp(minimize_scalar(lambda place: fit_share(np.exp(place))[0], **options).x))
    return Noise(temperature, fit_share(temperature)[1])


def judge(probabilities: np.ndarray, labels: np.ndarray, noise: Noise) -> np.ndarray:
    """Return how likely each label is one that chance has chosen, float, shape (n_images,)."""
    by_chance = noise.share / probabilities.shape[1]
    return by_chance / ((1 - noise.share) * _temper(log(probabilities), labels, noise.temperature) + by_chance)


def _temper(logits: np.ndarray, labels: np.ndarray, temperature: float) -> np.ndarray:
    """Return the tempered probability of each label, float, shape (n_images,)."""
    return softmax(logits / temperature)[np.arange(len(labels)), labels]
