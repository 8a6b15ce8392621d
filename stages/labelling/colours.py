"""Colour features of a picture (means, deviations, histogram), because networks learn to ignore colours."""

import numpy as np

GRID = 4  # cells along a side
LEVELS = 5  # per channel of the histogram
SIDE_PX = 32  # larger images are sampled at 32 to 63 pixels along a side
IMAGES_AT_ONCE = 256


def describe_colours(images: np.ndarray, margin_px: int) -> np.ndarray:
    """Return the mean and deviation of the colours in each cell of a grid, and the square root of their histogram.

    Args:
        images: uint8, shape (n_images, stored, stored, 3).
        margin_px: number of pixels by which an image is larger than its centre, which is used.
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
