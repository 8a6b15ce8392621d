"""The stage `pack`: it decodes the images of each split into an array, in the order of the manifest, with labels."""

import hashlib
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import pack
from stages.pixels.packed_splits import SPLITS, open_splits, read_groups
from stages.pixels.packing import ROWS_PER_TASK, take_room, write_groups, write_packed_split
from stages.runtime.errors import UserError
from tests.parameters import write_params

SIZE = 36  # stored for networks that see 32 px
COLOURS = {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255), "d": (9, 8, 7)}
ROWS = [
    ("a", "NA", 1, "train", "x"),
    ("b", "007", 0, "train", "x"),
    ("c", "007", 0, "val", "y"),
    ("d", "NA", 1, "test", "nan"),
]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Work in a folder with four images in plain colours, and their manifest."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (40, 50), colour).save(f"images/{name}.png")
    lines = [
        f"{name}.png,{label},{of_class},{split},{_digest(Path(f'images/{name}.png'))},{group}"
        for name, of_class, label, split, group in ROWS
    ]
    Path("manifest.csv").write_text("\n".join(["path,label,class,split,sha256,group", *lines]) + "\n", encoding="utf-8")
    write_params(Path("params.yaml"), images="images")
    monkeypatch.setattr(sys, "argv", ["pack", "manifest.csv", "32", "packed", "--params", "params.yaml"])
    return tmp_path


def test_splits_hold_the_manifests_images_and_labels_in_its_order(folder):
    with pytest.raises(UserError, match=r"classes\.json: .*dvc repro pack"):
        open_splits(Path("packed"), ("train",))
    pack.main()
    names, splits = open_splits(Path("packed"), ("train", "val", "test"))
    assert names == ["007", "NA"]
    assert [split.labels.tolist() for split in splits] == [[1, 0], [0], [1]]
    found = [image for split in splits for image in split.images]
    assert all(image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8 for image in found)
    assert [image[0, 0].tolist() for image in found] == [list(COLOURS[name]) for name in "abcd"]
    assert all((image == image[0, 0]).all() for image in found)
    with pytest.raises(ValueError, match="read-only"):
        splits[0].images[0] = 0


def test_a_packed_split_says_the_depth_of_wide_grey_as_long_as_there_is_any(folder):
    Image.fromarray(np.full((40, 40), 100, np.uint16)).save("images/wide.png")
    for grey_bits, expected in ((12, 100 // 16), (None, 100)):
        write_packed_split(Path("packed/train"), ["images/wide.png"], [0], [""], SIZE, grey_bits)
        assert (np.load("packed/train/images.npy") == expected).all()
        files = ["grey_bits.json"] if grey_bits else []
        assert sorted(path.name for path in Path("packed/train").iterdir()) == [*files, "images.npy", "labels.npy"]
        Path("packed/classes.json").write_text('["a"]', encoding="utf-8")
        assert open_splits(Path("packed"), ("train",))[1][0].grey_bits == grey_bits


def test_a_group_has_one_number_which_does_not_depend_on_the_split_or_on_other_groups(folder):
    pack.main()
    (first, second), (third,), (fourth,) = (read_groups(Path("packed"), split) for split in SPLITS)
    assert first == second == int.from_bytes(hashlib.sha256(b"x").digest()[:8], "little", signed=True)
    assert len({first, third, fourth}) == 3
    write_groups(Path("packed/val"), ["new", "x"])
    assert read_groups(Path("packed"), "val")[1] == first


def test_more_images_than_a_worker_takes_at_a_time_keep_their_places(folder):
    n = 2 * ROWS_PER_TASK + 3
    paths = [Path(f"images/{'abcd'[i % 4]}.png") for i in range(n)]
    write_packed_split(Path("many"), paths, list(range(n)), [_digest(path) for path in paths], SIZE)
    colours = np.load("many/images.npy")[:, 0, 0].tolist()
    assert colours == [list(COLOURS["abcd"[i % 4]]) for i in range(n)]


def test_a_split_without_images_has_arrays_of_the_same_kind(folder):
    write_packed_split(Path("none"), [], [], [], SIZE)
    images, labels = np.load("none/images.npy"), np.load("none/labels.npy")
    assert (images.shape, images.dtype) == ((0, SIZE, SIZE, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((0,), np.int64)


def test_an_image_that_is_not_the_listed_one_is_a_users_mistake_and_leaves_no_array(folder):
    Image.new("RGB", (40, 50)).save("images/b.png")
    with pytest.raises(UserError, match=r"images/b\.png"):
        pack.main()
    assert list(Path("packed/train").iterdir()) == []


def test_a_full_disk_is_known_before_any_image_is_decoded(folder):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 3 * SIZE**2, limits[1]))
    try:
        with pytest.raises(OSError, match=r"images\.npy"):
            write_packed_split(Path("packed"), [Path("images/nowhere.png")] * 3, [0] * 3, [""] * 3, SIZE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(Path("packed").iterdir()) == []


def test_a_sparse_file_gets_all_of_its_blocks(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(2**20)
    take_room(path)
    assert 512 * path.stat().st_blocks >= path.stat().st_size == 2**20
