"""Pictures inside the page: as data URIs, small, and with a map of attention laid over them."""

import base64
import io
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

LARGEST_PX = 112  # side of a thumbnail in the page; smaller ones are enlarged there, pixel by pixel
LOSSLESS_PX = 48  # up to so many a lossy picture would be all blots, and hardly smaller
OVERLAY_PX = 96
COLOURS = "inferno"  # of a map, from dark to bright yellow


def embed(content: bytes, kind: str = "png") -> str:
    """Return the content of an image file as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def encode(image: Image.Image, **options: Any) -> str:
    """Return an image as WebP: a tenth of a PNG's bytes, and still transparent."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85, **options)
    return embed(buffer.getvalue(), "webp")


def encode_thumbnail(pixels: np.ndarray) -> str:
    """Return pixels, uint8 (size, size, 3), no larger than they are shown."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((LARGEST_PX, LARGEST_PX), Image.Resampling.LANCZOS)
    return encode(image, lossless=image.width <= LOSSLESS_PX, method=6)


def lay_over(pixels: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Lay a map over a picture: bright where the network looked, dark where it did not.

    Args:
        pixels: uint8, shape (size, size, 3).
        attention: uint8, shape (height, width), usually of fewer pixels.
    Returns:
        uint8, shape (side, side, 3), with a side of OVERLAY_PX or more.
    """
    side = max(OVERLAY_PX, len(pixels))
    picture = Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.NEAREST)
    shares = np.asarray(Image.fromarray(attention).resize((side, side), Image.Resampling.BILINEAR))
    colours = Image.fromarray(colormaps[COLOURS](shares, bytes=True)[..., :3])
    return np.asarray(Image.blend(picture, colours, 0.55))


def thumbnail_sizes(size_px: int) -> dict[str, int | str]:
    """Return how large a picture is shown, large and small, and how: pixel by pixel where that is several times."""
    if size_px > LOSSLESS_PX:
        return {"large": 104, "small": 64, "rendering": "auto"}
    large, small = (max(1, round(wanted / size_px)) * size_px for wanted in (104, 64))
    return {"large": large, "small": small, "rendering": "pixelated"}
