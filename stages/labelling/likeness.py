"""Pictures that are alike and classes that are taken for each other: what a person compares a doubtful label with."""

from typing import Any

import numpy as np

N_NEIGHBOURS = 3
OVERLAP = 0.3  # of each of two classes, the share that is taken for the other where only these two are compared
ROWS_AT_ONCE = 1000


def normalise(features: np.ndarray) -> np.ndarray:
    """Return features that are standardised and of length 1, so that their products are cosines; (n, n_features)."""
    centred = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


def find_neighbours(features: np.ndarray, row: int, among: np.ndarray) -> list[int]:
    """Return the pictures that are most like one, the nearest first.

    Args:
        features: float, shape (n_images, n_features), of length 1.
        among: int, shape (k,): where to look.
    """
    likeness = features[among] @ features[row]
    return among[np.argsort(-likeness, kind="stable")[:N_NEIGHBOURS]].tolist()


def find_overlaps(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """List pairs of classes that are taken for each other in both directions, and may be one under two names.

    Args:
        probabilities: out of fold, float, shape (n_images, n_classes).
    Returns:
        A dict a pair, the most alike first: a, b (classes), a_as_b and b_as_a (shares, where only two are compared).
    """
    n_classes = probabilities.shape[1]
    sums = np.stack([np.bincount(labels, each, n_classes) for each in probabilities.T], axis=1)
    means = sums / np.maximum(np.bincount(labels, minlength=n_classes), 1)[:, None]  # row: what they are, column: said
    shares = means / np.maximum(means + np.diag(means)[:, None], 1e-12)
    both = np.triu(np.minimum(shares, shares.T), 1)
    pairs = np.argwhere(both >= OVERLAP)
    pairs = pairs[np.argsort(-both[tuple(pairs.T)], kind="stable")].tolist()
    return [{"a": a, "b": b, "a_as_b": float(shares[a, b]), "b_as_a": float(shares[b, a])} for a, b in pairs]


def find_alike(features: np.ndarray, labels: np.ndarray, candidates: np.ndarray) -> list[tuple[int, int]]:
    """List pairs of pictures of different labels of which each is more like the other than any other picture is.

    Args:
        features: float, shape (n_images, n_features), of length 1.
        candidates: int, shape (k,): one of each pair is among these.
    Returns:
        Pairs of rows, the most alike first.
    """
    nearest = dict(zip(candidates.tolist(), find_nearest(features, candidates), strict=True))
    mates = sorted({other for row, other in nearest.items() if labels[row] != labels[other]} - nearest.keys())
    nearest |= dict(zip(mates, find_nearest(features, np.array(mates, dtype=int)), strict=True))
    pairs = {(min(row, other), max(row, other)) for row, other in nearest.items() if nearest.get(other) == row}
    differing = sorted((a, b) for a, b in pairs if labels[a] != labels[b])
    return sorted(differing, key=lambda pair: -features[pair[0]] @ features[pair[1]])


def find_nearest(features: np.ndarray, rows: np.ndarray) -> list[int]:
    """Return the picture that is most like each of some, but itself; memory holds ROWS_AT_ONCE times all at a time."""
    nearest = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        likeness = features[part] @ features.T
        likeness[np.arange(len(part)), part] = -np.inf
        nearest += likeness.argmax(axis=1).tolist()
    return nearest
