"""The stages `split` and `pack` as they are run, on a folder made here: what they write, and what they refuse."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image, ImageOps

from stages.pixels.decoding import hash_pixels, read_square
from stages.pixels.packed_splits import open_pack, read_classes
from stages.runtime.errors import UserError
from tests.imports import ROOT

SPLITS = ("train", "val", "test")
COUNTS = {"007": 4, "NA": 6, "rose": 10}
STORED = 36


def _draw(path: Path, number: int) -> None:
    """Save an image that no other number gives, in the format of its name, wider than it is high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((32, 24)).save(path)


def _run(folder: Path, *arguments: str, policy: str = "strict") -> subprocess.CompletedProcess:
    """Run a stage in `folder`, with the parameters of this repository and a stored size of its own."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params |= {
        "image_size_px": 32,
        "images_policy": policy,
        "split": {"seed": 1, "train": 0.5, "val": 0.25, "test": 0.25},
    }
    params["pack"]["stored_size_px"] = STORED
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _split(folder: Path, policy: str = "strict") -> subprocess.CompletedProcess:
    arguments = ("images", "data/manifest.csv", "data/rejected.csv", "metrics")
    return _run(folder, "stages.split", *arguments, policy=policy)


def _pack(folder: Path) -> subprocess.CompletedProcess:
    return _run(folder, "stages.pack", "data/manifest.csv", "images", "data/packed")


def _read_manifest(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "data/manifest.csv", keep_default_na=False, dtype={"class": str})


def _contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file but the record of times, which are never the same twice."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "timings.csv"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """Return a folder in which both stages have run: three classes, a copy of one picture, images of three formats."""
    folder = tmp_path_factory.mktemp("done")
    number = 0
    for name, count in COUNTS.items():
        for i in range(count):
            suffix = ("png", "jpg", "webp")[number % 3]
            _draw(folder / "images" / name / f"{i}.{suffix}", number)
            number += 1
    original = next((folder / "images" / "rose").glob("0.*"))
    shutil.copy(original, original.with_stem("copy"))
    for stage in (_split, _pack):
        process = stage(folder)
        assert process.returncode == 0, process.stderr
    return folder


@pytest.fixture(scope="module")
def manifest(done) -> pd.DataFrame:
    return _read_manifest(done)


@pytest.fixture
def refuse(tmp_path) -> Callable[[], list[str]]:
    """Return a function that runs `split` on tmp_path/images, and gives the lines in which it refuses."""

    def run_and_fail() -> list[str]:
        process = _split(tmp_path)
        assert process.returncode == 2
        assert not (tmp_path / "data/manifest.csv").exists()
        assert not (tmp_path / "metrics").exists()
        lines = process.stderr.splitlines()
        assert all(line.startswith("error: images") for line in lines)
        return [line.removeprefix("error: ") for line in lines]

    return run_and_fail


def test_the_manifest_has_a_row_for_every_image(done, manifest):
    assert manifest.columns.tolist() == ["path", "label", "class", "split", "sha256", "width", "height", "group"]
    files = [path.relative_to(done / "images").as_posix() for path in (done / "images").rglob("*.*")]
    assert manifest["path"].tolist() == sorted(files)
    assert len(manifest) == 21


def test_labels_number_the_sorted_class_folders(manifest):
    assert (manifest["class"] == manifest["path"].str.split("/").str[0]).all()
    assert (manifest["label"] == manifest["class"].map({"007": 0, "NA": 1, "rose": 2})).all()


def test_the_manifest_holds_the_hash_and_the_size_of_each_file(done, manifest):
    for row in manifest.to_dict("records"):
        content = (done / "images" / row["path"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        with Image.open(done / "images" / row["path"]) as image:
            assert row["group"] == hash_pixels(image.convert("RGB"))[:16]
        assert (row["width"], row["height"]) == (32, 24)


def test_a_copy_stands_in_the_split_of_its_original(manifest):
    copies = manifest[manifest["path"].str.match(r"rose/(0|copy)\.")]
    assert len(copies) == 2
    assert copies["split"].nunique() == 1


def test_classes_are_split_by_the_fractions(manifest):
    counts = pd.crosstab(manifest["class"], manifest["split"])[list(SPLITS)]
    assert counts.loc["007"].tolist() == [2, 1, 1]
    assert counts.loc["NA"].tolist() == [3, 2, 1]  # 3, 1.5, 1.5: the one left over goes to val
    assert counts.loc["rose"].sum() == 11
    assert np.abs(counts.loc["rose"] - [5.5, 2.75, 2.75]).max() < 2  # the copy may come on top


def test_class_counts_are_those_of_the_manifest(done, manifest):
    counts = pd.read_csv(done / "metrics/class_counts.csv", keep_default_na=False, dtype={"class": str})
    assert counts.columns.tolist() == ["class", *SPLITS, "total"]
    assert counts["class"].tolist() == ["007", "NA", "rose"]
    for row in counts.to_dict("records"):
        of_class = manifest[manifest["class"] == row["class"]]
        assert [row[split] for split in SPLITS] == [(of_class["split"] == split).sum() for split in SPLITS]
        assert row["total"] == len(of_class)
    written = json.loads((done / "metrics/dataset.json").read_text(encoding="utf-8"))
    assert written["n_classes"] == 3
    assert written["n_images"] == {column: int(counts[column].sum()) for column in (*SPLITS, "total")}
    assert written["classes"] == counts.set_index("class").to_dict("index")
    assert (written["smallest_class"], written["largest_class"], written["imbalance_ratio"]) == (4, 11, 2.75)
    assert (written["n_exact_copies"], written["n_near_copies"], written["n_groups_of_copies"]) == (1, 0, 1)
    assert written["width_px"] == {"min": 32, "median": 32, "max": 32}
    assert written["n_bytes"] == sum(path.stat().st_size for path in (done / "images").rglob("*.*"))


def test_figures_open(done):
    for name in ("class_counts", "samples"):
        with Image.open(done / "metrics" / f"{name}.png") as image:
            image.load()
            assert min(image.size) > 100


def test_nothing_is_left_half_written(done):
    assert [path.name for path in done.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"] == []


def test_packs_hold_the_manifests_images_in_its_order(done, manifest):
    for split in SPLITS:
        rows = manifest[manifest["split"] == split]
        pack = open_pack(done / "data/packed" / split, 3)
        assert pack.images.dtype == np.uint8
        assert pack.labels.tolist() == rows["label"].tolist()
        for image, path in zip(pack.images, rows["path"], strict=True):
            assert image.tolist() == read_square(done / "images" / path, STORED).tolist()


def test_class_names_survive_whatever_they_look_like(done):
    assert read_classes(done / "data/packed") == ["007", "NA", "rose"]


def test_class_names_survive_when_all_of_them_look_like_numbers(tmp_path):
    rows = []
    for number, split in enumerate(SPLITS):
        for label, name in enumerate(("007", "1e3")):
            _draw(tmp_path / "images" / name / f"{number}.png", 2 * number + label)
            rows.append((f"{name}/{number}.png", label, name, split))
    (tmp_path / "data").mkdir()
    manifest = pd.DataFrame(rows, columns=["path", "label", "class", "split"])
    contents = [(tmp_path / "images" / path).read_bytes() for path in manifest["path"]]
    manifest["sha256"] = [hashlib.sha256(content).hexdigest() for content in contents]
    manifest.to_csv(tmp_path / "data/manifest.csv", index=False)
    assert _pack(tmp_path).returncode == 0
    assert read_classes(tmp_path / "data/packed") == ["007", "1e3"]


def test_an_open_pack_refuses_to_be_written_to(done):
    path = done / "data/packed/val/images.npy"
    before = path.read_bytes()
    with pytest.raises(ValueError, match="read-only"):
        open_pack(path.parent, 3).images[:] = 0
    assert path.read_bytes() == before


def test_a_second_run_gives_the_same_bytes(done):
    before = _contents(done)
    for stage in (_split, _pack):
        assert stage(done).returncode == 0
    assert _contents(done) == before


def test_given_splits_are_kept_and_classes_txt_names_the_classes(tmp_path):
    paths = [f"{split}/{name}/{i}.png" for split in SPLITS for name in ("1", "2") for i in range(2)]
    for number, path in enumerate(paths):
        _draw(tmp_path / "images" / path, number)
    (tmp_path / "images/classes.txt").write_text("NA\nRose – 玫瑰\n", encoding="utf-8")
    process = _split(tmp_path)
    assert process.returncode == 0, process.stderr
    manifest = _read_manifest(tmp_path)
    assert manifest["path"].tolist() == sorted(paths)
    assert (manifest["split"] == manifest["path"].str.split("/").str[0]).all()
    assert (manifest["class"] == manifest["path"].str.split("/").str[1].map({"1": "NA", "2": "Rose – 玫瑰"})).all()


def test_the_same_picture_under_two_classes_is_refused(tmp_path, refuse):
    for number in range(8):
        _draw(tmp_path / "images" / "ab"[number % 2] / f"{number}.png", number)
    shutil.copy(tmp_path / "images/a/0.png", tmp_path / "images/b/again.png")
    assert refuse()[:2] == [
        "images/a/0.png: the same picture under two classes (a copy of b/again.png)",
        "images/b/again.png: the same picture under two classes (a copy of a/0.png)",
    ]


def test_the_same_picture_in_two_given_splits_is_refused(tmp_path, refuse):
    for number in range(12):
        _draw(tmp_path / "images" / SPLITS[number % 3] / "ab"[number % 2] / f"{number}.png", number)
    shutil.copy(tmp_path / "images/train/a/0.png", tmp_path / "images/test/a/again.png")
    assert refuse()[0] == "images/train/a/0.png: the same picture in two splits (a copy of test/a/again.png)"


def test_a_class_that_a_given_split_lacks_is_named(tmp_path, refuse):
    for number, path in enumerate(("train/a", "train/b", "val/a", "val/b", "test/a")):
        _draw(tmp_path / "images" / path / "1.png", number)
    (line,) = refuse()
    assert line.startswith("images: images/test: expected every class of train, found no b; ")


def test_a_class_that_only_bad_files_give_to_a_split_is_named(tmp_path, refuse):
    for number, path in enumerate(("train/a", "train/b", "val/a", "val/b", "test/a", "test/b")):
        _draw(tmp_path / "images" / path / "1.png", number)
    (tmp_path / "images/test/b/1.png").write_bytes(b"")
    assert refuse()[0] == "images/test/b/1.png: an empty file (0 bytes)"
    process = _split(tmp_path, "skip")
    assert process.returncode == 2
    assert process.stderr == "error: images: class b: no usable image in test; add some, or remove the class\n"


def test_classes_that_are_too_small_have_a_line_each(tmp_path, refuse):
    for number in range(8):
        _draw(tmp_path / "images" / ("many" if number < 4 else f"few{number % 2}") / f"{number}.png", number)
    assert [line.split(", but")[0] for line in refuse()] == [
        "images: class few0: 2 different pictures",
        "images: class few1: 2 different pictures",
    ]


def test_a_folder_that_is_not_there_is_named(refuse):
    (line,) = refuse()
    assert "no such folder" in line


def test_a_damaged_image_stops_pack_and_leaves_no_pack_half_written(tmp_path):
    for number in range(8):
        _draw(tmp_path / "images" / "ab"[number % 2] / f"{number}.png", number)
    assert _split(tmp_path).returncode == 0
    path = tmp_path / "images" / _read_manifest(tmp_path).query("split == 'train'")["path"].iloc[0]
    path.write_bytes(path.read_bytes()[:100])
    process = _pack(tmp_path)
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1
    assert path.name in process.stderr
    assert [path.name for path in (tmp_path / "data/packed").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5])
def test_a_pack_cut_short_is_a_users_mistake(done, tmp_path, share):
    shutil.copytree(done / "data/packed/val", tmp_path / "val")
    path = tmp_path / "val/images.npy"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"val/(images|labels)\.npy: "):
        open_pack(tmp_path / "val", 3)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_labels_cut_short_are_a_users_mistake(done, tmp_path, share):
    shutil.copytree(done / "data/packed/val", tmp_path / "val")
    path = tmp_path / "val/labels.npy"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"val/(images|labels)\.npy: "):
        open_pack(tmp_path / "val", 3)


def test_packs_whose_files_do_not_belong_together_are_a_users_mistake(done, tmp_path):
    shutil.copytree(done / "data/packed/val", tmp_path / "val")
    np.save(tmp_path / "val/labels.npy", np.zeros(2, dtype=np.int64))
    with pytest.raises(UserError, match=r"labels.npy: expected int64 \(\d+,\), one an image, found int64 \(2,\)"):
        open_pack(tmp_path / "val", 3)


def test_added_images_leave_the_earlier_ones_where_they_were(tmp_path):
    for number in range(30):
        _draw(tmp_path / "images" / "ab"[number % 2] / f"{number}.png", number)
    assert _split(tmp_path).returncode == 0
    before = _read_manifest(tmp_path).set_index("path")["split"]
    lines = (tmp_path / "metrics/splits.csv").read_text(encoding="utf-8").splitlines()
    for number in range(30, 80):
        _draw(tmp_path / "images" / "ab"[number % 3 == 0] / f"{number}.png", number)
    assert _split(tmp_path).returncode == 0
    manifest = _read_manifest(tmp_path).set_index("path")
    assert manifest.loc[before.index, "split"].equals(before)
    assert set(lines) < set((tmp_path / "metrics/splits.csv").read_text(encoding="utf-8").splitlines())
    for _, of_class in manifest.groupby("class"):
        counts = of_class["split"].value_counts()
        for split, share in zip(SPLITS, (0.5, 0.25, 0.25), strict=True):
            assert abs(counts[split] - share * len(of_class)) <= 1


def test_a_copy_that_is_added_joins_its_original_wherever_that_stands(tmp_path):
    for number in range(30):
        _draw(tmp_path / "images" / "ab"[number % 2] / f"{number}.png", number)
    assert _split(tmp_path).returncode == 0
    before = _read_manifest(tmp_path).set_index("path")["split"]
    for number in range(30):
        with Image.open(tmp_path / "images" / "ab"[number % 2] / f"{number}.png") as image:
            ImageOps.mirror(image).save(tmp_path / "images" / "ab"[number % 2] / f"{number} mirrored.bmp")
    assert _split(tmp_path).returncode == 0
    after = _read_manifest(tmp_path).set_index("path")["split"]
    assert after[before.index].equals(before)
    for path, split in before.items():
        assert after[path.replace(".png", " mirrored.bmp")] == split


def test_a_memory_of_splits_that_is_damaged_is_named(tmp_path):
    for number in range(8):
        _draw(tmp_path / "images" / "ab"[number % 2] / f"{number}.png", number)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/splits.csv").write_text("picture,split\n0011,training\n", encoding="utf-8")
    process = _split(tmp_path)
    assert (process.returncode, process.stderr.count("\n")) == (2, 1)
    assert "metrics/splits.csv: expected lines of picture,split; restore it from git" in process.stderr


def test_an_image_that_was_changed_after_split_is_named_by_pack(tmp_path):
    for number in range(8):
        _draw(tmp_path / "images" / "ab"[number % 2] / f"{number}.png", number)
    assert _split(tmp_path).returncode == 0
    _draw(tmp_path / "images/a/0.png", 99)
    process = _pack(tmp_path)
    assert (process.returncode, process.stderr.count("\n")) == (2, 1)
    assert "images/a/0.png: not the file that the manifest lists" in process.stderr


@pytest.mark.parametrize("damage", ["", "path,label\na,1\n", "\0\1\2", None])
def test_a_damaged_manifest_is_named_by_pack(done, tmp_path, damage):
    shutil.copytree(done, tmp_path / "copy")
    path = tmp_path / "copy/data/manifest.csv"
    path.unlink() if damage is None else path.write_text(damage, encoding="utf-8")
    process = _pack(tmp_path / "copy")
    assert (process.returncode, process.stderr.count("\n")) == (2, 1)
    assert "data/manifest.csv: " in process.stderr
    assert "run `dvc repro split`" in process.stderr
