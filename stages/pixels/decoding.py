"""Decode an image file to the picture that a person sees: upright, in sRGB, on white; or explain why that fails."""

import hashlib
import io
import logging
import math
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from stages.pixels.containers import JPEG_END, JPEG_START, MAX_PROFILE, describe_tiff, name_other_format, strip_png
from stages.pixels.profiles import convert_to_srgb
from stages.runtime.errors import UserError

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # JPEG includes the MPO of cameras
SHRINK_LIMIT = 1.5  # a JPEG is decoded at half, a quarter or an eighth of its size, if that is so many times as large
DARK = 2 ** (12 - 8)  # colours of 16 bits that use 12 bits are darker than this
TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnusableImageError(ValueError):
    """The file is not a usable picture; `reason` is a key of stages.dataset.rejections.REASONS."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason, self.detail = reason, " ".join(detail.split())


class Picture(NamedTuple):
    """The first frame of an image file, mode RGB, and the number of frames or pages in the file."""

    image: Image.Image
    n_frames: int
    grey_bits: int  # bits of the largest value of grey pixels wider than 8 bits; 0 for all other pictures


def read_content(path: Path) -> bytes:
    """Read a whole file if it starts like an image; films, for example, are not read to the end.

    Raises:
        UnusableImageError: the file is empty, has another format, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(256)
            if not start:
                raise UnusableImageError("empty", "0 bytes")
            Image.init()
            what = name_other_format(start)
            if what or not any(accept(start) for _, accept in map(Image.OPEN.get, FORMATS)):
                raise UnusableImageError("format", what or f"its first bytes are {start[:8]!r}")
            return start + file.read()
    except OSError as error:
        raise UnusableImageError("unreadable", error.strerror or str(error)) from None


def decode(
    content: bytes, max_pixels: int | None = None, shrink_to_px: int | None = None, grey_bits: int | None = None
) -> Picture:
    """Decode the bytes of an image file: upright, in sRGB, on white, with 8 bits.

    Args:
        max_pixels: largest width x height that is decoded; None: no limit.
        shrink_to_px: decode a JPEG at a fraction of its size, with no side smaller than SHRINK_LIMIT times this.
        grey_bits: number of bits used of grey pixels of 16 or 32 bits; None: as many as the largest value needs.
    Raises:
        UnusableImageError: the file is damaged or too large, or its pixels have no known meaning.
    """
    try:
        return _decode(content, max_pixels, shrink_to_px, grey_bits)
    except UnusableImageError as error:
        if error.reason != "damaged" or not content.startswith(JPEG_START):
            raise
        # perhaps only the end is missing: then additional bytes before the end change nothing
        ended = [content.rstrip(b"\xff") + more + JPEG_END for more in (b"", b"\x5a" * 64, b"\xff\0" * 64)]
        first, *others = (_decode(each, max_pixels, shrink_to_px, grey_bits) for each in ended)
        if any(each.image.tobytes() != first.image.tobytes() for each in others):
            raise
        return first


def _decode(content: bytes, max_pixels: int | None, shrink_to_px: int | None, grey_bits: int | None) -> Picture:
    Image.MAX_IMAGE_PIXELS = None  # max_pixels is the limit
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_PROFILE  # Pillow counts the profile as text
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # errors are raised, too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata: only pixels matter
            with Image.open(io.BytesIO(strip_png(content)), formats=FORMATS) as image:
                width, height = image.size
                if max_pixels and width * height > max_pixels:
                    detail = f"{width} x {height} = {width * height:,} pixels, images_max_pixels is {max_pixels:,}"
                    raise UnusableImageError("size", detail)
                if image.format == "TIFF" and image.tag_v2.get(ExifTags.Base.NewSubfileType, 0) & 1:
                    detail = "it starts with a small preview, as raw files of cameras do; convert it to JPEG or PNG"
                    raise UnusableImageError("format", detail)
                if shrink_to_px:
                    smallest = math.ceil(SHRINK_LIMIT * shrink_to_px)
                    image.draft(None, (smallest, smallest))
                n_frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
                image.seek(int(image.info.get("default_image", 0)))  # an animated PNG may hide its default image
                has_wide_colours = ";16" in str(image.tile)
                image.load()
                its_bits = _count_grey_bits(image)
                if has_wide_colours and not its_bits:
                    _refuse_dark(image)
                return Picture(_turn_upright(_to_rgb(image, grey_bits or its_bits), image), n_frames, its_bits)
    except (UnusableImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        if pixels := describe_tiff(content):
            raise UnusableImageError("format", f"{pixels}; save it as 8-bit RGB or grey") from None
        raise UnusableImageError("damaged", "its header cannot be read") from None
    # damaged bytes make Pillow's decoders raise any error: struct.error, KeyError, TypeError, ...
    except Exception as error:
        raise UnusableImageError("damaged", str(error) or type(error).__name__) from None


def _turn_upright(picture: Image.Image, image: Image.Image) -> Image.Image:
    """Turn a picture according to the EXIF orientation; no other metadata are read."""
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged bytes
        return picture
    return picture if turn is None else picture.transpose(turn)


def _count_grey_bits(image: Image.Image) -> int:
    """Return the bits of the largest value of wide grey pixels: 8, 10, 12, 14 or 16; 0 for other pixels."""
    smallest, largest = image.getextrema() if image.mode == "I" else (0, 0)
    if image.mode == "F" or not 0 <= smallest <= largest < 2**16:
        raise UnusableImageError("format", f"32-bit pixels (mode {image.mode}); save it with 8 or 16 bits")
    if not image.mode.startswith("I") or image.format == "PPM":  # PPM declares its depth; Pillow converts it to 16 bits
        return 0
    n_bits = int(np.asarray(image).max()).bit_length()
    return max(8, n_bits + n_bits % 2)


def _refuse_dark(image: Image.Image) -> None:
    """Refuse colours of 16 bits that only use the lower 12, because Pillow keeps the upper 8."""
    if np.asarray(image.convert("RGB")).max() < DARK:
        detail = "almost black: its 16-bit colours use 12 bits or fewer; scale them to 16 bits, or save it with 8 bits"
        raise UnusableImageError("format", detail)


def _to_rgb(image: Image.Image, grey_bits: int) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):  # wide grey; Pillow would clip it at 255
        pixels = np.minimum(np.asarray(image) >> ((16 if image.format == "PPM" else grey_bits) - 8), 255)
        is_inverted = image.format == "TIFF" and image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        image = Image.fromarray((255 - pixels if is_inverted else pixels).astype(np.uint8))
    if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getextrema()[1]:
        image = image.convert("RGB")  # alpha was never written; browsers show the picture
    rgb = convert_to_srgb(image, profile) or (image if image.mode == "RGB" else image.convert("RGB"))
    if image.has_transparency_data:  # the colour under transparent pixels is arbitrary
        rgb.putalpha(image.convert("RGBA").getchannel("A"))
        rgb = Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgb).convert("RGB")
    return rgb


def hash_pixels(image: Image.Image) -> str:
    """Return the sha256 (hexadecimal) of size and pixels of an RGB image, equal for all lossless copies."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def fit_square(content: bytes, size_px: int, max_pixels: int | None = None, grey_bits: int | None = None) -> np.ndarray:
    """Decode the bytes of an image file, crop the central square and resize it.

    Args:
        max_pixels: largest width x height that is decoded; None: no limit.
        grey_bits: as in `decode`.
    Returns:
        uint8, shape (size_px, size_px, 3), RGB.
    Raises:
        UnusableImageError: the bytes are not a usable picture.
    """
    image = decode(content, max_pixels, size_px, grey_bits).image
    return np.asarray(ImageOps.fit(image, (size_px, size_px), Image.Resampling.BICUBIC))


def read_square(path: Path | str, size_px: int, sha256: str | None = None, grey_bits: int | None = None) -> np.ndarray:
    """Decode and resize an image file with `fit_square`: the pixels for training and for predictions.

    Args:
        sha256: expected sha256 of the file, from the manifest; None: not checked.
        grey_bits: as in `decode`.
    Returns:
        uint8, shape (size_px, size_px, 3), RGB.
    Raises:
        UserError: the file is not an image, damaged, or differs from the manifest.
    """
    try:
        content = read_content(Path(path))
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(f"{path}: the file changed after `split` listed it; run `dvc repro` again")
        return fit_square(content, size_px, grey_bits=grey_bits)
    except UnusableImageError as error:
        raise UserError(
            f"{path}: not a usable image ({error.detail}); repair or remove it, and run `dvc repro`"
        ) from None
