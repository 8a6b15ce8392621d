"""Answering only when sure: the accuracy on the pictures with the most confident answers.

Source: the risk-coverage curve, El-Yaniv and Wiener 2010; here with accuracy, which is 1 - risk.
"""

from typing import Any

import numpy as np

from stages.scoring.intervals import accuracy_interval

SHARES = (0.5, 0.8, 0.9, 1.0)  # most confident shares of the pictures
N_POINTS = 100  # at most, in the curve


def accuracy_curve(confidence: np.ndarray, right: np.ndarray) -> list[list[float]]:
    """Return points [share of the most confident pictures, accuracy on them].

    Args:
        confidence: float, shape (n_images,); pictures with equal confidence are in one point.
        right: bool, shape (n_images,).
    """
    order = np.argsort(-confidence, kind="stable")
    accuracies, sure = right[order].cumsum() / np.arange(1, len(order) + 1), confidence[order]
    ends = np.append(np.flatnonzero(np.diff(sure)), len(order) - 1)
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, N_POINTS).round().astype(int))]
    return [[float((end + 1) / len(order)), float(accuracies[end])] for end in ends]


def measure_selection(confidence: np.ndarray, right: np.ndarray, groups: np.ndarray) -> dict[str, list[Any]]:
    """Measure the accuracy on the most confident answers.

    Args:
        confidence: float, shape (n_images,): the largest probability of each picture.
        right: bool, shape (n_images,).
        groups: int, shape (n_images,); copies share a number.
    Returns:
        `surest`, a row for each of SHARES: at_least (the smallest confidence among them, for `predict --at-least`),
        share, n_images, accuracy, and its 95 % interval low and high; and `curve`, the points of `accuracy_curve`.
    """

    def describe(bound: float) -> dict[str, Any]:
        kept = confidence >= bound
        low, high = accuracy_interval(right[kept], groups[kept])
        shares = {"at_least": float(bound), "share": float(kept.mean()), "n_images": int(kept.sum())}
        return {**shares, "accuracy": float(right[kept].mean()), "low": low, "high": high}

    ranked = np.sort(confidence)[::-1]
    bounds = [ranked[max(int(np.ceil(share * len(ranked))), 1) - 1] for share in SHARES]
    return {"surest": [describe(bound) for bound in bounds], "curve": accuracy_curve(confidence, right)}
