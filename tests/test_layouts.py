"""Image folders of every layout: which files are listed, rejected and ignored, and which folders are refused."""

import os
import unicodedata
from itertools import product

import pytest

from stages.dataset.layouts import list_folder
from stages.dataset.rejections import REASONS
from stages.dataset.walk import ListedFile
from stages.runtime.errors import UserError
from tests.image_folders import touch


def _paths(folder):
    return [file.path for file in list_folder(folder).files]


def _splits(folder):
    """Return {top folder: split} of the listed files."""
    return {file.path.split("/")[0]: file.split for file in list_folder(folder).files}


def _rejections(folder):
    rejections = list_folder(folder).rejections
    assert all(each.reason in REASONS for each in rejections)
    return [(each.path, each.reason) for each in rejections]


def _passed_over(folder):
    return {kind: count for kind, count in list_folder(folder).passed_over.items() if count}


def _problems(folder):
    with pytest.raises(UserError) as caught:
        list_folder(folder)
    assert all(str(folder) in problem and "\n" not in problem for problem in caught.value.args)
    return list(caught.value.args)


# Class folders


def test_files_belong_to_the_class_folder_they_are_in_at_any_depth_whatever_their_ending(tmp_path):
    touch(tmp_path, "b/a/3.jpg", "a/1", "a/x/y/z/2.txt", '玫瑰/ 1 , "x" \'.jpg')
    assert list_folder(tmp_path).files == [
        ListedFile("a/1", "a", None),
        ListedFile("a/x/y/z/2.txt", "a", None),
        ListedFile("b/a/3.jpg", "b", None),
        ListedFile('玫瑰/ 1 , "x" \'.jpg', "玫瑰", None),
    ]


def test_every_file_is_listed_rejected_or_counted(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/.2.jpg", "a/Thumbs.db", "a/new\nline", "b/1.jpg", "b/@eaDir/x", ".DS_Store")
    touch(tmp_path, "a/1.jpg:Zone.Identifier", "a/1.jpg\uf03aZone.Identifier", "#recycle/a/1.jpg", "__pycache__/1.pyc")
    touch(tmp_path, "README.md", "classes.txt", os.fsdecode(b"b/\xff.jpg"))
    (tmp_path / "a/broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "b/pipe")  # opening it would block forever
    assert _paths(tmp_path) == ["a/1.jpg", "b/1.jpg"]
    assert _passed_over(tmp_path) == {"hidden": 8, "outside a class": 1}
    assert _rejections(tmp_path) == [
        ("a/broken", "link"),
        ("a/new\\nline", "name"),
        ("b/\\udcff.jpg", "name"),
        ("b/pipe", "unreadable"),
    ]


def test_pictures_and_classes_of_which_only_dvcs_pointers_are_there_are_missing(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/1.jpg.dvc", "a/2.jpg.dvc", "b/1.jpg", "c.dvc", "b.dvc")
    rejections = list_folder(tmp_path).rejections
    assert [(each.path, each.reason) for each in rejections] == [("a/2.jpg", "missing"), ("c", "missing")]
    assert all("dvc pull" in each.detail for each in rejections)
    _label(tmp_path, "path,label", "a/1.jpg,a", "b/1.jpg,b", "a/2.jpg,b")
    (rejection,) = list_folder(tmp_path).rejections
    assert rejection[:2] == ("a/2.jpg", "missing")
    assert "dvc pull" in rejection.detail


def test_a_class_may_be_called_like_a_split_beside_other_classes(tmp_path):
    touch(tmp_path, "train/1.jpg", "train/diesel/2.jpg", "bus/1.jpg", "test tube/1.jpg")
    assert _splits(tmp_path) == {"bus": None, "test tube": None, "train": None}


# Folders of splits


@pytest.mark.parametrize(
    "splits",
    [
        {"train": "train", "val": "val", "test": "test"},
        {"Training": "train", "validation": "val", "TESTING": "test"},
        {"training": "train", "eval": "test"},  # `split` will cut the missing split from train
    ],
)
def test_split_folders_by_any_usual_name_give_the_split(tmp_path, splits):
    touch(tmp_path, *(f"{split}/{name}/x/1.jpg" for split in splits for name in "ab"))
    assert _splits(tmp_path) == splits
    assert {file.label for file in list_folder(tmp_path).files} == {"a", "b"}


def test_splits_that_an_archive_packed_into_folders_of_their_own_names_are_those_splits(tmp_path):
    touch(tmp_path, *(f"{split}/{split}/{name}/1.jpg" for split in ("train", "Test") for name in "ab"))
    assert {(file.split, file.label) for file in list_folder(tmp_path).files} == set(product(("train", "test"), "ab"))
    touch(tmp_path, "train/c/1.jpg")  # beside the class train
    assert all("split test" in problem for problem in _problems(tmp_path))


@pytest.mark.parametrize(
    "tops",
    [
        ["train2017", "val2017"],
        ["train", "eval", "test"],
        ["train", "test", "more"],
        ["images-train", "more"],
        ["val", "test"],
    ],
)
def test_folders_that_look_like_splits_and_are_no_usable_set_are_refused(tmp_path, tops):
    touch(tmp_path, *(f"{top}/{name}/1.jpg" for top in tops for name in "ab"))
    (problem,) = _problems(tmp_path)
    assert all(top in problem for top in tops)


@pytest.mark.parametrize("above", ["", "train/"])
def test_class_folders_that_all_hold_the_same_folders_are_refused(tmp_path, above):
    touch(tmp_path, *(f"{above}{one}/{two}/1.jpg" for one in ("rose", "iris") for two in ("train", "test")))
    (problem,) = _problems(tmp_path)
    assert "(test, train)" in problem


def test_class_folders_that_hold_one_folder_each_or_files_too_are_classes(tmp_path):
    touch(tmp_path, "a/images/1.jpg", "b/images/1.jpg")
    assert _paths(tmp_path) == ["a/images/1.jpg", "b/images/1.jpg"]
    touch(tmp_path, "a/more/1.jpg", "b/more/1.jpg", "b/1.jpg")
    assert len(_paths(tmp_path)) == 5


def test_classes_that_a_split_lacks_or_has_alone_are_all_named(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "valid/a/1.jpg", "test/b/1.jpg", "test/d/1.jpg")
    of_test, of_val = _problems(tmp_path)
    assert "a, c, and additional d;" in of_test
    assert " b, c;" in of_val


# labels.csv


def _label(folder, *rows):
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")


def test_labels_csv_comes_before_folders_and_gives_labels_and_splits(tmp_path):
    touch(tmp_path, "1.jpg", "train/2.jpg", "test/3.jpg", ".4.jpg", "test/5.jpg")
    _label(tmp_path, "split,path,label", "train,1.jpg,a", "training,train\\2.jpg,b", "Dev,test/3.jpg,a", "val,.4.jpg,b")
    assert list_folder(tmp_path).files == [
        ListedFile(".4.jpg", "b", "val"),
        ListedFile("1.jpg", "a", "train"),
        ListedFile("test/3.jpg", "a", "val"),
        ListedFile("train/2.jpg", "b", "train"),
    ]
    assert _passed_over(tmp_path) == {"not in labels.csv": 1}


def test_files_of_labels_csv_that_are_not_there_or_elsewhere_are_rejected_with_their_line(tmp_path):
    images = tmp_path / "images"
    touch(images, "1.jpg")
    touch(tmp_path, "3.jpg", "more/5.jpg")
    (images / "2.jpg").symlink_to("../3.jpg")  # as DVC links a file into its cache
    (images / "more").symlink_to("../more")
    _label(images, "path,label", "1.jpg,a", "2.jpg,b", "4.jpg,b", "../3.jpg,a", "more/5.jpg,a")
    assert _paths(images) == ["1.jpg", "2.jpg"]
    rejections = list_folder(images).rejections
    assert [(each.path, each.reason, each.detail) for each in rejections] == [
        ("../3.jpg", "link", "line 5 of labels.csv"),
        ("4.jpg", "missing", "line 4 of labels.csv"),
        ("more/5.jpg", "link", "line 6 of labels.csv"),
    ]


def test_labels_csv_names_files_however_unicode_writes_their_accents(tmp_path):
    composed, decomposed = "é/ö.jpg", unicodedata.normalize("NFD", "é/ö.jpg")
    touch(tmp_path, f"mac/{decomposed}", f"linux/{composed}", "plain.jpg")
    _label(tmp_path, "path,label", f"mac/{composed},a", f"linux/{decomposed},b", "plain.jpg,a")
    listing = list_folder(tmp_path)
    assert [file.path for file in listing.files] == [f"linux/{composed}", f"mac/{decomposed}", "plain.jpg"]
    assert listing.rejections == []
    assert _passed_over(tmp_path) == {}
    _label(tmp_path, "path,label", f"mac/{composed},a", f"mac/{decomposed},b", f"linux/{composed},b")
    assert [reason for _, reason in _rejections(tmp_path)] == ["link"]  # both rows name the same file
    touch(tmp_path, f"mac/{composed}")  # another file, where a file system keeps both
    assert _rejections(tmp_path) == []


def test_labels_csv_names_files_without_endings_in_other_capitals_or_from_above_where_one_is_meant(tmp_path):
    touch(tmp_path, "IMG_1.JPG", "Photos/2.jpeg", "3.jpg", "3.png", "4.jpg.dvc", "5.jpg", "0007.jpg")
    above = f"{tmp_path.name}/5.jpg,a"
    rows = ["img_1,a", "photos/2.JPEG,b", "3,a", "3.PNG,b", "4.jpg,b", above, "other/5.jpg,b", "7,a"]
    _label(tmp_path, "path,label", *rows)
    assert _paths(tmp_path) == ["0007.jpg", "3.png", "5.jpg", "IMG_1.JPG", "Photos/2.jpeg"]
    of_two, pointer, elsewhere = list_folder(tmp_path).rejections
    assert [each.path for each in (of_two, pointer, elsewhere)] == ["3", "4.jpg", "other/5.jpg"]
    assert of_two.reason == pointer.reason == elsewhere.reason == "missing"
    assert "3.jpg, 3.png" in of_two.detail
    assert "dvc pull" in pointer.detail


# Links


def test_links_to_files_anywhere_and_to_folders_within_the_folder_are_followed(tmp_path):
    images = tmp_path / "images"
    images.symlink_to("real")
    touch(tmp_path / "real", "a/1.jpg", "b/more/2.jpg", ".store/3.jpg")
    (images / "a/link.jpg").symlink_to("../.store/3.jpg")
    (images / "a/link").symlink_to("../b/more")
    (images / "c").symlink_to(".store")
    touch(tmp_path, "cache/00/1")
    (images / "b/out.jpg").symlink_to(tmp_path / "cache/00/1")
    assert _paths(images) == ["a/1.jpg", "a/link.jpg", "a/link/2.jpg", "b/more/2.jpg", "b/out.jpg", "c/3.jpg"]


def test_links_to_folders_outside_or_nowhere_are_rejected_with_their_target(tmp_path):
    images = tmp_path / "images"
    touch(images, "a/1.jpg", "b/1.jpg")
    touch(tmp_path, "images2/1.jpg")
    links = {"broken": "nowhere", "circle": "circle", "out": "../../images2", "root": "/", "through": "1.jpg/2.jpg"}
    for name, target in links.items():
        (images / "a" / name).symlink_to(target)
    (images / "c").symlink_to("../images2")
    listing = list_folder(images)
    assert [file.path for file in listing.files] == ["a/1.jpg", "b/1.jpg"]
    assert [(each.path, each.reason) for each in listing.rejections] == [
        *((f"a/{name}", "link") for name in links),
        ("c", "link"),
    ]
    assert all(each.detail.endswith(links[each.path[2:]]) for each in listing.rejections[:-1])


@pytest.mark.parametrize(
    ("link", "target"), [("a/self", "."), ("a/up", ".."), ("a/A", "x"), ("a/x/up", "../../a"), ("a/x/b", "../../b")]
)
def test_no_file_of_a_class_is_listed_twice_and_no_walk_is_endless(tmp_path, link, target):
    touch(tmp_path, "a/1.jpg", "a/x/2.jpg", "b/3.jpg")
    (tmp_path / "b/back").symlink_to("../a")
    (tmp_path / link).symlink_to(target)
    listing = list_folder(tmp_path)
    real = [(file.label, (tmp_path / file.path).resolve()) for file in listing.files]
    assert len(set(real)) == len(real)
    assert {file.path for file in listing.files} >= {"a/1.jpg", "a/x/2.jpg", "b/3.jpg"}
    assert {each.reason for each in listing.rejections} == {"link"}


# What is refused


@pytest.mark.parametrize("name", ["nowhere", "file", "file/x"])
def test_what_is_no_folder_is_refused(tmp_path, name):
    touch(tmp_path, "file")
    (problem,) = _problems(tmp_path / name)
    assert problem.startswith(f"images: {tmp_path / name}: ")


@pytest.mark.parametrize(
    "paths", [[], ["a/1.jpg"], ["1.jpg", "2.PNG"], ["train/1.jpg", "test/2.jpg"], ["flowers/rose/1.jpg"]]
)
def test_fewer_than_two_classes_are_refused_in_one_line(tmp_path, paths):
    touch(tmp_path, *paths)
    (problem,) = _problems(tmp_path)
    assert "expected two classes or more" in problem


def test_all_empty_classes_are_named(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/.hidden.jpg", "d/1.jpg", "train/1.jpg")
    (tmp_path / "c/x/y").mkdir(parents=True)
    (tmp_path / "c/link").symlink_to("nowhere")
    *empty, left_out = _problems(tmp_path)
    assert [problem.split(": ")[2] for problem in empty] == ["class b", "class c"]
    assert left_out.startswith(f"{tmp_path}/c/link: ")


def test_classes_that_differ_only_in_case_spaces_or_accents_encoding_are_refused(tmp_path):
    decomposed = unicodedata.normalize("NFD", "été")
    touch(tmp_path, "rose/1.jpg", "Rose/1.jpg", "été/1.jpg", f"{decomposed}/1.jpg", "iris/1.jpg")
    touch(tmp_path, "cat/1.jpg", "cat /1.jpg")
    first, third, second = _problems(tmp_path)
    assert "found 'cat' and 'cat '" in third
    assert "found 'Rose' and 'rose'" in first
    assert f"found {decomposed!r} and 'été'" in second


@pytest.mark.skipif(os.geteuid() == 0, reason="for root, permissions do not count")
def test_a_folder_that_may_not_be_read_is_rejected(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/x/2.jpg", "b/1.jpg")
    (tmp_path / "a/x").chmod(0)
    assert _rejections(tmp_path) == [("a/x", "unreadable")]
    (tmp_path / "a/x").chmod(0o700)
