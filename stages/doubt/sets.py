"""Sets of classes that contain the right one with a given probability: split conformal prediction.

A set takes the classes in the order of their probability, always the likeliest, until their sum exceeds a limit. The
limit is calibrated on pictures that neither the models nor the ensemble learnt from.

Source: adaptive prediction sets, Romano, Sesia and Candès 2020, without the random tie-break, so
    that no set is empty and equal pictures have equal sets.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ConfigDict

LEVELS = (0.90, 0.95, 0.99)  # levels of coverage in the metrics and the report
LEAST, MOST = 0.025, 0.975  # quantiles of the band of measured coverage


@dataclass(frozen=True)
class Calibration:
    """For each group of copies, the total probability of the classes likelier than the right one."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    n_groups: int
    masses: list[float]  # sorted, without zeros

    @property
    def most(self) -> float:
        """The largest coverage that this number of groups can guarantee."""
        return self.n_groups / (self.n_groups + 1)

    def rank(self, coverage: float) -> int:
        """Return the number of groups whose sets must contain the right class: the finite-sample correction."""
        return math.ceil(coverage * (self.n_groups + 1) - 1e-9)

    def limit(self, coverage: float) -> float | None:
        """Return the limit for this coverage; None: there are too few groups."""
        rank, n_zeros = self.rank(coverage), self.n_groups - len(self.masses)
        if rank > self.n_groups:
            return None
        return self.masses[rank - n_zeros - 1] if rank > n_zeros else 0.0


def likelier_mass(probabilities: np.ndarray) -> np.ndarray:
    """Return for each class the total probability of the likelier classes.

    Args:
        probabilities: float, shape (n_images, n_classes); rows sum to 1.
    Returns:
        float64, of the same shape; 0 for the likeliest class.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")  # ties as in argmax: the first class wins
    ranked = np.take_along_axis(probabilities, order, axis=1).astype(float)
    before, masses = np.zeros_like(ranked), np.empty_like(ranked)
    before[:, 1:] = ranked.cumsum(axis=1)[:, :-1]
    np.put_along_axis(masses, order, before, axis=1)
    return masses


def choose_sets(probabilities: np.ndarray, limit: float) -> np.ndarray:
    """Return which classes are in the set of each picture: bool, of the shape of the probabilities."""
    return likelier_mass(probabilities) <= limit


def calibrate_sets(probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Calibration:
    """Calibrate on pictures that the probabilities were not fitted to; the worst picture of a group of copies counts.

    Args:
        probabilities: float, shape (n_images, n_classes); rows sum to 1.
        labels, groups: int, shape (n_images,).
    """
    of_right = likelier_mass(probabilities)[np.arange(len(labels)), labels]
    which = np.unique(groups, return_inverse=True)[1]
    worst = np.zeros(which.max() + 1)
    np.maximum.at(worst, which, of_right)
    return Calibration(len(worst), np.sort(worst[worst > 0]).tolist())


def measure_sets(
    calibration: Calibration, probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Measure on other pictures how often the sets contain the right class, and their size.

    Returns:
        {level in per cent: {coverage, low and high (its 95 % band, given the sizes of both samples), mean_size}},
        without levels that need more calibration pictures.
    Source: the band is the beta-binomial distribution of Vovk 2012; a group of copies counts as one picture.
    """
    from scipy.stats import betabinom  # takes a second, and `predict` does not need it

    n, masses, measured = len(np.unique(groups)), likelier_mass(probabilities), {}
    for level in LEVELS:
        if (limit := calibration.limit(level)) is None:
            continue
        rank, sets = calibration.rank(level), masses <= limit
        up_to = betabinom.pmf(np.arange(n + 1), n, rank, calibration.n_groups + 1 - rank).cumsum()
        band = np.searchsorted(up_to, [LEAST, MOST]) / n
        values = [sets[np.arange(len(labels)), labels].mean(), *band, sets.sum(axis=1).mean()]
        names = ("coverage", "low", "high", "mean_size")
        measured[f"{100 * level:g}"] = dict(zip(names, (round(float(value), 6) for value in values), strict=True))
    return measured
