"""One image file: the picture that is decoded, and the message for a file without a usable picture."""

import hashlib
import io
import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from stages.pixels.decoding import UnusableImageError, decode, fit_square, hash_pixels, read_content, read_square
from stages.runtime.errors import UserError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def _image(*rows) -> Image.Image:
    return Image.fromarray(np.array(rows, dtype=np.uint8))


def _content(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _decode(image: Image.Image, kind: str, **options) -> list:
    """Save an image, and return the decoded pixels."""
    return np.asarray(decode(_content(image, kind, **options)).image).tolist()


def _reason(content: bytes, max_pixels: int | None = None) -> str:
    with pytest.raises(UnusableImageError) as caught:
        decode(content, max_pixels)
    return caught.value.reason


def _oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {}) for kind in ("BMP", "GIF", "PNG", "PPM", "TIFF")),
        ("TIFF", {"big_tiff": True}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_lossless_formats_of_one_picture_have_the_same_pixels(tmp_path, kind, options):
    image = _image([RED, GREEN], [BLUE, WHITE])
    image.save(tmp_path / "file", kind, **options)
    decoded = decode(read_content(tmp_path / "file"))
    assert (hash_pixels(decoded.image), decoded.n_frames, decoded.grey_bits) == (hash_pixels(image), 1, 0)


def test_the_middle_square_is_read_and_small_images_are_enlarged(tmp_path):
    row = [RED, RED, GREEN, BLUE, WHITE, WHITE]
    _image(row, row).save(tmp_path / "wide.png")
    assert read_square(tmp_path / "wide.png", 2).tolist() == [[[*GREEN], [*BLUE]]] * 2
    _image(*([colour, colour] for colour in row)).save(tmp_path / "tall.bmp")
    assert read_square(tmp_path / "tall.bmp", 2).tolist() == [[[*GREEN]] * 2, [[*BLUE]] * 2]
    Image.new("RGB", (1, 1), BLUE).save(tmp_path / "no ending", "PNG")
    assert read_square(tmp_path / "no ending", 3).tolist() == [[[*BLUE]] * 3] * 3


def test_pictures_are_resized_by_the_bicubic_filter(tmp_path):
    # the cubic of a = -0.5, at 1.75, 0.75, 0.25 and 1.25 pixels from the four: -0.0234, 0.2266, 0.8672, -0.0703; of the
    # last two, which are brighter by 100, the fifth pixel gets 79.7 and the sixth 107.0; at edges weights are scaled
    Image.fromarray(np.array([[100, 100, 200, 200]] * 4, dtype=np.uint8)).save(tmp_path / "step.png")
    assert read_square(tmp_path / "step.png", 8)[:, :, 0].tolist() == [[100, 98, 93, 120, 180, 207, 202, 200]] * 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_read_as_viewers_show_it(orientation):
    stored = np.array([[RED, GREEN, BLUE], [WHITE, RED, GREEN]], dtype=np.uint8)
    upright = {  # sides at the stored first row and first column, by the standard: top left, top right, ...
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: stored[::-1].transpose(1, 0, 2),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: stored[:, ::-1].transpose(1, 0, 2),
    }
    assert _decode(Image.fromarray(stored), "PNG", exif=_oriented(orientation)) == upright[orientation].tolist()


def _odd_exif() -> bytes:
    """Return EXIF with orientation 6 and a resolution of -72: a fraction that Pillow can read but not write."""
    tags = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x011A, 10, 1, 38)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tags + struct.pack("<Iii", 0, -72, 1)


def _insert_chunk(png: bytes, name: bytes, content: bytes, checksum: int | None = None) -> bytes:
    """Insert a chunk after the header of a PNG."""
    checksum = zlib.crc32(name + content) if checksum is None else checksum
    return png[:33] + struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum) + png[33:]


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP"])
def test_odd_metadata_neither_hides_a_picture_nor_keeps_it_from_being_turned(kind):
    assert decode(_content(Image.new("RGB", (4, 2), RED), kind, exif=_odd_exif())).image.size == (2, 4)


@pytest.mark.parametrize(
    ("name", "content", "checksum"),
    [
        (b"zTXt", b"key\0\0" + zlib.compress(bytes(1_100_000)), None),
        (b"iTXt", b"key\0\1\0\0\0" + zlib.compress(bytes(1_100_000)), None),
        (b"tEXt", b"key\0text", 0),
        (b"pHYs", b"short", None),
        (b"iCCP", b"name\0\0" + zlib.compress(bytes(1_100_000)), None),
        (b"iCCP", b"name\0\0" + zlib.compress(bytes(99)), 0),
        (b"iCCP", b"name\0", None),
        (b"iCCP", b"name\0\0" + zlib.compress(bytes(2**24 + 1)), None),
    ],
    ids=[
        *("long zTXt", "long iTXt", "wrong checksum", "short"),
        *("long profile", "profile of a wrong checksum", "cut profile", "endless profile"),
    ],
)
def test_a_png_is_read_whatever_stands_in_chunks_that_do_not_matter_to_it(name, content, checksum):
    png = _insert_chunk(_content(Image.new("RGB", (1, 1), RED), "PNG"), name, content, checksum)
    assert np.asarray(decode(png).image).tolist() == [[[*RED]]]


def test_a_large_jpeg_that_is_decoded_at_a_fraction_of_its_size_stays_upright(tmp_path):
    pixels = np.full((128, 64, 3), RED, dtype=np.uint8)
    pixels[64:] = BLUE  # the stored lower half becomes the left half
    Image.fromarray(pixels).save(tmp_path / "image.jpg", exif=_oriented(6), quality=95)
    image = read_square(tmp_path / "image.jpg", 8).astype(int)
    assert np.abs(image[:, 0] - BLUE).max() <= 3
    assert np.abs(image[:, -1] - RED).max() <= 3
    for width, height in ((64, 128), (128, 64), (48, 96)):  # the shorter side becomes 16 px, or 1.5 x 8 px
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        content = _content(Image.fromarray(pixels), "JPEG")
        smaller = decode(content, shrink_to_px=8).image
        assert smaller.size == (width // 4, height // 4)
        np.testing.assert_array_equal(fit_square(content, 8), ImageOps.fit(smaller, (8, 8), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("mode", "progressive"), [("L", True), ("RGB", False), ("CMYK", False)])
def test_every_kind_of_jpeg_gives_its_colours(mode, progressive):
    image = Image.new("RGB", (16, 16), (200, 100, 50)).convert(mode)
    expected = 124 if mode == "L" else (200, 100, 50)  # 0.299 x 200 + 0.587 x 100 + 0.114 x 50 = 124
    assert np.abs(np.array(_decode(image, "JPEG", quality=95, progressive=progressive)) - expected).max() <= 4


# ICC profiles


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return an ICC profile, version 2, for a display (for CMYK: a printer)."""
    kind, pcs = (b"prtr", b"Lab ") if space == b"CMYK" else (b"mntr", b"XYZ ")
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    header = struct.pack(">I4sI4s4s4s12x4s", 128 + len(body), b"none", 0x02400000, kind, space, pcs, b"acsp")
    white = _numbers(0.9642, 1, 0.8249)[8:]
    return header.ljust(68, b"\0") + white + bytes(48) + body


def _numbers(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)) + bytes(2)


PRIMARIES = {"r": (0.4360, 0.2225, 0.0139), "g": (0.3851, 0.7169, 0.0971), "b": (0.1431, 0.0606, 0.7141)}  # of sRGB
WHITE_POINT = {b"wtpt": _numbers(0.9642, 1, 0.8249)}


def _rgb_profile(order: str = "rgb", gamma: float = 2.2) -> bytes:
    xyz = {f"{name}XYZ".encode(): _numbers(*PRIMARIES[of]) for name, of in zip("rgb", order, strict=True)}
    return _profile(b"RGB ", WHITE_POINT | xyz | {f"{name}TRC".encode(): _gamma(gamma) for name in "rgb"})


def _srgb_by_a_table(n: int = 26, darker: int = 0) -> bytes:
    """Return an sRGB profile as programs write it, with its curve as a table so short that one level is lost.

    Args:
        n: number of values in the table.
        darker: number of levels, of 255, by which each colour is darker than in sRGB.
    """
    values = [max(0, i / (n - 1) - darker / 255) for i in range(n)]
    light = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    curve = b"curv" + struct.pack(f">II{n}H", 0, n, *(round(65535 * each) for each in light))
    xyz = {f"{name}XYZ".encode(): _numbers(*PRIMARIES[name]) for name in "rgb"}
    return _profile(b"RGB ", WHITE_POINT | xyz | {f"{name}TRC".encode(): curve for name in "rgb"})


def _ink_profile() -> bytes:
    """Return the profile of a printer whose only coloured ink is black."""
    table = b"".join(bytes([0 if corner & 1 else 255, 128, 128]) for corner in range(16))  # Lab of the 2^4 corners
    identity = b"".join(struct.pack(">i", 65536 * (i % 4 == 0)) for i in range(9))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + bytes(range(256)) * 4 + table + bytes(range(256)) * 3
    return _profile(b"CMYK", WHITE_POINT | {b"A2B0": lut})


@pytest.mark.parametrize(("progressive", "shrink_to_px"), [(False, None), (True, None), (False, 8)])
def test_a_jpeg_that_lacks_its_end_alone_is_whole_and_one_that_lacks_pixels_is_damaged(progressive, shrink_to_px):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = _content(Image.fromarray(pixels), "JPEG", progressive=progressive)
    whole = decode(content, shrink_to_px=shrink_to_px).image
    for n_bytes in (1, 2):
        assert decode(content[:-n_bytes], shrink_to_px=shrink_to_px).image == whole
    for n_bytes in (10, 600):
        assert _reason(content[:-n_bytes]) == "damaged"


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 100})]
)
def test_colours_are_those_of_the_profile(kind, options):
    swapped = _rgb_profile("bgr")  # red values mean blue
    image = Image.new("RGB", (16, 16), (255, 0, 0))
    assert np.abs(np.array(_decode(image, kind, icc_profile=swapped, **options)) - BLUE).max() <= 3
    if kind != "JPEG":
        image.putalpha(0)
        assert _decode(image, kind, icc_profile=swapped, **options) == [[[*WHITE]] * 16] * 16


def test_colours_of_a_palette_grey_and_ink_are_those_of_the_profile():
    palette = Image.new("P", (1, 1))
    palette.putpalette([*RED])
    assert _decode(palette, "PNG", icc_profile=_rgb_profile("bgr")) == [[[*BLUE]]]
    linear = _profile(b"GRAY", WHITE_POINT | {b"kTRC": _gamma(1)})  # half of the light is 188 of 255 in sRGB
    wide = Image.fromarray(np.array([[0x8080]], dtype=np.uint16))
    for grey in (Image.new("L", (1, 1), 128), Image.new("LA", (1, 1), (128, 255)), wide):
        assert _decode(grey, "PNG", icc_profile=linear) == [[[188] * 3]]
        assert _decode(grey, "PNG", icc_profile=_rgb_profile("rgb", gamma=1)) == [[[188] * 3]]
    lifted = _profile(b"GRAY", WHITE_POINT | {b"kTRC": b"curv" + struct.pack(">IIHH", 0, 2, 0x8080, 0xFFFF)})
    of_bits, of_bytes = (_decode(Image.new(mode, (1, 1), 0), "PNG", icc_profile=lifted) for mode in ("1", "L"))
    assert of_bits == of_bytes != [[[0] * 3]]
    cyan, half = Image.new("CMYK", (1, 1), (255, 0, 0, 0)), Image.new("CMYK", (1, 1), (0, 0, 0, 128))
    assert _decode(cyan, "TIFF", icc_profile=_ink_profile()) == [[[*WHITE]]]
    ((inked,),) = _decode(half, "TIFF", icc_profile=_ink_profile())
    assert np.abs(np.array(inked) - 119).max() <= 2  # L* = 50 is 119 of 255 in sRGB; without a profile it is 127


@pytest.mark.parametrize(
    "profile",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        _srgb_by_a_table(),
        b"no profile",
        _rgb_profile("bgr")[:300],
        _ink_profile(),
        _profile(b"GRAY", WHITE_POINT | {b"kTRC": _gamma(1)}),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
    ],
    ids=["sRGB", "sRGB by a table", "none", "cut", "of ink", "of grey", "of Lab"],
)
def test_a_profile_that_is_srgb_broken_or_of_other_pixels_changes_no_byte(profile):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert _decode(Image.fromarray(pixels), "PNG", icc_profile=profile) == pixels.tolist()


def test_colours_are_converted_where_they_differ_from_srgb_by_more_than_two_levels():
    grey = Image.new("RGB", (1, 1), (128, 128, 128))
    for darker, expected in ((2, 128), (3, 125)):
        assert _decode(grey, "PNG", icc_profile=_srgb_by_a_table(256, darker)) == [[[expected] * 3]]


def test_a_profile_that_is_a_number_is_none():
    assert np.asarray(decode(_tiff(1, 8, 1, b"\0\xff", {34675: 7})).image).tolist() == [[[0] * 3, [*WHITE]]]


def test_an_avif_photo_is_read_as_a_jpeg_is():
    image = Image.new("RGBA", (16, 16), (200, 100, 50, 255))
    found = np.array(_decode(image, "AVIF", exif=_oriented(6), quality=90))
    assert np.abs(found - (200, 100, 50)).max() <= 4
    image.putalpha(0)
    assert _decode(image, "AVIF") == [[[*WHITE]] * 16] * 16


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    assert _decode(image, "PNG") == _decode(image.convert("LA"), "PNG") == [[[*WHITE], [0, 0, 0]]]
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([1, 2])
    assert _decode(image, "PNG", transparency=2) == [[[*GREEN], [*WHITE]]]
    assert _decode(_image([GREEN, RED]), "PNG", transparency=RED) == [[[*GREEN], [*WHITE]]]


def test_grey_of_sixteen_bits_keeps_its_brightness():
    # 16-bit values are 257 times the 8-bit ones: 100 * 257 = 25700
    assert _decode(Image.fromarray(np.array([[25700, 257]], dtype=np.uint16)), "PNG") == [[[100] * 3, [1] * 3]]
    assert _decode(Image.fromarray(np.array([[25700, 257]], dtype=np.int32)), "TIFF") == [[[100] * 3, [1] * 3]]


@pytest.mark.parametrize(("kind", "dtype"), [("TIFF", np.int32), ("TIFF", np.uint16), ("PNG", np.uint16)])
def test_grey_of_eight_bits_in_wider_pixels_does_not_turn_black(kind, dtype):
    assert _decode(Image.fromarray(np.array([[0, 100, 255]], dtype=dtype)), kind) == [[[0] * 3, [100] * 3, [255] * 3]]


@pytest.mark.parametrize(
    ("largest", "bits", "expected"),
    [(255, 8, 100), (511, 10, 25), (1023, 10, 25), (4095, 12, 6), (65535, 16, 0)],  # 100 / 4, 100 / 16, 100 / 256
)
def test_wide_grey_has_the_bits_that_its_largest_value_takes_or_those_that_are_said(largest, bits, expected, tmp_path):
    content = _content(Image.fromarray(np.array([[100, largest]], dtype=np.uint16)), "PNG")
    decoded = decode(content)
    assert (decoded.grey_bits, np.asarray(decoded.image)[0, 0].tolist()) == (bits, [expected] * 3)
    assert np.asarray(decode(content, grey_bits=16).image)[0, 0].tolist() == [0] * 3
    assert np.asarray(decode(content, grey_bits=8).image).tolist() == [[[100] * 3, [255] * 3]]
    (tmp_path / "wide.png").write_bytes(_content(Image.fromarray(np.full((2, 2), 100, dtype=np.uint16)), "PNG"))
    assert read_square(tmp_path / "wide.png", 1, grey_bits=bits).tolist() == [[[expected] * 3]]


def test_grey_of_sixteen_bits_whose_zero_is_white_is_inverted_as_that_of_eight_is():
    for bits, white in ((8, b"\0\xff"), (16, b"\0\0\xff\xff")):
        assert np.asarray(decode(_tiff(1, bits, 0, white)).image).tolist() == [[[*WHITE], [0, 0, 0]]]


def test_pixels_of_unknown_brightness_and_too_many_pixels_are_not_decoded():
    assert _reason(_content(Image.new("F", (2, 2), 0.5), "TIFF")) == "format"
    for value in (2**16, -1):
        assert _reason(_content(Image.new("I", (2, 2), value), "TIFF")) == "format"
    content = _content(Image.new("1", (100, 100)), "PNG")
    assert decode(content, 10_000).image.size == (100, 100)
    assert _reason(content, 9_999) == "size"
    with pytest.raises(UnusableImageError, match="10,000 pixels"):
        fit_square(content, 1, max_pixels=9_999)
    bright = _tiff(3, 16, 2, struct.pack("<6H", 9, 99, 4096, 0, 0, 0))  # 4095 would take 12 bits
    assert np.asarray(decode(bright).image).tolist() == [[[0, 0, 16], [0, 0, 0]]]


def test_pgm_of_more_than_eight_bits_keeps_its_brightness():
    ten, dark = b"P5 2 1 1023\n\x02\x00\x00\x00", b"P5 2 1 65535\n\x00\x64\x00\x00"
    assert np.asarray(decode(ten).image).tolist() == [[[128] * 3, [0] * 3]]  # 512 of 1023
    assert np.asarray(decode(dark).image).tolist() == [[[0] * 3, [0] * 3]]  # 100 of 65535
    assert decode(dark).grey_bits == 0


def _tiff(n_bands: int, bits: int, photometric: int, pixels: bytes, more: dict[int, int] | None = None) -> bytes:
    """Return a TIFF of 1 x 2 pixels that Pillow may not be able to write; a single band needs no tag."""
    tags = {256: 2, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 0, 277: n_bands, 278: 1, 279: len(pixels)}
    tags = {tag: value for tag, value in (tags | (more or {})).items() if (tag, value) != (277, 1)}
    end = 8 + 2 + 12 * len(tags) + 4
    wide = n_bands > 2  # with so many bands, the bits do not fit into the tag
    tags[273] = end + 2 * n_bands * wide
    table = struct.pack("<IH", 8, len(tags))
    for tag, value in tags.items():
        if tag == 258:
            table += struct.pack("<HHI", tag, 3, n_bands)
            table += struct.pack("<I", end) if wide else struct.pack("<HH", bits, bits if n_bands == 2 else 0)
        else:
            table += struct.pack("<HHII", tag, 4, 1, value)
    return b"II*\0" + table + bytes(4) + struct.pack("<H", bits) * n_bands * wide + pixels


def _big_tiff_of_64_bits() -> bytes:
    content = _content(Image.new("RGB", (1, 2)), "TIFF", big_tiff=True)
    return content.replace(*(struct.pack("<HHQHHH", 258, 3, 3, *(bits,) * 3) for bits in (8, 64)))


def _bmp(*pixels: bytes) -> bytes:
    """Return a BMP of one row of BGRA pixels, whose header declares an alpha channel."""
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, len(pixels), 1, 1, 32, 3, 4 * len(pixels), 0, 0, 0, 0)
    header = (header + masks + b"BGRs").ljust(108, b"\0")
    return b"BM" + struct.pack("<IHHI", 122 + 4 * len(pixels), 0, 0, 122) + header + b"".join(pixels)


def test_a_bmp_whose_alpha_is_zero_throughout_is_opaque():
    assert np.asarray(decode(_bmp(b"\0\0\xff\0", b"\0\xff\0\0")).image).tolist() == [[[*RED], [*GREEN]]]
    assert np.asarray(decode(_bmp(b"\0\0\xff\0", b"\0\xff\0\xff")).image).tolist() == [[[*WHITE], [*GREEN]]]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\x01\nftypmif1\0\0\0\0mif1heic", "HEIC"),  # its length contains the byte of a line end
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
        (b"md5: 00\nouts:\n- md5: 00\n  path: 1.jpg\n", "dvc pull"),
        (b"outs:\r\n- md5: 00\r\n  path: 1.jpg\r\n", "dvc pull"),
        (b"/annex/objects/SHA256E-s1--00.jpg\n", "git annex get"),
        (b"\n<!DOCTYPE html><title>404</title>", "web page"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (_tiff(5, 8, 2, bytes(10)), "5 x 8 bits"),
        (_tiff(1, 64, 1, bytes(16)), "1 x 64 bits"),
        (_big_tiff_of_64_bits(), "3 x 64 bits"),
        (_tiff(7, 8, 1, bytes(14)), "7 x 8 bits"),
        (_tiff(4, 16, 2, struct.pack("<8H", 9, 99, 999, 65535, 4095, 0, 0, 65535), {338: 2}), "almost black"),
        (_content(Image.new("RGB", (160, 120)), "TIFF", tiffinfo={254: 1}), "raw files"),  # as in a NEF or DNG
    ],
)
def test_a_file_that_cannot_be_read_is_named_for_what_it_is(tmp_path, caplog, content, what):
    (tmp_path / "1.jpg").write_bytes(content)
    with pytest.raises(UnusableImageError, match=what) as caught:
        decode(read_content(tmp_path / "1.jpg"))
    assert caught.value.reason == "format"
    logging.getLogger("another").error("a message of another library")
    assert [record.name for record in caplog.records] == ["another"]  # the caller prints the only line about the file


def test_a_file_of_no_image_format_without_a_byte_or_that_is_not_there_is_refused_for_that(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_bytes(b"notes on roses")
    (tmp_path / "icon").write_bytes(_content(Image.new("RGB", (16, 16)), "ICO"))
    with (tmp_path / "film").open("wb") as film:
        film.truncate(2**40)  # more than the memory: only its start is read
    reasons = {"empty": "empty", "text": "format", "icon": "format", "film": "format", "nowhere": "unreadable"}
    for name, reason in reasons.items():
        with pytest.raises(UnusableImageError) as caught:
            read_content(tmp_path / name)
        assert caught.value.reason == reason
    assert _reason((tmp_path / "icon").read_bytes()) == "damaged"
    assert UnusableImageError("damaged", "two\nlines").detail == "two lines"


@pytest.mark.parametrize(("kind", "n_frames"), [("GIF", 3), ("PNG", 3), ("TIFF", 3), ("WEBP", 3), ("MPO", 1)])
def test_of_several_frames_the_first_is_taken_and_their_number_told_but_of_a_camera(kind, n_frames):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = decode(_content(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert decoded.n_frames == n_frames
    assert np.abs(np.subtract(decoded.image.getpixel((4, 4)), RED)).max() <= (2 if kind == "MPO" else 0)
    if kind == "PNG":  # its first picture may be for programs without animations
        content = _content(frames[0], kind, save_all=True, append_images=frames[1:], default_image=True)
        assert decode(content).image.getpixel((4, 4)) == GREEN


def test_an_unusable_file_and_one_that_is_not_the_listed_one_are_users_mistakes_with_their_names(tmp_path):
    content = _content(Image.new("RGB", (2, 2), RED), "PNG")
    (tmp_path / "a.png").write_bytes(content)
    read_square(tmp_path / "a.png", 2, hashlib.sha256(content).hexdigest())
    with pytest.raises(UserError, match=r"a\.png: .*`dvc repro`"):
        read_square(tmp_path / "a.png", 2, "0" * 64)
    (tmp_path / "a.png").write_bytes(content[:30])
    with pytest.raises(UserError, match=r"a\.png: not a usable image"):
        read_square(tmp_path / "a.png", 2)
