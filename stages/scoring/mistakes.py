"""The most confident mistakes of a model, and its attention maps, which are stored in an .npz file."""

from pathlib import Path

import numpy as np

from stages.runtime.files import written_whole


def choose_mistakes(labels: np.ndarray, probabilities: np.ndarray, n: int) -> np.ndarray:
    """Return the rows of the most confident mistakes, at most n, highest confidence first.

    Args:
        labels: int, shape (n_images,).
        probabilities: float, shape (n_images, n_classes).
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:n]


def write_attention(path: Path, rows: np.ndarray, maps: np.ndarray) -> None:
    """Write attention maps, uint8 (k, height, width), for these rows of the test split, int64 (k,)."""
    with written_whole(path) as temporary:
        np.savez(temporary, rows=rows, maps=maps)


def read_attention(path: Path) -> dict[int, np.ndarray]:
    """Return {row: map, uint8 (height, width)}, most confident mistake first, without empty maps."""
    with np.load(path) as arrays:
        return {int(row): each for row, each in zip(arrays["rows"], arrays["maps"], strict=True) if each.any()}
