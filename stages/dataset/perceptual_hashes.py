"""Perceptual hashes, which stay similar when a picture is re-encoded, resized, mirrored or slightly cropped.

Source: the perceptual hash of the library imagehash (the signs of a picture's lowest spatial frequencies).
"""

import numpy as np
from PIL import Image

N_BITS = 256
SIDE = round(N_BITS**0.5)  # side of the square of frequencies in a hash
SIDE_PX = 4 * SIDE  # image size that imagehash uses for so many bits
REDUCING_GAP = 3.0  # Pillow first averages squares of pixels of pictures from 384 px on: docs/copies.md
CROP = 0.06  # cropped from the sides: copies cropped by up to 10 % are close to the whole or to this part
FLAT = 3.0  # smallest standard deviation of grey (0 to 255) that gives a useful hash
WAVES = np.cos(np.pi * np.outer(np.arange(SIDE), np.arange(SIDE_PX) + 0.5) / SIDE_PX)  # matrix of the cosine transform
UNMIRRORED = slice(0, None, 2)  # hashes of a picture
MIRRORED = (-1.0) ** np.arange(SIDE)  # signs of the frequencies in the mirrored picture


def hash_likeness(image: Image.Image) -> np.ndarray | None:
    """Return four hashes of a picture: the whole, the whole mirrored, its middle, its middle mirrored.

    Two pictures are near copies if the first hash of one is close to one of the four hashes of the other.

    Returns:
        uint8, shape (4, N_BITS / 8); None for a picture of a single grey, whose hash would be meaningless.
    """
    grey = image.convert("L")
    left, top = grey.width * CROP / 2, grey.height * CROP / 2
    middle = (left, top, grey.width - left, grey.height - top)
    how = {"size": (SIDE_PX, SIDE_PX), "resample": Image.Resampling.LANCZOS, "reducing_gap": REDUCING_GAP}
    parts = np.stack([grey.resize(box=box, **how) for box in (None, middle)])
    if parts[0].std() < FLAT:
        return None
    shares = (WAVES @ parts @ WAVES.T).round(6)  # (2, SIDE, SIDE); every other value is 0 for a symmetric picture
    views = np.stack([shares, shares * MIRRORED], axis=1).reshape(4, N_BITS)
    median = np.sort(views)[:, N_BITS // 2 - 1 : N_BITS // 2 + 1].mean(axis=1, keepdims=True)  # np.median is slower
    return np.packbits(views > median, axis=1)
