"""Convert images to sRGB with their ICC profiles, as browsers do."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

SRGB_LEVELS = 2  # of 255; profiles named sRGB differ by so much
PROFILED_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # mode for the colour space of a profile


def convert_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """Convert an image with its ICC profile; None if the profile is missing, broken or does not fit."""
    mode, transform = _read_profile(profile) if isinstance(profile, bytes) else (None, None)
    is_grey = image.mode in ("1", "L", "LA")
    if not transform or (image.mode == "CMYK") != (mode == "CMYK") or (mode == "L" and not is_grey):
        return None
    return transform.apply(image.convert("RGB").convert(mode) if mode != "CMYK" else image)


@lru_cache(maxsize=8)  # pictures of one camera or program share a profile
def _read_profile(profile: bytes) -> tuple[str | None, ImageCms.ImageCmsTransform | None]:
    """Return the pixel mode of a profile, and its conversion to sRGB; None if the pixels are sRGB already."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = PROFILED_MODES[source.profile.xcolor_space]
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (KeyError, OSError, ImageCms.PyCMSError):
        return None, None
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    if mode != "CMYK":
        colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 16, 3)
        probe = Image.fromarray(colours).convert(mode)
        changes = np.asarray(transform.apply(probe)).astype(int) - np.asarray(probe.convert("RGB"))
        transform = transform if np.abs(changes).max() > SRGB_LEVELS else None
    return mode, transform
