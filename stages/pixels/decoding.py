"""Decodes an image file to the picture that a person sees: upright, in sRGB, on white; or says why there is none."""

import hashlib
import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from stages.pixels.containers import JPEG_END, JPEG_START, MAX_PROFILE, describe_tiff, name_other_format, strip_png
from stages.pixels.profiles import convert_to_srgb
from stages.runtime.errors import UserError

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # JPEG includes the MPO of cameras
TURNS = {  # by the orientation in EXIF
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnusableImageError(ValueError):
    """No picture can be made of a file; `reason` is a key of stages.dataset.rejections.REASONS."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason, self.detail = reason, " ".join(detail.split())


class Picture(NamedTuple):
    """A decoded image, mode RGB, and how many frames or pages its file has; it is the first of them."""

    image: Image.Image
    n_frames: int
    grey_bits: int = 0  # that the largest value of grey pixels wider than 8 bits takes; 0 of all others


def read_content(path: Path) -> bytes:
    """Read a file whole, if its first bytes are those of an image format: a film is not read to its end.

    Raises:
        UnusableImageError: it is empty, of another format, or cannot be read.
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
    """Decode an image file's bytes: orientation applied, colours made sRGB, transparency laid on white, 16 bits made 8.

    Args:
        max_pixels: width x height beyond which nothing is decoded; None is no limit.
        shrink_to_px: allows a JPEG to be decoded at a fraction of its size, no side smaller than twice this.
        grey_bits: how many bits of grey pixels of 16 or 32 bits are used; None is as many as the largest value takes.
    Raises:
        UnusableImageError: it is damaged, too large, or its pixels have no known meaning.
    """
    try:
        return _decode(content, max_pixels, shrink_to_px, grey_bits)
    except UnusableImageError as error:
        if error.reason != "damaged" or not content.startswith(JPEG_START):
            raise
        # it may lack no more than its end: then further bytes before that change nothing
        ended = [content.rstrip(b"\xff") + more + JPEG_END for more in (b"", b"\x5a" * 64, b"\xff\0" * 64)]
        first, *others = (_decode(each, max_pixels, shrink_to_px, grey_bits) for each in ended)
        if any(each.image.tobytes() != first.image.tobytes() for each in others):
            raise
        return first


def _decode(content: bytes, max_pixels: int | None, shrink_to_px: int | None, grey_bits: int | None) -> Picture:
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_PROFILE  # what it takes for text is the profile
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata: the pixels decide
            with Image.open(io.BytesIO(strip_png(content)), formats=FORMATS) as image:
                width, height = image.size
                if max_pixels and width * height > max_pixels:
                    detail = f"{width} x {height} = {width * height:,} pixels, images_max_pixels is {max_pixels:,}"
                    raise UnusableImageError("size", detail)
                if image.format == "TIFF" and image.tag_v2.get(ExifTags.Base.NewSubfileType, 0) & 1:
                    detail = "it begins with a small copy, as the raw files of cameras do; convert it to JPEG or PNG"
                    raise UnusableImageError("format", detail)
                if shrink_to_px:
                    image.draft(None, (2 * shrink_to_px, 2 * shrink_to_px))
                n_frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
                image.seek(int(image.info.get("default_image", 0)))  # of a PNG, one that its animation leaves out
                image.load()
                its_bits = _count_grey_bits(image)
                return Picture(_turn_upright(_to_rgb(image, grey_bits or its_bits), image), n_frames, its_bits)
    except (UnusableImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        if pixels := describe_tiff(content):
            raise UnusableImageError("format", f"{pixels}; save it as RGB or grey of 8 bits") from None
        raise UnusableImageError("damaged", "its header is not readable") from None
    # damaged bytes make Pillow's decoders raise whatever their code comes to: struct.error, KeyError, TypeError, ...
    except Exception as error:
        raise UnusableImageError("damaged", str(error) or type(error).__name__) from None


def _turn_upright(picture: Image.Image, image: Image.Image) -> Image.Image:
    """Turn a picture as the EXIF of its image file says; nothing else of the metadata is read, and nothing written."""
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # as of damaged bytes
        return picture
    return picture if turn is None else picture.transpose(turn)


def _count_grey_bits(image: Image.Image) -> int:
    """Return how many bits the largest value of wide grey pixels takes: 8, 10, 12, 14 or 16; 0 of other pixels."""
    smallest, largest = image.getextrema() if image.mode in ("F", "I") else (0, 0)
    if image.mode == "F" or not 0 <= smallest <= largest < 2**16:
        raise UnusableImageError("format", f"pixels of 32 bits (mode {image.mode}); save it with 8 or 16")
    if not image.mode.startswith("I") or image.format == "PPM":  # of PPM, which declares it, Pillow makes 16 bits
        return 0
    n_bits = int(np.asarray(image).max()).bit_length()
    return max(8, n_bits + n_bits % 2)


def _to_rgb(image: Image.Image, grey_bits: int) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):  # wide grey, which Pillow would clip at 255
        pixels = np.minimum(np.asarray(image) >> ((16 if image.format == "PPM" else grey_bits) - 8), 255)
        is_inverted = image.format == "TIFF" and image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        image = Image.fromarray((255 - pixels if is_inverted else pixels).astype(np.uint8))
    if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getextrema()[1]:
        image = image.convert("RGB")  # its alpha was never written: browsers show it
    rgb = convert_to_srgb(image, profile) or image.convert("RGB")
    if image.has_transparency_data:  # the colour under transparent pixels is arbitrary
        rgb.putalpha(image.convert("RGBA").getchannel("A"))
        rgb = Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgb).convert("RGB")
    return rgb


def hash_pixels(image: Image.Image) -> str:
    """Return the sha256 of an RGB image's size and pixels, in hexadecimal: the same for every lossless copy."""
    return hashlib.sha256(f"{image.width}x{image.height}:".encode() + image.tobytes()).hexdigest()


def fit_square(content: bytes, size_px: int, max_pixels: int | None = None, grey_bits: int | None = None) -> np.ndarray:
    """Decode an image file's bytes, centre-crop the picture to a square and resize it.

    Args:
        max_pixels: width x height beyond which nothing is decoded; None is no limit.
        grey_bits: as of `decode`.
    Returns:
        uint8, shape (size_px, size_px, 3), RGB.
    Raises:
        UnusableImageError: no picture can be made of them.
    """
    image = decode(content, max_pixels, size_px, grey_bits).image
    return np.asarray(ImageOps.fit(image, (size_px, size_px), Image.Resampling.BICUBIC))


def read_square(path: Path | str, size_px: int, sha256: str | None = None, grey_bits: int | None = None) -> np.ndarray:
    """Decode and resize an image file, as `fit_square` does: the pixels that models learn from, and are asked about.

    Args:
        sha256: of the file's bytes, as the manifest lists it; None is not checked.
        grey_bits: as of `decode`.
    Returns:
        uint8, shape (size_px, size_px, 3), RGB.
    Raises:
        UserError: the file is no image, a damaged one, or not the one that was listed.
    """
    try:
        content = read_content(Path(path))
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(f"{path}: not the file that the manifest lists (other bytes); run `dvc repro`")
        return fit_square(content, size_px, grey_bits=grey_bits)
    except UnusableImageError as error:
        raise UserError(f"{path}: no usable image ({error.detail}); mend or remove it, and run `dvc repro`") from None
