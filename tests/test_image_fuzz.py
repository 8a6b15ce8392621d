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
from stages.dataset.rejections import REASONS

MAX_PIXELS = 250_000
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def _encode(kind: str, mode: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


SEEDS = [
    *(_encode("JPEG", mode, progressive=progressive) for mode in ("L", "RGB", "CMYK") for progressive in (False, True)),
    *(_encode("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(_encode("GIF", mode) for mode in ("L", "P")),
    *(_encode("PPM", mode) for mode in ("1", "L", "RGB")),
    *(_encode("BMP", mode) for mode in ("1", "L", "P", "RGB")),
    *(_encode("TIFF", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "F", "I", "I;16")),
    _encode("TIFF", "RGB", big_tiff=True),
    *(_encode("TIFF", "RGB", compression=name) for name in ("tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits")),
    *(_encode("AVIF", mode) for mode in ("L", "RGB", "RGBA")),
    *(_encode("WEBP", mode, lossless=lossless) for mode in ("RGB", "RGBA") for lossless in (False, True)),
    *(
        _encode(kind, "RGB", save_all=True, append_images=[Image.new("RGB", (20, 12), "red")] * 2)
        for kind in ("GIF", "PNG", "TIFF", "WEBP", "MPO")
    ),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw an image file with some bytes changed, cut out, doubled, or taken from another one."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 8))):
        place, length = draw(st.integers(0, max(0, len(content) - 1))), draw(st.integers(1, 16))
        other = draw(st.sampled_from(SEEDS))[place : place + length]
        extreme = draw(st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1"]))
        double = bytes(content[place : place + length]) * 2
        content[place : place + length] = draw(st.sampled_from([b"", other, extreme, double]) | st.binary(max_size=16))
    return bytes(content[: draw(st.none() | st.integers(16, 400))])


@settings(max_examples=150 * int(os.environ.get("QUINTET_FUZZ", "1")), deadline=None, derandomize=True, database=None)
@given(damaged() | st.tuples(st.sampled_from([seed[:8] for seed in SEEDS]), st.binary(max_size=300)).map(b"".join))
def test_a_file_of_any_bytes_is_taken_or_rejected(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / "file").write_bytes(content)
    facts = inspect_file(folder, "file", MAX_PIXELS, likeness=True)
    assert facts.path == "file"
    if isinstance(facts, Facts):
        assert 0 < facts.width * facts.height <= MAX_PIXELS
        assert facts.likeness is None or facts.likeness.shape == (4, 32)
    else:
        assert facts.reason in REASONS
        assert facts.detail
        assert "\n" not in facts.detail
