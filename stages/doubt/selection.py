"""Answering only when sure: how many pictures are left, and how often their answers are right.

Source: the risk-coverage curve, El-Yaniv and Wiener 2010; here accuracy, which is one less the risk.
"""

from typing import Any

import numpy as np

from stages.scoring.intervals import accuracy_interval

SHARES = (0.5, 0.8, 0.9, 1.0)  # of the pictures, the surest ones
N_POINTS = 100  # of the curve at most


def accuracy_curve(confidence: np.ndarray, right: np.ndarray) -> list[list[float]]:
    """Return points [share of the pictures, the surest ones; accuracy on these], of 1 to all pictures.

    Args:
        confidence: float, shape (n_images,); of equally sure pictures the curve takes all or none.
        right: bool, shape (n_images,).
    """
    order = np.argsort(-confidence, kind="stable")
    accuracies, sure = right[order].cumsum() / np.arange(1, len(order) + 1), confidence[order]
    ends = np.append(np.flatnonzero(np.diff(sure)), len(order) - 1)
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, N_POINTS).round().astype(int))]
    return [[float((end + 1) / len(order)), float(accuracies[end])] for end in ends]


def measure_selection(confidence: np.ndarray, right: np.ndarray, groups: np.ndarray) -> dict[str, list[Any]]:
    """Return how accurate the answers are of which a model is sure.

    Args:
        confidence: float, shape (n_images,): the probability of the answer.
        right, groups: shape (n_images,); copies have one number.
    Returns:
        `surest`, a row for each of SHARES: at_least (the least probability among them, for `predict --at-least`),
        share, n_images, accuracy, low and high (its 95 % interval); and `curve`.
    """

    def describe(bound: float) -> dict[str, Any]:
        kept = confidence >= bound
        low, high = accuracy_interval(right[kept], groups[kept])
        shares = {"at_least": float(bound), "share": float(kept.mean()), "n_images": int(kept.sum())}
        return {**shares, "accuracy": float(right[kept].mean()), "low": low, "high": high}

    ranked = np.sort(confidence)[::-1]
    bounds = [ranked[max(int(np.ceil(share * len(ranked))), 1) - 1] for share in SHARES]
    return {"surest": [describe(bound) for bound in bounds], "curve": accuracy_curve(confidence, right)}
