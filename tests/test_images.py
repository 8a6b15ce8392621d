"""Folders and files of images: which are found, under which names, and how one becomes a square of pixels."""

import numpy as np
import pytest
from PIL import Image

from stages.shared.errors import UserError
from stages.shared.images import FoundImage, find_images, read_class_names, read_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def _touch(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def _pixels(*rows):
    return np.array(rows, dtype=np.uint8)


def test_class_folders_are_listed_by_path_without_a_split(tmp_path):
    _touch(tmp_path, "rose/b.jpg", "rose/a.PNG", "iris/c.webp")
    assert find_images(tmp_path) == [
        FoundImage("iris/c.webp", "iris", None),
        FoundImage("rose/a.PNG", "rose", None),
        FoundImage("rose/b.jpg", "rose", None),
    ]


def test_split_folders_give_the_split(tmp_path):
    _touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in ("train", "val", "test") for name in ("a", "b")))
    found = find_images(tmp_path)
    assert [(image.path, image.class_folder, image.split) for image in found] == [
        ("test/a/1.jpg", "a", "test"),
        ("test/b/1.jpg", "b", "test"),
        ("train/a/1.jpg", "a", "train"),
        ("train/b/1.jpg", "b", "train"),
        ("val/a/1.jpg", "a", "val"),
        ("val/b/1.jpg", "b", "val"),
    ]


def test_hidden_files_and_files_that_are_no_images_are_left_out(tmp_path):
    _touch(tmp_path, "a/1.jpg", "a/.2.jpg", "a/notes.txt", "b/1.gif", ".cache/x.jpg", "classes.txt")
    assert [image.path for image in find_images(tmp_path)] == ["a/1.jpg", "b/1.gif"]


@pytest.mark.parametrize(("given", "missing"), [("train", "val, test"), ("train val", "test"), ("val test", "train")])
def test_some_of_the_split_folders_name_the_missing_ones(tmp_path, given, missing):
    _touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in given.split() for name in ("a", "b")))
    with pytest.raises(UserError, match=f"but no {missing}/"):
        find_images(tmp_path)


def test_a_class_may_be_called_train_beside_other_classes(tmp_path):
    _touch(tmp_path, "train/1.jpg", "bus/1.jpg")
    assert [(image.class_folder, image.split) for image in find_images(tmp_path)] == [("bus", None), ("train", None)]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        find_images(tmp_path / "nowhere")


def test_a_class_folder_without_images_is_named(tmp_path):
    _touch(tmp_path, "a/1.jpg", "b/notes.txt")
    with pytest.raises(UserError, match="b: no image"):
        find_images(tmp_path)


@pytest.mark.parametrize(("paths", "n"), [(["a/1.jpg"], 1), (["1.jpg"], 0)])
def test_fewer_than_two_classes_are_refused_with_their_number(tmp_path, paths, n):
    _touch(tmp_path, *paths)
    with pytest.raises(UserError, match=f"two classes or more, found {n}"):
        find_images(tmp_path)


def test_classes_are_named_by_their_folders(tmp_path):
    assert read_class_names(tmp_path, ["iris", "rose"]) == ["iris", "rose"]


def test_classes_txt_names_the_folders_in_sorted_order(tmp_path):
    (tmp_path / "classes.txt").write_text("Iris germanica\n\n  Rosa canina \n", encoding="utf-8")
    assert read_class_names(tmp_path, ["1", "2"]) == ["Iris germanica", "Rosa canina"]


def test_classes_txt_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfiris\r\nrose\r\n")
    assert read_class_names(tmp_path, ["1", "2"]) == ["iris", "rose"]


def test_another_number_of_names_than_classes_is_refused_with_both(tmp_path):
    (tmp_path / "classes.txt").write_text("iris\nrose\ndaisy\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"3 names, but .* 2 classes"):
        read_class_names(tmp_path, ["1", "2"])


def test_a_name_that_stands_there_twice_is_named(tmp_path):
    (tmp_path / "classes.txt").write_text("iris\nrose\niris\n", encoding="utf-8")
    with pytest.raises(UserError, match="'iris' stands there twice"):
        read_class_names(tmp_path, ["1", "2", "3"])


def test_classes_txt_in_another_encoding_is_a_users_mistake(tmp_path):
    (tmp_path / "classes.txt").write_bytes("Schwarzäugige\nrose\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"classes.txt: .*UTF-8"):
        read_class_names(tmp_path, ["1", "2"])


@pytest.mark.parametrize("suffix", ["bmp", "png", "tiff"])
def test_a_square_of_the_wanted_size_keeps_its_pixels(tmp_path, suffix):
    pixels = _pixels([RED, GREEN], [BLUE, WHITE])
    Image.fromarray(pixels).save(tmp_path / f"image.{suffix}")
    image = read_image(tmp_path / f"image.{suffix}", 2)
    assert image.dtype == np.uint8
    assert image.tolist() == pixels.tolist()


def test_a_wide_image_keeps_its_middle_columns(tmp_path):
    # 6 x 2: columns 2 and 3 are the middle square
    row = [RED, RED, GREEN, BLUE, WHITE, WHITE]
    Image.fromarray(_pixels(row, row)).save(tmp_path / "image.png")
    assert read_image(tmp_path / "image.png", 2).tolist() == _pixels([GREEN, BLUE], [GREEN, BLUE]).tolist()


def test_a_tall_image_keeps_its_middle_rows(tmp_path):
    rows = [[colour, colour] for colour in (RED, RED, GREEN, BLUE, WHITE, WHITE)]
    Image.fromarray(_pixels(*rows)).save(tmp_path / "image.png")
    assert read_image(tmp_path / "image.png", 2).tolist() == _pixels([GREEN, GREEN], [BLUE, BLUE]).tolist()


def test_a_small_image_is_enlarged(tmp_path):
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "image.png")
    assert read_image(tmp_path / "image.png", 4).tolist() == np.full((4, 4, 3), (10, 20, 30)).tolist()


def test_exif_rotation_is_applied(tmp_path):
    # orientation 6: to be turned clockwise by a quarter, so that the stored left column, read upwards, is the top row
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_pixels([RED, GREEN], [BLUE, WHITE])).save(tmp_path / "image.png", exif=exif)
    assert read_image(tmp_path / "image.png", 2).tolist() == _pixels([BLUE, RED], [WHITE, GREEN]).tolist()


def test_a_large_jpeg_that_is_decoded_at_a_fraction_of_its_size_stays_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.full((128, 64, 3), RED, dtype=np.uint8)
    pixels[64:] = BLUE  # the stored lower half becomes the left half
    Image.fromarray(pixels).save(tmp_path / "image.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "image.jpg", 8).astype(int)
    assert np.abs(image[:, 0] - BLUE).max() <= 3
    assert np.abs(image[:, -1] - RED).max() <= 3


def test_grey_becomes_three_equal_channels(tmp_path):
    Image.fromarray(_pixels([0, 100], [200, 255])).save(tmp_path / "image.png")
    expected = _pixels([(0,) * 3, (100,) * 3], [(200,) * 3, (255,) * 3])
    assert read_image(tmp_path / "image.png", 2).tolist() == expected.tolist()


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path):
    # 16-bit values are 257 times the 8-bit ones: 100 * 257 = 25700
    Image.fromarray(np.full((2, 2), 25700, dtype=np.uint16)).save(tmp_path / "image.png")
    assert np.abs(read_image(tmp_path / "image.png", 2).astype(int) - 100).max() <= 1


def test_a_palette_with_transparency_gives_the_palettes_colours(tmp_path):
    image = Image.new("P", (2, 2))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2, 0])
    image.save(tmp_path / "image.png", transparency=2)
    pixels = read_image(tmp_path / "image.png", 2)
    assert pixels.shape == (2, 2, 3)
    assert [pixels[0, 0].tolist(), pixels[0, 1].tolist(), pixels[1, 1].tolist()] == [[*RED], [*GREEN], [*RED]]


def test_alpha_is_dropped(tmp_path):
    Image.new("RGBA", (2, 2), (10, 20, 30, 255)).save(tmp_path / "image.png")
    assert read_image(tmp_path / "image.png", 2).tolist() == np.full((2, 2, 3), (10, 20, 30)).tolist()


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_a_file_cut_short_is_a_users_mistake_with_its_name(tmp_path, suffix, share):
    path = tmp_path / f"image.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=rf"image\.{suffix}: not a readable image"):
        read_image(path, 8)


def test_a_text_under_an_images_name_is_a_users_mistake(tmp_path):
    (tmp_path / "image.jpg").write_text("no image", encoding="utf-8")
    with pytest.raises(UserError, match=r"image\.jpg: not a readable image"):
        read_image(tmp_path / "image.jpg", 8)
