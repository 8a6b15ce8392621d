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
UNMIRRORED = slice(0, None, 2)  # hashes of a picture
MIRRORED = (-1.0) ** np.arange(SIDE)  # signs of the frequencies in the mirrored picture


def find_waves(cut_px: float) -> np.ndarray:
    """Return the lowest SIDE frequencies of the cosine transform of SIDE_PX pixels without `cut_px` at each end.

    Returns:
        float64, shape (SIDE, SIDE_PX); a pixel that is cut in part counts by the rest.
    """
    places = np.arange(SIDE_PX) + 0.5
    kept = np.clip(SIDE_PX / 2 - cut_px + 0.5 - abs(places - SIDE_PX / 2), 0, 1)
    return np.cos(np.pi * np.outer(np.arange(SIDE), (places - cut_px) / (SIDE_PX - 2 * cut_px))) * kept


WAVES = np.stack([find_waves(0), find_waves(SIDE_PX * CROP / 2)])  # of the whole and of the middle


def hash_likeness(image: Image.Image) -> np.ndarray | None:
    """Return four hashes of a picture: the whole, the whole mirrored, its middle, its middle mirrored.

    Two pictures are near copies if the first hash of one is close to one of the four hashes of the other.

    Returns:
        uint8, shape (4, N_BITS / 8); None for a picture of a single grey, whose hash would be meaningless.
    """
    small = image.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
    pixels = np.asarray(small)
    if pixels.std() < FLAT:
        return None
    shares = (WAVES @ pixels @ WAVES.transpose(0, 2, 1)).round(6)  # every other value is 0 for a symmetric picture
    views = np.stack([shares, shares * MIRRORED], axis=1).reshape(4, N_BITS)
    median = np.sort(views)[:, N_BITS // 2 - 1 : N_BITS // 2 + 1].mean(axis=1, keepdims=True)  # np.median is slower
    return np.packbits(views > median, axis=1)
