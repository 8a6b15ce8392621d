"""Pictures inside the page: small data URIs, also with an attention map on top."""

import base64
import io
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

LARGEST_PX = 112  # side of a thumbnail; the page enlarges smaller ones, pixel by pixel
LOSSLESS_PX = 48  # up to this size lossy compression shows blots and saves little
OVERLAY_PX = 96
COLOURS = "inferno"  # colour map of attention, from dark to bright yellow


def embed(content: bytes, kind: str = "png") -> str:
    """Return the content of an image file as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def encode(image: Image.Image, **options: Any) -> str:
    """Return an image as WebP: a tenth of a PNG's bytes, and still transparent."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85, **options)
    return embed(buffer.getvalue(), "webp")


def encode_thumbnail(pixels: np.ndarray) -> str:
    """Encode pixels, uint8 (size, size, 3), no larger than they are shown."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((LARGEST_PX, LARGEST_PX), Image.Resampling.LANCZOS)
    return encode(image, lossless=image.width <= LOSSLESS_PX, method=6)


def lay_over(pixels: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Put an attention map on a picture: bright where the network looked, dark elsewhere.

    Args:
        pixels: uint8, shape (size, size, 3).
        attention: uint8, shape (height, width), usually with fewer pixels.
    Returns:
        uint8, shape (side, side, 3), with a side of OVERLAY_PX or more.
    """
    side = max(OVERLAY_PX, len(pixels))
    picture = Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.NEAREST)
    shares = np.asarray(Image.fromarray(attention).resize((side, side), Image.Resampling.BILINEAR))
    colours = Image.fromarray(colormaps[COLOURS](shares, bytes=True)[..., :3])
    return np.asarray(Image.blend(picture, colours, 0.55))


def thumbnail_sizes(size_px: int) -> dict[str, int | str]:
    """Return the two sizes at which a picture is shown, and the method: pixel by pixel if enlarged several times."""
    if size_px > LOSSLESS_PX:
        return {"large": 104, "small": 64, "rendering": "auto"}
    large, small = (max(1, round(wanted / size_px)) * size_px for wanted in (104, 64))
    return {"large": large, "small": small, "rendering": "pixelated"}
