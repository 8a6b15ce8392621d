"""Hashes of what a picture looks like, which stay alike when it is re-encoded, resized, mirrored or cropped a little.

Source: the perceptual hash of the library imagehash (the signs of a picture's lowest spatial frequencies).
"""

import numpy as np
from PIL import Image

N_BITS = 256
SIDE = round(N_BITS**0.5)  # of the square of frequencies that make a hash
SIDE_PX = 4 * SIDE  # what imagehash looks at, for so many bits
CROP = 0.06  # of each side: copies that are cropped by up to a tenth are close to the whole picture or to this part
FLAT = 3.0  # standard deviation of grey, 0 to 255, under which a picture has nothing to hash
WAVES = np.cos(np.pi * np.outer(np.arange(SIDE), np.arange(SIDE_PX) + 0.5) / SIDE_PX)  # of the cosine transform
UNMIRRORED = slice(0, None, 2)  # of the hashes of a picture
MIRRORED = (-1.0) ** np.arange(SIDE)  # what mirroring does to their shares in a picture


def hash_likeness(image: Image.Image) -> np.ndarray | None:
    """Return four hashes of a picture: the whole, the whole mirrored, its middle, its middle mirrored.

    A copy is alike if its first hash is close to one of the original's four, or the other way round.

    Returns:
        uint8, shape (4, N_BITS / 8); None for a picture of a single grey, of which a hash would say nothing.
    """
    grey = image.convert("L")
    left, top = grey.width * CROP / 2, grey.height * CROP / 2
    middle = (left, top, grey.width - left, grey.height - top)
    parts = np.stack([grey.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS, box=box) for box in (None, middle)])
    if parts[0].std() < FLAT:
        return None
    shares = (WAVES @ parts @ WAVES.T).round(6)  # (2, SIDE, SIDE); of a symmetric picture every other one is 0
    views = np.stack([shares, shares * MIRRORED], axis=1).reshape(4, N_BITS)
    median = np.sort(views)[:, N_BITS // 2 - 1 : N_BITS // 2 + 1].mean(axis=1, keepdims=True)  # np.median is slower
    return np.packbits(views > median, axis=1)
