"""labels_fixed.csv: its effect on the split, what stays the same, and which lines are refused."""

import json
import shutil

import pandas as pd
import pytest
from PIL import ImageOps

from stages.dataset.label_fixes import Fix, add_fixes, read_fixes
from stages.runtime.errors import UserError
from tests.image_folders import picture, read_manifest, run_split, save

N = 12


@pytest.fixture
def folder(tmp_path):
    """Return a folder of three classes that was split without corrections."""
    save(tmp_path / "images", *(f"{label}/{i}.png" for label in ("a", "b", "c") for i in range(N)))
    run_split(tmp_path, fixes="")
    return tmp_path


def splits(folder) -> pd.Series:
    return read_manifest(folder).set_index("path")["split"]


def read_fixed(folder) -> dict[str, list[str]]:
    table = pd.read_csv(folder / "data/fixes.csv", keep_default_na=False, dtype=str)
    return {row[0]: list(row[1:]) for row in table.itertuples(index=False)}


def counts(folder) -> dict[str, int]:
    return json.loads((folder / "metrics/dataset.json").read_text(encoding="utf-8"))["n_fixed"]


def lines(folder, fixes, **changes) -> list[str]:
    """Return the messages about refused corrections."""
    with pytest.raises(UserError) as caught:
        run_split(folder, fixes=fixes, **changes)
    return list(caught.value.args)


def test_a_table_without_rows_an_empty_one_and_none_give_the_same_manifest(folder):
    kept = (folder / "data/manifest.csv").read_bytes()
    (folder / "labels_fixed.csv").unlink()
    run_split(folder)
    assert (folder / "data/manifest.csv").read_bytes() == kept
    (folder / "empty.csv").touch()
    assert read_fixes(folder / "empty.csv") == []
    assert read_fixed(folder) == {}
    assert set(counts(folder).values()) == {0}


def test_a_fixed_label_changes_its_class_and_no_picture_changes_its_split(folder):
    before = splits(folder)
    of_train, of_test = (
        before.index[(before == split) & before.index.str.startswith("a/")][0] for split in ("train", "test")
    )
    run_split(folder, fixes=f"{of_train},b\n{of_test},c\n{before.index[-1]},c\n")
    after = read_manifest(folder).set_index("path")
    assert after["split"].equals(before)
    assert after.loc[[of_train, of_test], "class"].tolist() == ["b", "c"]
    assert after.loc[[of_train, of_test], "label"].tolist() == [1, 2]
    assert (after["class"] != after.index.str[0]).sum() == 2
    assert read_fixed(folder) == {
        of_train: ["train", "a", "b"],
        of_test: ["test", "a", "c"],
        before.index[-1]: [before.iloc[-1], "c", "c"],
    }
    assert counts(folder) == {
        "relabelled": 2,
        "relabelled_in_test": 1,
        "dropped": 0,
        "marked_in_test": 0,
        "confirmed": 1,
    }


def test_dropped_pictures_leave_train_and_val_and_those_of_test_stay_and_are_marked(folder):
    before = splits(folder)
    dropped = [before.index[before == split][0] for split in ("train", "val", "test")]
    run_split(folder, fixes="".join(f"{path},drop\n" for path in dropped))
    after = splits(folder)
    assert after.equals(before.drop(dropped[:2]))
    assert read_fixed(folder)[dropped[2]] == ["test", dropped[2][0], ""]
    assert counts(folder) == {
        "relabelled": 0,
        "relabelled_in_test": 0,
        "dropped": 2,
        "marked_in_test": 1,
        "confirmed": 0,
    }
    run_split(folder, fixes="")
    assert splits(folder).equals(before)  # without the correction, every split is as before


@pytest.mark.parametrize("row", ["b/same.png,a", "b/same.png,drop"])
def test_a_row_settles_a_picture_that_stands_under_two_classes(folder, row):
    shutil.copy(folder / "images/a/0.png", folder / "images/b/same.png")
    first, *_, remedy = lines(folder, "")
    assert "the same picture under two classes" in first
    assert "labels_fixed.csv" in remedy
    run_split(folder, fixes=f"{row}\n")
    placed = splits(folder)
    assert placed.get("b/same.png", placed["a/0.png"]) == placed["a/0.png"]


def test_a_dropped_copy_is_no_leak_unless_it_stays_in_the_test_split(tmp_path):
    places = [f"{split}/{label}/{i}.png" for split in ("train", "val", "test") for label in "ab" for i in range(3)]
    save(tmp_path / "images", *places)
    ImageOps.mirror(picture(places.index("test/a/0.png"))).save(tmp_path / "images/train/a/copy.png")
    run_split(tmp_path, fixes="train/a/copy.png,drop\n")
    assert sorted(splits(tmp_path).index) == sorted(places)
    assert "in two splits" in lines(tmp_path, "test/a/0.png,drop\n")[0]


def test_a_file_that_cannot_be_used_may_be_dropped_and_not_relabelled(folder):
    (folder / "images/a/broken.png").write_bytes(b"no image")
    run_split(folder, fixes="a/broken.png,drop\n")
    assert len(read_manifest(folder)) == 3 * N
    assert "a/broken.png" in lines(folder, "a/broken.png,b\n")[0]


def test_a_class_is_called_by_its_label_or_by_its_name(folder):
    (folder / "images/classes.txt").write_text("a,Rose é\nb,Iris\nc,Tulip\n", encoding="utf-8")
    run_split(folder, fixes="a/0.png,Iris\na\\1.png,c\nb/0.png,Rose e\u0301\n")  # as Windows and a Mac write it
    classes = read_manifest(folder).set_index("path")["class"]
    assert classes[["a/0.png", "a/1.png", "b/0.png"]].tolist() == ["b", "c", "a"]


def test_every_wrong_row_has_its_line(folder):
    rows = ["a/0.png,b", "a/99.png,b", "a/1.png,d", "a/2.png,Drop it", ""]
    said = lines(folder, "\n".join(rows))
    assert [line.split(": ")[:2] for line in said] == [["labels_fixed.csv", f"line {i}"] for i in (3, 4, 5)]
    rows = ["a/0.png,b", "./a/0.png,c", ",b", "a/1.png,", "a/2.png,b,c", ""]
    assert [line.split(": ")[1] for line in lines(folder, "\n".join(rows))] == [f"line {i}" for i in (3, 4, 5, 6)]
    assert "line 1" in lines(folder, '"a\n')[0] or "quotes" in lines(folder, '"a\n')[0]


def test_the_table_of_another_folder_is_one_line(folder):
    (said,) = lines(folder, "".join(f"rose/{i}.jpg,lily\n" for i in range(9)))
    assert said.startswith("labels_fixed.csv: ")
    (said,) = lines(folder, "rose/1.jpg,lily\n")
    assert said.startswith("labels_fixed.csv: line 2: ")


def test_a_word_that_means_two_classes_is_refused(folder):
    (folder / "images/classes.txt").write_text("a,b\nb,a\nc,drop\n", encoding="utf-8")
    for word in ("a", "drop"):
        (said,) = lines(folder, f"a/0.png,{word}\n")
        assert "line 2" in said
    run_split(folder, fixes="a/0.png,c\n")
    assert read_manifest(folder).set_index("path").at["a/0.png", "class"] == "c"
    assert counts(folder)["relabelled"] == 1


def test_a_class_that_loses_all_of_its_pictures_is_refused(folder):
    (said,) = lines(folder, "".join(f"a/{i}.png,{'drop' if i % 2 else 'b'}\n" for i in range(N)))
    assert "class a" in said


def test_accepted_rows_are_added_once_below_those_of_a_person(tmp_path):
    table = tmp_path / "labels_fixed.csv"
    table.write_text("file,label\nb.jpg,drop\n", encoding="utf-8")
    assert add_fixes(table, [("a, 1.jpg", "rose"), ("b.jpg", "iris")]) == 1
    assert add_fixes(table, [("a, 1.jpg", "rose")]) == 0
    assert read_fixes(table) == [Fix(2, "b.jpg", "drop"), Fix(3, "a, 1.jpg", "rose")]
