"""Damaged image files of every format: each gives a picture or a reason, and nothing else.

QUINTET_FUZZ=100 tries a hundred times as many.
"""

import io
import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.dataset.inspection import Facts, inspect_file
from stages.dataset.perceptual_hashes import hash_likeness
from stages.dataset.rejections import REASONS, Rejection
from stages.pixels.decoding import FIRST_BYTES, UnusableImageError, decode

MAX_PIXELS = 250_000
fuzzed = settings(
    max_examples=400 * int(os.environ.get("QUINTET_FUZZ", "1")), deadline=None, derandomize=True, database=None
)


def _encode(kind: str, mode: str, **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    if kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        options["exif"] = exif
    image.convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def _frames(kind: str) -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "green", "blue")]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


SEEDS = [
    *(_encode("JPEG", mode, **options) for mode in ("L", "RGB", "CMYK") for options in ({}, {"progressive": True})),
    *(_encode("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(_encode("GIF", mode) for mode in ("L", "P")),
    *(_encode("BMP", mode) for mode in ("1", "L", "P", "RGB")),
    *(_encode("TIFF", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "F", "I", "I;16")),
    *(_encode("TIFF", "RGB", compression=name) for name in ("tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits")),
    *(_encode("WEBP", mode, lossless=lossless) for mode in ("RGB", "RGBA") for lossless in (False, True)),
    *(_frames(kind) for kind in ("GIF", "PNG", "TIFF", "WEBP", "MPO")),
]


@st.composite
def damaged(draw) -> bytes:
    """Draw an image file with some bytes changed, cut out, doubled, or taken from another one."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 8))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.integers(1, 16))
        kind = draw(st.sampled_from(["change", "extreme", "cut", "double", "end", "other"]))
        if kind == "change":
            content[place : place + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "extreme":
            content[place : place + 4] = draw(
                st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1"])
            )
        elif kind == "cut":
            del content[place : place + length]
        elif kind == "double":
            content[place:place] = content[place : place + length]
        elif kind == "end":
            del content[max(place, 16) :]
        else:
            other = draw(st.sampled_from(SEEDS))
            content[place : place + length] = other[place : place + length]
    return bytes(content)


def _hold(content: bytes) -> None:
    try:
        image, n_frames = decode(content, MAX_PIXELS)
    except UnusableImageError as error:
        reason, detail = error.reason, error.detail
    else:
        assert image.mode == "RGB"
        assert n_frames >= 1
        assert 0 < image.width * image.height <= MAX_PIXELS
        assert hash_likeness(image) is None or hash_likeness(image).shape == (4, 32)
        return
    assert reason in ("damaged", "size", "format")
    assert detail
    assert "\n" not in detail


@fuzzed
@given(damaged())
def test_a_damaged_image_gives_a_picture_or_a_reason(content):
    _hold(content)


@fuzzed
@given(st.sampled_from(FIRST_BYTES), st.binary(max_size=300))
def test_noise_after_the_first_bytes_of_a_format_gives_a_picture_or_a_reason(start, rest):
    _hold(start + rest)


@fuzzed
@given(st.one_of(damaged(), st.binary(max_size=64)))
def test_a_file_of_any_bytes_is_taken_or_rejected(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / "file").write_bytes(content)
    facts = inspect_file(folder, "file", MAX_PIXELS, likeness=True)
    assert isinstance(facts, Facts | Rejection)
    assert facts.path == "file"
    assert not isinstance(facts, Rejection) or facts.reason in REASONS
