"""Image folders of every layout: which files are listed, rejected and passed over, and what is refused."""

import os
import socket
import stat
import subprocess
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stages.dataset.folders import list_folder
from stages.dataset.links import MAX_VISITS, ListedFile
from stages.dataset.rejections import REASONS, Rejection
from stages.runtime.errors import UserError


def _touch(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def _paths(folder):
    return [file.path for file in list_folder(folder).files]


def _rejections(folder):
    """Return the path and the reason of every file that is left out."""
    rejections = list_folder(folder).rejections
    assert all(each.reason in REASONS for each in rejections)
    return [(each.path, each.reason) for each in rejections]


def _passed_over(folder):
    """Return the kinds of which files were passed over."""
    return {kind: count for kind, count in list_folder(folder).passed_over.items() if count}


def _problems(folder):
    """Return why the folder is refused, a line each."""
    with pytest.raises(UserError) as caught:
        list_folder(folder)
    assert all(problem and problem.isprintable() for problem in caught.value.args)
    return list(caught.value.args)


@contextmanager
def _without_rights() -> Iterator[Path]:
    """Give a folder, as a user who is not root: for root, permissions do not count."""
    with tempfile.TemporaryDirectory() as folder:  # tmp_path stands in a folder that is root's alone
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            if is_root:
                os.seteuid(0)
            for path, _, _ in os.walk(folder):
                Path(path).chmod(0o700)


# The layouts


def test_class_folders_are_listed_by_path_without_a_split(tmp_path):
    _touch(tmp_path, "rose/b.jpg", "rose/a.PNG", "iris/c.webp")
    listing = list_folder(tmp_path)
    assert listing.files == [
        ListedFile("iris/c.webp", "iris", None),
        ListedFile("rose/a.PNG", "rose", None),
        ListedFile("rose/b.jpg", "rose", None),
    ]
    assert listing.rejections == []
    assert listing.passed_over == {"hidden": 0, "system": 0, "outside a class": 0, "not in labels.csv": 0}


def test_files_belong_to_the_class_folder_they_are_in_at_any_depth(tmp_path):
    _touch(tmp_path, "a/1.jpg", "a/x/y/z/2.jpg", "b/a/3.jpg")
    assert [(file.path, file.label) for file in list_folder(tmp_path).files] == [
        ("a/1.jpg", "a"),
        ("a/x/y/z/2.jpg", "a"),
        ("b/a/3.jpg", "b"),
    ]


def test_files_are_listed_whatever_their_ending(tmp_path):
    _touch(tmp_path, "a/1", "a/2.txt", "a/3.JPG.bak", "b/classes.txt", "b/labels.csv")
    assert _paths(tmp_path) == ["a/1", "a/2.txt", "a/3.JPG.bak", "b/classes.txt", "b/labels.csv"]


def test_names_of_any_script_and_with_blanks_are_kept(tmp_path):
    _touch(tmp_path, '玫瑰/ 1 , "x" \'.jpg', "Schwarzäugige Susanne/\U0001f339\\n.jpg")
    assert _paths(tmp_path) == ["Schwarzäugige Susanne/\U0001f339\\n.jpg", '玫瑰/ 1 , "x" \'.jpg']


def test_split_folders_give_the_split(tmp_path):
    _touch(tmp_path, *(f"{split}/{name}/x/1.jpg" for split in ("train", "val", "test") for name in ("a", "b")))
    assert [(file.path, file.label, file.split) for file in list_folder(tmp_path).files] == [
        ("test/a/x/1.jpg", "a", "test"),
        ("test/b/x/1.jpg", "b", "test"),
        ("train/a/x/1.jpg", "a", "train"),
        ("train/b/x/1.jpg", "b", "train"),
        ("val/a/x/1.jpg", "a", "val"),
        ("val/b/x/1.jpg", "b", "val"),
    ]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val", "VALIDATION"])
def test_split_folders_may_be_written_in_several_ways(tmp_path, val):
    _touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in ("Train", val, "TEST") for name in ("a", "b")))
    splits = {file.path.split("/")[0]: file.split for file in list_folder(tmp_path).files}
    assert splits == {"Train": "train", val: "val", "TEST": "test"}


@pytest.mark.parametrize("given", [["train"], ["train", "val"], ["train", "test"]])
def test_splits_besides_train_may_be_left_out(tmp_path, given):
    _touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in given for name in ("a", "b")))
    assert {file.split for file in list_folder(tmp_path).files} == set(given)


@pytest.mark.parametrize("given", ["val", "test", "test val"])
def test_splits_without_train_are_refused(tmp_path, given):
    _touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in given.split() for name in ("a", "b")))
    (problem,) = _problems(tmp_path)
    assert f"expected a folder train/, found {given.replace(' ', ', ')}; " in problem


@pytest.mark.parametrize(("first", "second"), [("valid", "validation"), ("val", "valid"), ("Val", "val")])
def test_two_folders_of_one_split_are_refused(tmp_path, first, second):
    _touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in ("train", first, second) for name in ("a", "b")))
    (problem,) = _problems(tmp_path)
    assert f"expected one folder for val, found {first} and {second}; " in problem


def test_split_folders_beside_others_are_refused(tmp_path):
    _touch(tmp_path, "train/a/1.jpg", "Test/b/1.jpg", "extra/1.jpg", "more/1.jpg")
    (problem,) = _problems(tmp_path)
    assert "found Test, train with folders in them, and beside them extra, more; " in problem


def test_a_class_may_be_called_train_beside_other_classes(tmp_path):
    _touch(tmp_path, "train/1.jpg", "train/diesel/2.jpg", "bus/1.jpg")
    assert [(file.label, file.split) for file in list_folder(tmp_path).files] == [
        ("bus", None),
        ("train", None),
        ("train", None),
    ]


def test_hidden_folders_do_not_make_a_layout(tmp_path):
    _touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", ".cache/1.jpg", "__MACOSX/train/a/1.jpg")
    assert {file.split for file in list_folder(tmp_path).files} == {"train"}


def test_classes_that_a_split_lacks_or_has_alone_are_all_named(tmp_path):
    _touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "valid/a/1.jpg", "test/b/1.jpg", "test/d/1.jpg")
    assert [problem.split("; ")[0] for problem in _problems(tmp_path)] == [
        f"images: {tmp_path}/test: expected every class of train, found no a, c",
        f"images: {tmp_path}/test: expected only classes of train, found also d",
        f"images: {tmp_path}/valid: expected every class of train, found no b, c",
    ]


def test_a_class_in_another_case_in_another_split_is_named_once(tmp_path):
    _touch(tmp_path, "train/Rose/1.jpg", "train/iris/1.jpg", "val/rose/1.jpg", "val/iris/1.jpg")
    (problem,) = _problems(tmp_path)
    assert "found Rose and rose, which differ only in case" in problem


# labels.csv


def _labels(folder, *rows):
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")


def test_labels_csv_gives_labels_and_splits(tmp_path):
    _touch(tmp_path, "1.jpg", "x/2.jpg", "3.jpg", "4.jpg")
    _labels(tmp_path, "split,path,label", "train,x/2.jpg,b", "train,1.jpg,a", "Validation,3.jpg,a", "val,4.jpg,b")
    assert list_folder(tmp_path).files == [
        ListedFile("1.jpg", "a", "train"),
        ListedFile("3.jpg", "a", "val"),
        ListedFile("4.jpg", "b", "val"),
        ListedFile("x/2.jpg", "b", "train"),
    ]


def test_labels_csv_comes_before_folders(tmp_path):
    _touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg")
    _labels(tmp_path, "path,label", "train/a/1.jpg,x", "train/b/2.jpg,y")
    assert [(file.label, file.split) for file in list_folder(tmp_path).files] == [("x", None), ("y", None)]
    assert _passed_over(tmp_path) == {"not in labels.csv": 1}


def test_files_that_labels_csv_does_not_name_are_counted_by_kind(tmp_path):
    _touch(tmp_path, "1.jpg", "2.jpg", "3.jpg", "x/4.jpg", ".5.jpg", "x/.y/6.jpg", "Thumbs.db", "__MACOSX/7.jpg")
    _touch(tmp_path, "classes.txt", "other.csv")
    _labels(tmp_path, "path,label", "1.jpg,a", "2.jpg,b")
    assert _passed_over(tmp_path) == {"not in labels.csv": 3, "hidden": 2, "system": 2}


def test_a_hidden_file_that_labels_csv_names_is_listed(tmp_path):
    _touch(tmp_path, ".1.jpg", ".x/2.jpg")
    _labels(tmp_path, "path,label", ".1.jpg,a", ".x/2.jpg,b")
    assert _paths(tmp_path) == [".1.jpg", ".x/2.jpg"]
    assert _passed_over(tmp_path) == {}


def test_a_file_of_labels_csv_that_is_not_there_is_rejected_with_its_line(tmp_path):
    _touch(tmp_path, "1.jpg", "2.jpg", "x/y.jpg")
    _labels(tmp_path, "path,label", "1.jpg,a", "2.jpg,b", "3.jpg,b", "x,b", "1.jpg/z,a", "a\x00b,a", "x\\z.jpg,a")
    rejections = list_folder(tmp_path).rejections
    assert [(each.path, each.reason) for each in rejections] == [
        ("1.jpg/z", "missing"),
        ("3.jpg", "missing"),
        ("a\\x00b", "missing"),
        ("x", "missing"),
        ("x/z.jpg", "missing"),
    ]
    assert rejections[1].detail.startswith("line 4 of labels.csv: ")


def test_paths_of_labels_csv_with_backslashes_are_found(tmp_path):
    _touch(tmp_path, "x/1.jpg", "y/2.jpg")
    _labels(tmp_path, "path,label", "x\\1.jpg,a", "y\\2.jpg,b")
    assert _paths(tmp_path) == ["x/1.jpg", "y/2.jpg"]


def test_links_and_pipes_that_labels_csv_names_are_rejected_as_elsewhere(tmp_path):
    images = tmp_path / "images"
    _touch(images, "1.jpg", "2.jpg", "new\nline.jpg")
    _touch(tmp_path, "outside/3.jpg")
    os.mkfifo(images / "pipe")
    (images / "good").symlink_to("1.jpg")
    (images / "broken").symlink_to("nowhere")
    (images / "out").symlink_to(tmp_path / "outside/3.jpg")
    (images / "folder").symlink_to(tmp_path / "outside")
    (images / "loop").symlink_to("loop")
    names = ["1.jpg", "good", "pipe", "broken", "out", "folder/3.jpg", "loop", "loop/4.jpg", '"new\nline.jpg"']
    _labels(images, "path,label", "2.jpg,b", *(f"{name},a" for name in names))
    assert _paths(images) == ["1.jpg", "2.jpg", "good"]
    assert _rejections(images) == [
        ("broken", "link"),
        ("folder/3.jpg", "link"),
        ("loop", "link"),
        ("loop/4.jpg", "link"),
        ("new\\nline.jpg", "name"),
        ("out", "link"),
        ("pipe", "special"),
    ]


def test_mistakes_in_labels_csv_are_named_at_once(tmp_path):
    _labels(tmp_path, "path,label", ",a", "/b,B", "1.jpg,c", "2.jpg,C")
    problems = _problems(tmp_path)
    assert [problem.split(": ")[1] for problem in problems[:2]] == ["line 2", "line 3"]
    assert "found C and c, which differ only in case" in problems[2]


@pytest.mark.parametrize("content", ["", "path,label\n", "path,label\n1.jpg,a\n"])
def test_labels_csv_of_fewer_than_two_classes_is_refused(tmp_path, content):
    _touch(tmp_path, "1.jpg")
    _labels(tmp_path, content)
    assert len(_problems(tmp_path)) == 1


def test_a_class_of_labels_csv_none_of_whose_files_is_there_is_refused(tmp_path):
    _touch(tmp_path, "1.jpg", "2.jpg")
    _labels(tmp_path, "path,label", "1.jpg,a", "2.jpg,b", "3.jpg,c", "4.jpg,c")
    (problem,) = _problems(tmp_path)
    assert (
        "labels.csv: class c: expected images, found no file but 2 left out, such as 3.jpg (missing: line 4" in problem
    )


def test_classes_that_a_split_of_labels_csv_lacks_are_refused(tmp_path):
    _touch(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    _labels(tmp_path, "path,label,split", "1.jpg,a,train", "2.jpg,b,train", "3.jpg,a,val", "4.jpg,c,val")
    lacks, has_alone = _problems(tmp_path)
    assert "labels.csv: split val: expected every class of train, found no b; " in lacks
    assert "labels.csv: split val: expected only classes of train, found also c; " in has_alone


def test_labels_csv_without_the_split_train_is_refused(tmp_path):
    _touch(tmp_path, "1.jpg", "2.jpg")
    _labels(tmp_path, "path,label,split", "1.jpg,a,val", "2.jpg,b,val")
    (problem,) = _problems(tmp_path)
    assert "expected the split train in some rows, found val; " in problem


def test_a_pipe_called_labels_csv_is_refused_and_never_opened(tmp_path):
    _touch(tmp_path, "a/1.jpg", "b/1.jpg")
    os.mkfifo(tmp_path / "labels.csv")
    (problem,) = _problems(tmp_path)
    assert "labels.csv: expected a text file, found a pipe" in problem


def test_a_class_folder_may_be_called_labels_csv(tmp_path):
    _touch(tmp_path, "labels.csv/1.jpg", "b/1.jpg")
    assert _paths(tmp_path) == ["b/1.jpg", "labels.csv/1.jpg"]


# What is passed over


def test_hidden_files_are_counted_wherever_they_are(tmp_path):
    _touch(tmp_path, "a/1.jpg", "a/.2.jpg", "b/1.jpg", ".DS_Store", ".git/x/y", ".git/z", "a/.thumbs/Thumbs.db")
    assert _paths(tmp_path) == ["a/1.jpg", "b/1.jpg"]
    assert _passed_over(tmp_path) == {"hidden": 5}


def test_files_of_the_system_are_counted_wherever_they_are(tmp_path):
    folders = ["__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"]
    _touch(tmp_path, "a/1.jpg", "b/1.jpg", "a/Thumbs.db", "b/THUMBS.DB", "a/ehthumbs.db", "Desktop.ini", "a/Icon\r")
    _touch(tmp_path, *(f"{folder}/x/1.jpg" for folder in folders), *(f"a/{folder}/1.jpg" for folder in folders))
    assert _paths(tmp_path) == ["a/1.jpg", "b/1.jpg"]
    assert _passed_over(tmp_path) == {"system": 15}


def test_files_outside_a_class_are_counted(tmp_path):
    _touch(tmp_path, "a/1.jpg", "b/1.jpg", "1.jpg", "README.md", "other.csv", "classes.txt")
    assert _passed_over(tmp_path) == {"outside a class": 3}


def test_files_directly_in_a_split_are_counted(tmp_path):
    _touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/1.jpg", "train/classes.txt", "notes.txt")
    assert _passed_over(tmp_path) == {"outside a class": 3}


def test_pipes_and_odd_names_outside_a_class_are_counted_and_not_rejected(tmp_path):
    _touch(tmp_path, "a/1.jpg", "b/1.jpg", "new\nline", os.fsdecode(b"\xff"), "real.txt")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.txt").symlink_to("real.txt")
    (tmp_path / "out.txt").symlink_to(__file__)
    assert _passed_over(tmp_path) == {"outside a class": 6}
    assert _rejections(tmp_path) == []


def test_every_file_is_listed_rejected_or_counted(tmp_path):
    _touch(tmp_path, "a/1.jpg", "a/x/2", "b/1.jpg", "b/.2", "c.txt", ".d/e/f", "b/Thumbs.db", "b/new\nline")
    os.mkfifo(tmp_path / "a/pipe")
    (tmp_path / "a/broken").symlink_to("nowhere")
    listing = list_folder(tmp_path)
    n_files = sum(len(files) for _, _, files in os.walk(tmp_path))
    assert len(listing.files) + len(listing.rejections) + sum(listing.passed_over.values()) == n_files == 10


# What is rejected


@pytest.mark.parametrize("target", ["../b/1.jpg", "x/2.jpg", "../.store/3.jpg"])
def test_a_link_to_a_file_in_the_folder_is_followed(tmp_path, target):
    _touch(tmp_path, "a/x/2.jpg", "b/1.jpg", ".store/3.jpg")
    (tmp_path / "a/link.jpg").symlink_to(target)
    assert _paths(tmp_path) == ["a/link.jpg", "a/x/2.jpg", "b/1.jpg"]


def test_links_that_are_broken_or_circular_or_lead_out_are_rejected_with_their_target(tmp_path):
    images = tmp_path / "images"
    _touch(images, "a/1.jpg", "b/1.jpg")
    _touch(tmp_path, "images2/1.jpg")
    links = {
        "broken.jpg": "nowhere.jpg",
        "circle1.jpg": "circle2.jpg",
        "circle2.jpg": "circle1.jpg",
        "out.jpg": "../../images2/1.jpg",
        "root": "/",
        "through": "1.jpg/2.jpg",
    }
    for name, target in links.items():
        (images / "a" / name).symlink_to(target)
    listing = list_folder(images)
    assert [file.path for file in listing.files] == ["a/1.jpg", "b/1.jpg"]
    assert [(each.path, each.reason) for each in listing.rejections] == [(f"a/{name}", "link") for name in links]
    assert all(each.detail.endswith(f": {links[each.path[2:]]}") for each in listing.rejections)


def test_a_row_of_more_links_than_the_system_follows_is_rejected(tmp_path):
    _touch(tmp_path, "a/0", "b/1.jpg")
    for number in range(1, 1100):
        (tmp_path / f"a/{number}").symlink_to(f"{number - 1}")
    listing = list_folder(tmp_path)
    assert len(listing.files) + len(listing.rejections) == 1101
    assert ("a/1099", "link") in _rejections(tmp_path)


def test_a_folder_that_is_itself_a_link_is_the_folder(tmp_path):
    _touch(tmp_path, "real/a/1.jpg", "real/b/1.jpg")
    (tmp_path / "images").symlink_to("real")
    (tmp_path / "real/a/2.jpg").symlink_to("../b/1.jpg")
    assert _paths(tmp_path / "images") == ["a/1.jpg", "a/2.jpg", "b/1.jpg"]


def test_links_to_folders_in_the_folder_are_followed(tmp_path):
    _touch(tmp_path, "a/1.jpg", "b/more/2.jpg", ".store/3.jpg")
    (tmp_path / "a/link").symlink_to("../b/more")
    (tmp_path / "c").symlink_to(".store")
    assert _paths(tmp_path) == ["a/1.jpg", "a/link/2.jpg", "b/more/2.jpg", "c/3.jpg"]
    assert _rejections(tmp_path) == []


def test_split_folders_may_be_links(tmp_path):
    _touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", ".store/a/2.jpg", ".store/b/2.jpg")
    (tmp_path / "val").symlink_to(".store")
    assert [file.split for file in list_folder(tmp_path).files] == ["train", "train", "val", "val"]


@pytest.mark.parametrize(
    ("link", "target"), [("a/self", "."), ("a/up", ".."), ("a/x/up", "../../a"), ("a/x/round", "../../b/back")]
)
def test_a_link_back_to_a_folder_that_it_stands_in_is_rejected_once(tmp_path, link, target):
    _touch(tmp_path, "a/1.jpg", "a/x/2.jpg", "b/1.jpg")
    (tmp_path / "b/back").symlink_to("../a/x")
    (tmp_path / link).symlink_to(target)
    listing = list_folder(tmp_path)
    assert [each.reason for each in listing.rejections if each.path == link] == ["link"]
    assert len(listing.files) <= 5


def test_links_that_lead_to_each_other_end(tmp_path):
    _touch(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/to_b").symlink_to("../b")
    (tmp_path / "b/to_a").symlink_to("../a")
    assert _paths(tmp_path) == ["a/1.jpg", "a/to_b/2.jpg", "b/2.jpg", "b/to_a/1.jpg"]
    assert _rejections(tmp_path) == [("a/to_b/to_a", "link"), ("b/to_a/to_b", "link")]


def test_links_that_multiply_end(tmp_path):
    _touch(tmp_path, "b/1.jpg")
    for level in range(25):  # 2 to the 25th ways lead to the last folder
        (tmp_path / f"a/{level}").mkdir(parents=True)
        for name in "xy":
            (tmp_path / f"a/{level}/{name}").symlink_to(f"../{level + 1}")
    _touch(tmp_path, "a/25/1.jpg")
    started = time.process_time()
    listing = list_folder(tmp_path)
    assert time.process_time() - started < 30
    assert len([file for file in listing.files if file.label == "a"]) <= MAX_VISITS
    assert {each.reason for each in listing.rejections} == {"link"}


def test_a_link_among_the_classes_that_leads_to_no_folder_inside_is_rejected(tmp_path):
    images = tmp_path / "images"
    _touch(images, "a/1.jpg", "b/1.jpg")
    _touch(tmp_path, "outside/1.jpg")
    (images / "broken").symlink_to("nowhere")
    (images / "circle").symlink_to("circle")
    (images / "out").symlink_to("../outside")
    (images / "self").symlink_to(".")
    assert _paths(images) == ["a/1.jpg", "b/1.jpg"]
    assert _rejections(images) == [("broken", "link"), ("circle", "link"), ("out", "link"), ("self", "link")]


def test_pipes_sockets_and_devices_are_rejected_and_never_opened(tmp_path, monkeypatch):
    _touch(tmp_path, "a/1.jpg", "b/1.jpg")
    os.mkfifo(tmp_path / "a/pipe.jpg")
    (tmp_path / "a/link.jpg").symlink_to("pipe.jpg")
    monkeypatch.chdir(tmp_path)  # a socket's path has 107 bytes at most
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a/socket.jpg")
        assert _rejections(tmp_path) == [
            ("a/link.jpg", "special"),
            ("a/pipe.jpg", "special"),
            ("a/socket.jpg", "special"),
        ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a device")
def test_devices_are_rejected(tmp_path):
    _touch(tmp_path, "a/1.jpg", "b/1.jpg")
    try:
        os.mknod(tmp_path / "a/null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container may not make a device")
    assert _rejections(tmp_path) == [("a/null", "special")]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (os.fsdecode(b"\xff\xe4.jpg"), "\\xff\\xe4.jpg"),
        ("new\nline.jpg", "new\\nline.jpg"),
        ("\x1b[1m.jpg", "\\x1b[1m.jpg"),
        ("a\u2028b.jpg", "a\\u2028b.jpg"),
        ("\x7f", "\\x7f"),
    ],
)
def test_files_and_folders_of_a_class_with_unprintable_names_are_rejected(tmp_path, name, shown):
    _touch(tmp_path, "a/1.jpg", f"a/{name}", f"a/x/{name}", f"b/{name}x/1.jpg", "b/1.jpg")
    assert _paths(tmp_path) == ["a/1.jpg", "b/1.jpg"]
    assert _rejections(tmp_path) == [(f"a/{shown}", "name"), (f"a/x/{shown}", "name"), (f"b/{shown}x", "name")]


def test_a_link_whose_target_cannot_be_printed_has_a_printable_detail(tmp_path):
    _touch(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a/link.jpg").symlink_to(os.fsdecode(b"\xff\n"))
    assert list_folder(tmp_path).rejections == [Rejection("a/link.jpg", "link", "leads nowhere: \\xff\\n")]


def test_a_folder_that_may_not_be_read_is_rejected(tmp_path):
    with _without_rights() as folder:
        _touch(folder, "a/1.jpg", "a/x/2.jpg", "b/1.jpg")
        (folder / "a/x").chmod(0)
        assert _paths(folder) == ["a/1.jpg", "b/1.jpg"]
        assert _rejections(folder) == [("a/x", "unreadable")]


def test_a_class_that_may_not_be_read_is_refused():
    with _without_rights() as folder:
        _touch(folder, "a/1.jpg", "b/1.jpg", "c/1.jpg")
        (folder / "c").chmod(0)
        (problem,) = _problems(folder)
        assert (
            f"{folder}/c: expected images, found no file but 1 left out, such as c (unreadable: Permission" in problem
        )


def test_a_split_and_a_folder_that_may_not_be_read_are_refused():
    with _without_rights() as folder:
        _touch(folder, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg")
        (folder / "val").chmod(0)
        (problem,) = _problems(folder)
        assert f"{folder}/val: not readable (Permission denied)" in problem
        folder.chmod(0)
        (problem,) = _problems(folder)
        assert f"{folder}: no such folder (Permission denied)" in problem


def test_a_file_of_labels_csv_that_may_not_be_reached_is_rejected():
    with _without_rights() as folder:
        _touch(folder, "1.jpg", "2.jpg", "x/3.jpg")
        _labels(folder, "path,label", "1.jpg,a", "2.jpg,b", "x/3.jpg,b")
        (folder / "x").chmod(0)
        assert _rejections(folder) == [("x/3.jpg", "unreadable")]


def test_labels_csv_that_may_not_be_read_is_refused():
    with _without_rights() as folder:
        _touch(folder, "labels.csv")
        (folder / "labels.csv").chmod(0)
        (problem,) = _problems(folder)
        assert f"{folder}/labels.csv: expected a text file, found none (Permission denied)" in problem


def test_folders_below_folders_are_listed_to_any_depth(tmp_path, monkeypatch):
    _touch(tmp_path, "a/1.jpg", "b/1.jpg", ".hidden/1.jpg")
    for top in ("a", ".hidden"):
        monkeypatch.chdir(tmp_path / top)
        for _ in range(1100):  # more than Python's recursion and a path's 4,096 bytes allow
            os.mkdir("xyz")  # noqa: PTH102
            os.chdir("xyz")
        Path("deep.jpg").touch()
    monkeypatch.chdir(tmp_path)
    listing = list_folder(tmp_path)
    assert [file.path for file in listing.files] == ["a/1.jpg", "b/1.jpg"]
    assert [each.reason for each in listing.rejections] == ["unreadable"]
    subprocess.run(["rm", "-rf", "a", ".hidden"], check=True)  # what pytest clears up with cannot go so deep


# What is refused


@pytest.mark.parametrize("name", ["nowhere", "file", "nul\x00", "file/x", "loop", "x" * 300])
def test_what_is_no_folder_is_refused(tmp_path, name):
    _touch(tmp_path, "file")
    (tmp_path / "loop").symlink_to("loop")
    (problem,) = _problems(tmp_path / name)
    assert "no such folder (" in problem


def test_an_empty_folder_is_refused(tmp_path):
    (problem,) = _problems(tmp_path)
    assert f"images: {tmp_path}: expected two classes or more, found an empty folder; " in problem


@pytest.mark.parametrize(
    ("paths", "n"), [(["a/1.jpg"], 1), (["1.jpg"], 0), (["train/a/1.jpg"], 1), (["train/1.jpg"], 0)]
)
def test_fewer_than_two_classes_are_refused_with_their_number(tmp_path, paths, n):
    _touch(tmp_path, *paths)
    (problem,) = _problems(tmp_path)
    assert f"expected two classes or more, found {n}" in problem


@pytest.mark.parametrize(
    ("paths", "advice"),
    [
        (["metadata.csv", "jpg/1.jpg"], "call metadata.csv labels.csv if it has the columns path and label"),
        (["1.jpg", "2.PNG"], "move the 2 images outside a class, such as "),
        (["train/1.jpg", "test/2.jpg"], "move the 2 images outside a class, such as test/2.jpg"),
        (["flowers/rose/1.jpg", "flowers/iris/1.jpg"], "flowers if its folders are the classes or splits"),
        (["flowers/train/rose/1.jpg"], "flowers if its folders are the classes or splits"),
    ],
)
def test_advice_fits_what_is_there_instead_of_classes(tmp_path, paths, advice):
    _touch(tmp_path, *paths)
    assert advice in _problems(tmp_path)[0]


def test_all_empty_classes_are_named(tmp_path):
    _touch(tmp_path, "a/1.jpg", "b/.hidden.jpg", "c/x/Thumbs.db", "e/1.jpg")
    (tmp_path / "d/x/y").mkdir(parents=True)
    problems = _problems(tmp_path)
    assert [problem.split(": ")[1] for problem in problems] == [f"{tmp_path}/{name}" for name in "bcd"]
    assert all("expected images, found no file; " in problem for problem in problems)


def test_an_empty_class_in_a_split_is_named_once(tmp_path):
    _touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg")
    (tmp_path / "val/b").mkdir()
    (problem,) = _problems(tmp_path)
    assert f"images: {tmp_path}/val/b: expected images, found no file; " in problem


def test_a_class_all_of_whose_files_are_rejected_says_why(tmp_path):
    _touch(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/link").symlink_to("nowhere")
    (problem,) = _problems(tmp_path)
    assert "found no file but 1 left out, such as c/link (link: leads nowhere: nowhere)" in problem


def test_classes_that_differ_only_in_case_or_accents_encoding_are_refused(tmp_path):
    decomposed = unicodedata.normalize("NFD", "été")
    _touch(tmp_path, "rose/1.jpg", "Rose/1.jpg", "été/1.jpg", f"{decomposed}/1.jpg", "iris/1.jpg")
    first, second = _problems(tmp_path)
    assert "found Rose and rose, which differ only in case or in how accents are written" in first
    assert f"found {decomposed} and été, which differ" in second


@pytest.mark.parametrize("name", [" ", "new\nline", os.fsdecode(b"Bl\xfcte"), "\x1b[1m"])
def test_a_class_folder_whose_name_cannot_be_shown_is_refused(tmp_path, name):
    _touch(tmp_path, "a/1.jpg", f"{name}/1.jpg")
    (problem,) = _problems(tmp_path)
    assert "expected the name of a class, but the folder's " in problem


def test_mistakes_of_all_kinds_are_named_at_once(tmp_path):
    _touch(tmp_path, "val/a/1.jpg", "valid/A/1.jpg", "val/new\nline/1.jpg")
    (tmp_path / "val/empty").mkdir()
    assert len(_problems(tmp_path)) == 5  # no train, two of val, a and A, an odd name, an empty class
