"""The colours of a picture, which networks are taught to look past: where they are, and how often."""

import numpy as np

GRID = 4  # places along a side
LEVELS = 5  # of each channel in the histogram
SIDE_PX = 32  # of larger images so many pixels along a side are looked at, or up to twice as many
IMAGES_AT_ONCE = 256


def describe_colours(images: np.ndarray, margin_px: int) -> np.ndarray:
    """Return the mean and deviation of the colours in each place of a grid, and their histogram's square root.

    Args:
        images: uint8, shape (n_images, stored, stored, 3).
        margin_px: by how much they are larger than what is looked at, their centre.
    Returns:
        float32, shape (n_images, 2 * 3 * GRID**2 + LEVELS**3).
    """
    edge, step = margin_px // 2, max(1, (images.shape[1] - margin_px) // SIDE_PX)
    seen = np.arange(edge, images.shape[1] - margin_px + edge, step)
    seen = seen[: len(seen) // GRID * GRID]
    parts = [
        _describe(np.asarray(images[start : start + IMAGES_AT_ONCE])[:, seen][:, :, seen])
        for start in range(0, len(images), IMAGES_AT_ONCE)
    ]
    return np.concatenate(parts or [np.empty((0, 6 * GRID**2 + LEVELS**3))]).astype(np.float32)


def _describe(images: np.ndarray) -> np.ndarray:
    n, side, cell = len(images), images.shape[1], images.shape[1] // GRID
    places = images.reshape(n, GRID, cell, GRID, cell, 3) / np.float32(255)
    levels = (images.astype(np.int64) * LEVELS // 256) @ np.array([LEVELS**2, LEVELS, 1])  # (n, side, side)
    cells = levels.reshape(n, -1) + LEVELS**3 * np.arange(n)[:, None]
    histogram = np.bincount(cells.ravel(), minlength=n * LEVELS**3).reshape(n, -1) / side**2
    of_places = (places.mean(axis=(2, 4)), places.std(axis=(2, 4)))
    return np.concatenate([*(each.reshape(n, -1) for each in of_places), np.sqrt(histogram)], axis=1)
