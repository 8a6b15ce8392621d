"""One image file: which picture is read out of it, and what is said of one that holds none."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from stages.pixels.decoding import UnusableImageError, decode, hash_pixels, read_content, read_square
from stages.runtime.errors import UserError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def _pixels(*rows):
    return np.array(rows, dtype=np.uint8)


def _content(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _reason(content: bytes, max_pixels: int | None = None) -> str:
    with pytest.raises(UnusableImageError) as caught:
        decode(content, max_pixels)
    return caught.value.reason


@pytest.mark.parametrize("suffix", ["bmp", "png", "tiff"])
def test_a_square_of_the_wanted_size_keeps_its_pixels(tmp_path, suffix):
    pixels = _pixels([RED, GREEN], [BLUE, WHITE])
    Image.fromarray(pixels).save(tmp_path / f"image.{suffix}")
    image = read_square(tmp_path / f"image.{suffix}", 2)
    assert image.dtype == np.uint8
    assert image.tolist() == pixels.tolist()


def test_a_wide_image_keeps_its_middle_columns(tmp_path):
    # 6 x 2: columns 2 and 3 are the middle square
    row = [RED, RED, GREEN, BLUE, WHITE, WHITE]
    Image.fromarray(_pixels(row, row)).save(tmp_path / "image.png")
    assert read_square(tmp_path / "image.png", 2).tolist() == _pixels([GREEN, BLUE], [GREEN, BLUE]).tolist()


def test_a_tall_image_keeps_its_middle_rows(tmp_path):
    rows = [[colour, colour] for colour in (RED, RED, GREEN, BLUE, WHITE, WHITE)]
    Image.fromarray(_pixels(*rows)).save(tmp_path / "image.png")
    assert read_square(tmp_path / "image.png", 2).tolist() == _pixels([GREEN, GREEN], [BLUE, BLUE]).tolist()


def test_a_small_image_is_enlarged(tmp_path):
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "image.png")
    assert read_square(tmp_path / "image.png", 4).tolist() == np.full((4, 4, 3), (10, 20, 30)).tolist()


def test_exif_rotation_is_applied(tmp_path):
    # orientation 6: to be turned clockwise by a quarter, so that the stored left column, read upwards, is the top row
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_pixels([RED, GREEN], [BLUE, WHITE])).save(tmp_path / "image.png", exif=exif)
    assert read_square(tmp_path / "image.png", 2).tolist() == _pixels([BLUE, RED], [WHITE, GREEN]).tolist()


def test_a_large_jpeg_that_is_decoded_at_a_fraction_of_its_size_stays_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.full((128, 64, 3), RED, dtype=np.uint8)
    pixels[64:] = BLUE  # the stored lower half becomes the left half
    Image.fromarray(pixels).save(tmp_path / "image.jpg", exif=exif, quality=95)
    image = read_square(tmp_path / "image.jpg", 8).astype(int)
    assert np.abs(image[:, 0] - BLUE).max() <= 3
    assert np.abs(image[:, -1] - RED).max() <= 3


def test_grey_becomes_three_equal_channels(tmp_path):
    Image.fromarray(_pixels([0, 100], [200, 255])).save(tmp_path / "image.png")
    expected = _pixels([(0,) * 3, (100,) * 3], [(200,) * 3, (255,) * 3])
    assert read_square(tmp_path / "image.png", 2).tolist() == expected.tolist()


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path):
    # 16-bit values are 257 times the 8-bit ones: 100 * 257 = 25700
    Image.fromarray(np.full((2, 2), 25700, dtype=np.uint16)).save(tmp_path / "image.png")
    assert np.abs(read_square(tmp_path / "image.png", 2).astype(int) - 100).max() <= 1


def test_a_palette_with_transparency_gives_the_palettes_colours(tmp_path):
    image = Image.new("P", (2, 2))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2, 0])
    image.save(tmp_path / "image.png", transparency=2)
    pixels = read_square(tmp_path / "image.png", 2)
    assert pixels.shape == (2, 2, 3)
    assert [pixels[0, 0].tolist(), pixels[0, 1].tolist(), pixels[1, 1].tolist()] == [[*RED], [*GREEN], [*RED]]


def test_alpha_is_dropped(tmp_path):
    Image.new("RGBA", (2, 2), (10, 20, 30, 255)).save(tmp_path / "image.png")
    assert read_square(tmp_path / "image.png", 2).tolist() == np.full((2, 2, 3), (10, 20, 30)).tolist()


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_a_file_cut_short_is_a_users_mistake_with_its_name(tmp_path, suffix, share):
    path = tmp_path / f"image.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=rf"image\.{suffix}: no usable image"):
        read_square(path, 8)


def test_a_text_under_an_images_name_is_a_users_mistake(tmp_path):
    (tmp_path / "image.jpg").write_text("no image", encoding="utf-8")
    with pytest.raises(UserError, match=r"image\.jpg: no usable image"):
        read_square(tmp_path / "image.jpg", 8)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "PNG", "TIFF", "WEBP"])
def test_lossless_formats_of_one_picture_have_the_same_pixels(kind):
    image = Image.fromarray(_pixels([RED, GREEN], [BLUE, WHITE]))
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded, n_frames = decode(_content(image, kind, **options))
    assert (hash_pixels(decoded), n_frames) == (hash_pixels(image), 1)


def test_pictures_of_the_same_bytes_and_another_shape_differ():
    assert hash_pixels(Image.new("RGB", (2, 3))) != hash_pixels(Image.new("RGB", (3, 2)))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg_gives_its_colours(mode, options):
    image = Image.new("RGB", (16, 16), (200, 100, 50)).convert(mode)
    expected = 126 if mode == "L" else (200, 100, 50)  # 0.299 x 200 + 0.587 x 100 + 0.114 x 50 = 124
    decoded, _ = decode(_content(image, "JPEG", quality=95, **options))
    assert decoded.mode == "RGB"
    assert np.abs(np.asarray(decoded).astype(int) - expected).max() <= 4


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    decoded, _ = decode(_content(image.convert(mode), "PNG"))
    assert np.asarray(decoded).tolist() == [[[*WHITE], [0, 0, 0]]]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_taken_and_their_number_told(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded, n_frames = decode(_content(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert n_frames == 3
    assert decoded.getpixel((4, 4)) == RED


def test_sixteen_bits_of_colour_become_eight():
    # Pillow writes no such PNG: its header says 16 bits and RGB, and each of the two rows begins with a filter byte, 0
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    row = b"\0" + struct.pack(">6H", 25700, 51400, 0, 65535, 0, 257)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    decoded, _ = decode(png + chunk(b"IDAT", zlib.compress(row * 2)) + chunk(b"IEND", b""))
    assert np.asarray(decoded).tolist() == [[[100, 200, 0], [255, 0, 1]]] * 2


def test_pixels_of_32_bits_have_no_known_brightness():
    assert _reason(_content(Image.new("F", (2, 2), 0.5), "TIFF")) == "format"
    assert _reason(_content(Image.new("I", (2, 2), 2**20), "TIFF")) == "format"


def test_an_image_of_more_pixels_than_the_limit_is_not_decoded():
    content = _content(Image.new("1", (100, 100)), "PNG")
    assert decode(content, 10_000).image.size == (100, 100)
    assert _reason(content, 9_999) == "size"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"no image", "format"), (b"RIFF\0\0\0\0WAVEfmt ", "format"), (b"%!PS-Adobe-3.0 EPSF", "format")],
)
def test_what_is_no_image_is_told_by_its_first_bytes(tmp_path, content, reason):
    (tmp_path / "file.jpg").write_bytes(content)
    with pytest.raises(UnusableImageError) as caught:
        read_content(tmp_path / "file.jpg")
    assert caught.value.reason == reason


def test_an_ending_does_not_matter(tmp_path):
    (tmp_path / "photo").write_bytes(_content(Image.new("RGB", (2, 2), RED), "PNG"))
    assert read_square(tmp_path / "photo", 2).tolist() == _pixels([RED, RED], [RED, RED]).tolist()


def test_a_file_that_is_not_the_listed_one_is_named(tmp_path):
    content = _content(Image.new("RGB", (2, 2), RED), "PNG")
    (tmp_path / "a.png").write_bytes(content)
    read_square(tmp_path / "a.png", 2, hashlib.sha256(content).hexdigest())
    with pytest.raises(UserError, match=r"a\.png: not the file that the manifest lists"):
        read_square(tmp_path / "a.png", 2, "0" * 64)
