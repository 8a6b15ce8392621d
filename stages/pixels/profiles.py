"""Converts images to sRGB by their ICC profiles, as browsers do: the numbers of a file mean what its profile says."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

SRGB_LEVELS = 2  # of 255, by which profiles that are all called sRGB differ
PROFILED_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # by the colour space of an ICC profile


def convert_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """Convert an image by its ICC profile as browsers do; None without one, or if it is broken or does not fit."""
    mode, transform = _read_profile(profile) if isinstance(profile, bytes) else (None, None)
    is_grey = image.mode in ("1", "L", "LA")
    if not transform or (image.mode == "CMYK") != (mode == "CMYK") or (mode == "L" and not is_grey):
        return None
    return transform.apply(image.convert("RGB").convert(mode) if mode != "CMYK" else image)


@lru_cache(maxsize=8)  # the pictures of one camera, or of one program, have the same profile
def _read_profile(profile: bytes) -> tuple[str | None, ImageCms.ImageCmsTransform | None]:
    """Return the mode of the pixels that a profile describes, and what makes them sRGB: None if they are it already."""
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
