"""Find similar pictures and classes that are mistaken for each other, for a person who checks a doubtful label."""

from typing import Any

import numpy as np

N_NEIGHBOURS = 3
OVERLAP = 0.3  # smallest share of each of two classes that is taken for the other, if only these two are compared
ROWS_AT_ONCE = 1000


def normalise(features: np.ndarray) -> np.ndarray:
    """Standardise features, (n, n_features), and scale them to length 1, so that their products are cosines."""
    centred = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


def find_neighbours(features: np.ndarray, row: int, among: np.ndarray) -> list[int]:
    """Return the pictures that are most similar to one picture, the nearest first.

    Args:
        features: float, shape (n_images, n_features), of length 1.
        among: int, shape (k,): candidates.
    """
    likeness = features[among] @ features[row]
    return among[np.argsort(-likeness, kind="stable")[:N_NEIGHBOURS]].tolist()


def find_overlaps(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """List pairs of classes that are mistaken for each other in both directions, and may be one class with two names.

    Args:
        probabilities: out-of-fold, float, shape (n_images, n_classes).
    Returns:
        A dict per pair, most similar first: a, b (classes), a_as_b, b_as_a (shares, if only these two are compared).
    """
    n_classes = probabilities.shape[1]
    sums = np.stack([np.bincount(labels, each, n_classes) for each in probabilities.T], axis=1)
    means = sums / np.maximum(np.bincount(labels, minlength=n_classes), 1)[:, None]  # row: actual, column: predicted
    shares = means / np.maximum(means + np.diag(means)[:, None], 1e-12)
    both = np.triu(np.minimum(shares, shares.T), 1)
    pairs = np.argwhere(both >= OVERLAP)
    pairs = pairs[np.argsort(-both[tuple(pairs.T)], kind="stable")].tolist()
    return [{"a": a, "b": b, "a_as_b": float(shares[a, b]), "b_as_a": float(shares[b, a])} for a, b in pairs]


def find_alike(features: np.ndarray, labels: np.ndarray, candidates: np.ndarray) -> list[tuple[int, int]]:
    """List pairs of pictures that are each other's nearest neighbour but have different labels.

    Args:
        features: float, shape (n_images, n_features), of length 1.
        candidates: int, shape (k,): one picture of each pair is among these.
    Returns:
        Pairs of rows, the most similar first.
    """
    nearest = dict(zip(candidates.tolist(), find_nearest(features, candidates), strict=True))
    mates = sorted({other for row, other in nearest.items() if labels[row] != labels[other]} - nearest.keys())
    nearest |= dict(zip(mates, find_nearest(features, np.array(mates, dtype=int)), strict=True))
    pairs = {(min(row, other), max(row, other)) for row, other in nearest.items() if nearest.get(other) == row}
    differing = sorted((a, b) for a, b in pairs if labels[a] != labels[b])
    return sorted(differing, key=lambda pair: -features[pair[0]] @ features[pair[1]])


def find_nearest(features: np.ndarray, rows: np.ndarray) -> list[int]:
    """Return the nearest neighbour of each of these rows; ROWS_AT_ONCE rows of similarities are in memory at a time."""
    nearest = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        likeness = features[part] @ features.T
        likeness[np.arange(len(part)), part] = -np.inf
        nearest += likeness.argmax(axis=1).tolist()
    return nearest
