"""Hashes of what a picture looks like, which stay alike when it is re-encoded, resized, mirrored or cropped a little.

Source: the perceptual hash of the library imagehash (the signs of a picture's lowest spatial frequencies).
"""

import numpy as np
from PIL import Image, ImageOps

N_BITS = 256
SIDE_PX = 64  # what imagehash looks at, for so many bits
CROP = 0.06  # of each side: copies that are cropped by up to a tenth are close to the whole picture or to this part
FLAT = 3.0  # standard deviation of grey, 0 to 255, under which a picture has nothing to hash


def hash_likeness(image: Image.Image) -> np.ndarray | None:
    """Return four hashes of a picture: the whole, the whole mirrored, its middle, its middle mirrored.

    A copy is alike if its first hash is close to one of the original's four, or the other way round.

    Returns:
        uint8, shape (4, N_BITS / 8); None for a picture of a single grey, of which a hash would say nothing.
    """
    from imagehash import phash

    grey = image.convert("L")
    left, top = grey.width * CROP / 2, grey.height * CROP / 2
    middle = (left, top, grey.width - left, grey.height - top)
    parts = [grey.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS, box=box) for box in (None, middle)]
    if np.asarray(parts[0]).std() < FLAT:
        return None
    views = [view for part in parts for view in (part, ImageOps.mirror(part))]
    return np.stack([np.packbits(phash(view, hash_size=round(N_BITS**0.5)).hash) for view in views])
