"""The stage `split`: what it writes, what it refuses, and which splits it keeps."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from stages import pack
from stages.pixels.decoding import hash_pixels
from stages.pixels.packed_splits import open_splits
from stages.runtime.errors import UserError
from tests.image_folders import picture, read_manifest, run_split, save, touch
from tests.parameters import MISSING, write_params
from tests.repository import ROOT

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Return a folder in which the stage has run, with three classes and a copy of one picture."""
    folder = tmp_path_factory.mktemp("done")
    counts = {"007": 4, "NA": 6, "rose": 10}
    save(folder, *(f"images/{name}/{i}.png" for name, count in counts.items() for i in range(count)))
    shutil.copy(folder / "images/rose/0.png", folder / "images/rose/copy.png")
    run_split(folder, figures=True)
    return folder


@pytest.fixture(scope="module")
def manifest(done):
    return read_manifest(done)


def _refuse(folder, **changes):
    """Run the stage, which ends with an error, and return its lines."""
    with pytest.raises(UserError) as caught:
        run_split(folder, **changes)
    assert not (folder / "data/manifest.csv").exists()
    return list(caught.value.args)


def _contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_manifest_has_a_row_for_every_image(done, manifest):
    assert manifest.columns.tolist() == ["path", "label", "class", "split", "sha256", "width", "height", "group"]
    paths = sorted(path.relative_to(done / "images").as_posix() for path in (done / "images").rglob("*.png"))
    assert manifest["path"].tolist() == paths
    assert (manifest["class"] == manifest["path"].str.split("/").str[0]).all()
    assert (manifest["label"] == manifest["class"].map({"007": 0, "NA": 1, "rose": 2})).all()
    for row in manifest.to_dict("records"):
        path = done / "images" / row["path"]
        assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert row["group"] == hash_pixels(Image.open(path).convert("RGB"))[:16]
        assert (row["width"], row["height"]) == (72, 56)


def test_classes_are_split_by_the_fractions_and_copies_stay_together(manifest):
    counts = pd.crosstab(manifest["class"], manifest["split"])[list(SPLITS)]
    assert counts.loc["007"].tolist() == [2, 1, 1]
    assert counts.loc["NA"].tolist() == [3, 2, 1]  # 3, 1.5, 1.5: the one left over goes to val
    assert np.abs(counts.loc["rose"] - [5.5, 2.75, 2.75]).max() < 2  # plus the copy
    assert manifest[manifest["path"].isin(["rose/0.png", "rose/copy.png"])]["split"].nunique() == 1


def test_class_counts_are_those_of_the_manifest(done, manifest):
    counts = pd.read_csv(done / "metrics/class_counts.csv", keep_default_na=False, dtype={"class": str})
    assert counts.columns.tolist() == ["class", *SPLITS, "total"]
    assert counts["class"].tolist() == ["007", "NA", "rose"]
    for row in counts.to_dict("records"):
        of_class = manifest[manifest["class"] == row["class"]]
        assert [row[split] for split in SPLITS] == [(of_class["split"] == split).sum() for split in SPLITS]
        assert row["total"] == len(of_class)
    facts = json.loads((done / "metrics/dataset.json").read_text(encoding="utf-8"))
    assert facts["n_images"] == {column: int(counts[column].sum()) for column in (*SPLITS, "total")}
    assert (facts["smallest_class"], facts["largest_class"], facts["imbalance_ratio"]) == (4, 11, 2.75)
    assert (facts["n_exact_copies"], facts["n_near_copies"], facts["n_groups_of_copies"]) == (1, 0, 1)
    assert facts["width_px"] == {"min": 72, "median": 72, "max": 72}
    for name in ("class_counts", "samples"):
        with Image.open(done / f"metrics/{name}.png") as image:
            assert min(image.size) > 100


def test_a_second_run_gives_the_same_bytes_on_any_processor_with_any_number_of_threads(done, tmp_path):
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    arguments = ["data/manifest.csv", "data/rejected.csv", "metrics", "--params", "recipe.yaml"]
    less = {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR", "OPENBLAS_CORETYPE": "Nehalem"}
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "3"} | less
    subprocess.run([sys.executable, "-m", "stages.split", *arguments], cwd=tmp_path, env=environment, check=True)
    (tmp_path / "data/timings.csv").unlink()
    assert _contents(tmp_path) == _contents(done)


def test_given_splits_are_kept_and_classes_txt_names_the_classes(tmp_path):
    paths = [f"{split}/{name}/{i}.png" for split in SPLITS for name in "12" for i in range(2)]
    save(tmp_path / "images", *paths)
    (tmp_path / "images/classes.txt").write_text("2,Rose – 玫瑰\n1,NA\n", encoding="utf-8")
    run_split(tmp_path)
    manifest = read_manifest(tmp_path)
    assert manifest["path"].tolist() == sorted(paths)
    assert (manifest["split"] == manifest["path"].str.split("/").str[0]).all()
    counts = pd.read_csv(tmp_path / "metrics/class_counts.csv", keep_default_na=False)
    assert counts["class"].tolist() == ["NA", "Rose – 玫瑰"]
    assert json.loads((tmp_path / "data/names.json").read_text(encoding="utf-8")) == {"1": "NA", "2": "Rose – 玫瑰"}


def test_what_trainings_depend_on_knows_no_name_to_read(tmp_path):
    save(tmp_path / "images", *(f"{label}/{i}.png" for label in "12" for i in range(4)))
    (tmp_path / "images/classes.txt").write_text("1,Dasiy\n2,rose\n", encoding="utf-8")
    run_split(tmp_path)
    before = (tmp_path / "data/manifest.csv").read_bytes()
    assert set(read_manifest(tmp_path)["class"]) == {"1", "2"}
    shutil.rmtree(tmp_path / "metrics")  # with the ledger, which keeps earlier splits
    (tmp_path / "images/classes.txt").write_text("2,aster\n1,daisy\n", encoding="utf-8")
    run_split(tmp_path)
    assert (tmp_path / "data/manifest.csv").read_bytes() == before


def test_a_missing_test_split_is_cut_from_train_and_said_so(tmp_path, capsys):
    save(tmp_path / "images", *(f"train/{label}/{i}.png" for label in "ab" for i in range(9)))
    save(tmp_path / "images", *(f"valid/{label}/{i}.png" for label in "ab" for i in range(3)), first=50)
    run_split(tmp_path)
    assert "cut from train: 6 test images" in capsys.readouterr().out
    manifest = read_manifest(tmp_path)
    assert manifest.loc[manifest["path"].str.startswith("valid/"), "split"].eq("val").all()
    of_train = manifest[manifest["path"].str.startswith("train/")]
    assert of_train["split"].value_counts().to_dict() == {"train": 12, "test": 6}  # 9 of each class, by 0.5 : 0.25


def test_an_input_that_only_trains_has_no_test_split(tmp_path):
    save(tmp_path / "images", *(f"{label}/{i}.png" for label in "ab" for i in range(4)))
    run_split(tmp_path, test=0.0)
    assert read_manifest(tmp_path)["split"].value_counts().to_dict() == {"train": 6, "val": 2}
    facts = json.loads((tmp_path / "metrics/dataset.json").read_text(encoding="utf-8"))
    assert facts["n_images"] == {"train": 6, "val": 2, "test": 0, "total": 8}


# What is refused


def test_a_mistake_is_a_line_and_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "stages.split", "manifest.csv", "rejected.csv", "metrics"]
    write_params(tmp_path / "params.yaml", images="nowhere")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: images: nowhere: ")


def test_copies_between_given_splits_are_named_with_both_paths_and_leave_train(tmp_path):
    places = [f"{name}/{label}/{i}.png" for name in SPLITS for label in "ab" for i in range(2)]
    save(tmp_path / "images", *places)
    picture(places.index("test/a/0.png")).save(tmp_path / "images/train/a/exact.png")
    ImageOps.mirror(picture(places.index("val/b/1.png"))).save(tmp_path / "images/train/b/mirrored.jpg")
    exact, near, _ = _refuse(tmp_path)
    assert exact == "images/train/a/exact.png: the same picture, or group, in two splits (a copy of test/a/0.png)"
    assert near == "images/train/b/mirrored.jpg: the same picture, or group, in two splits (a near copy of val/b/1.png)"
    run_split(tmp_path, images_policy="skip")
    assert sorted(read_manifest(tmp_path)["path"]) == sorted(places)


def test_many_files_of_one_kind_are_one_line_that_counts_them_and_says_what_to_do(tmp_path):
    save(tmp_path, *(f"images/{name}/{i}.png" for name in "ab" for i in range(12)))
    touch(tmp_path, "images/a/0.jpg")
    for path in [*(tmp_path / "images").glob("*/*.png")]:
        path.with_suffix(".TXT").write_text("0 0.5 0.5 1 1")
    with pytest.raises(UserError) as caught:
        run_split(tmp_path)
    many, few, last = caught.value.args
    assert "images/a/0.jpg: " in few
    assert "24 files *.txt: " in many
    assert "images/a/0.TXT" in many
    assert "move" in last
    assert "25 of 49 files" in last
    assert len((tmp_path / "data/rejected.csv").read_text().splitlines()) == 26


def test_classes_that_bad_files_leave_without_an_image_are_named(tmp_path):
    save(tmp_path / "images", *(f"{split}/{name}/{i}.png" for split in SPLITS for name in "ab" for i in range(4)))
    for path in (tmp_path / "images").glob("*/?/*.png"):
        if "test" in path.parts or path.match("val/b/*"):
            path.write_bytes(b"")
    of_a, of_b = _refuse(tmp_path, images_policy="skip")  # a given test split is not cut again from train
    assert "class a: no usable image in test; " in of_a
    assert "class b: no usable image in val, test; " in of_b


# Groups that labels.csv gives


def _label(folder, rows, columns="path,label,group"):
    (folder / "images/labels.csv").write_text("\n".join([columns, *(",".join(row) for row in rows)]), encoding="utf-8")


def test_pictures_of_a_group_and_copies_of_them_stay_in_one_split_also_across_classes(tmp_path):
    paths = [f"{i}.png" for i in range(48)]
    save(tmp_path / "images", *paths)
    picture(0).save(tmp_path / "images/copy.png")  # of the first site, in a group with the last picture
    rows = [(path, "ab"[i % 2], f"site {i // 6}" if i < 36 else "") for i, path in enumerate(paths)]
    _label(tmp_path, [*rows[:-1], (*rows[-1][:2], "site x"), ("copy.png", "a", "site x")])
    run_split(tmp_path)
    manifest = read_manifest(tmp_path).set_index("path")
    sites = [paths[i : i + 6] + ["copy.png", "47.png"] * (not i) for i in range(0, 36, 6)]
    for site in sites:
        assert manifest.loc[site, "split"].nunique() == manifest.loc[site, "group"].nunique() == 1
    assert manifest["group"].nunique() == len(sites) + 11  # an empty cell means no group
    counts = pd.crosstab(manifest["class"], manifest["split"])
    assert (counts.loc[:, "train"] >= 10).all()
    assert (counts >= 3).all(axis=None)
    facts = json.loads((tmp_path / "metrics/dataset.json").read_text(encoding="utf-8"))
    assert (facts["n_exact_copies"], facts["n_near_copies"], facts["n_groups_of_copies"]) == (1, 0, 1)


def test_a_class_of_a_single_group_is_refused(tmp_path):
    save(tmp_path / "images", *(f"{i}.png" for i in range(18)))
    _label(tmp_path, [(f"{i}.png", "ab"[i % 2], "day 1" if i % 2 else "") for i in range(18)])
    (line,) = _refuse(tmp_path)
    assert "class b: 1 different picture among its 9 " in line


def test_a_group_that_the_split_column_cuts_is_named_with_its_lines(tmp_path):
    save(tmp_path / "images", *(f"{i}.png" for i in range(4)))
    rows = [(f"{i}.png", "ab"[i % 2], "one", "test" if i > 1 else "train") for i in range(4)]
    _label(tmp_path, rows, "path,label,group,split")
    (line,) = _refuse(tmp_path)
    assert "line 4: expected all pictures of group one in one split, found test here and train in line 2" in line


def test_pictures_of_a_group_that_copies_tear_leave_train(tmp_path):
    paths = [f"{split} {label} {i}.png" for split in SPLITS for label in "ab" for i in range(3)]
    save(tmp_path / "images", *paths)
    shutil.copy(tmp_path / "images/test a 0.png", tmp_path / "images/copy.png")
    rows = [(path, path.split()[1], "one" if path == "train a 1.png" else "", path.split()[0]) for path in paths]
    _label(tmp_path, [*rows, ("copy.png", "a", "one", "train")], "path,label,group,split")
    copy, of_group, _ = _refuse(tmp_path)
    assert copy.endswith("(a copy of test a 0.png)")
    assert of_group.endswith("(in one group with test a 0.png)")


# Grey of 10 or 12 bits in pixels of 16


def test_wide_grey_of_a_folder_has_one_depth_in_split_and_pack(tmp_path, capsys, monkeypatch):
    for i in range(16):
        (tmp_path / f"images/{'ab'[i % 2]}").mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(picture(i).convert("L")).astype(np.uint16)  # up to 255 of 4095: dark, but for one
        pixels[0, 0] = 4095 if i == 5 else 0
        Image.fromarray(pixels * (1 + 14 * (i > 7))).save(tmp_path / f"images/{'ab'[i % 2]}/{i}.png")
    picture(50).save(tmp_path / "images/a/colour.png")
    run_split(tmp_path)
    assert "12 bits" in capsys.readouterr().out
    assert json.loads((tmp_path / "metrics/dataset.json").read_text(encoding="utf-8"))["grey_bits"] == 12
    manifest = read_manifest(tmp_path)
    assert manifest["grey_bits"].eq(12).all()
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path / "recipe.yaml", images="images", ensemble=MISSING)
    monkeypatch.setattr(sys, "argv", ["pack", "data/manifest.csv", "32", "packed", "--params", "recipe.yaml"])
    pack.main()
    assert [split.grey_bits for split in open_splits(Path("packed"), SPLITS)[1]] == [12] * 3
    for split in SPLITS:
        rows = manifest[manifest["split"] == split]["path"]
        for path, stored in zip(rows, np.load(tmp_path / f"packed/{split}/images.npy"), strict=True):
            if path != "a/colour.png":
                wide = np.asarray(Image.open(tmp_path / "images" / path))
                grey = Image.fromarray((wide // 16).astype(np.uint8))
                expected = ImageOps.fit(grey.convert("RGB"), stored.shape[:2], Image.Resampling.BICUBIC)
                assert (stored == np.asarray(expected)).all()


# Copies of two classes


def _save_frames(folder, label, number, n):
    """Save n near copies of a picture, each darker than the one before."""
    (folder / "images" / label).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        picture(number).point(lambda level, i=i: level * (40 - i) // 40).save(
            folder / f"images/{label}/{number} {i}.png"
        )


def test_mirror_images_of_two_classes_stay_in_one_split_and_are_no_conflict(tmp_path):
    save(tmp_path / "images", *(f"left/{i}.png" for i in range(12)))
    (tmp_path / "images/right").mkdir()
    for i in range(12):
        ImageOps.mirror(picture(i)).save(tmp_path / f"images/right/{i}.png")
    run_split(tmp_path)
    manifest = read_manifest(tmp_path)
    assert len(manifest) == 24
    assert manifest.groupby(manifest["path"].str.split("/").str[1])["split"].nunique().max() == 1
    assert (pd.crosstab(manifest["class"], manifest["split"]) >= 2).all(axis=None)


def test_of_many_copies_the_few_of_another_class_are_named_and_of_as_many_all(tmp_path, capsys):
    save(tmp_path / "images", *(f"{label}/{i}.png" for i, label in enumerate("ab" * 12)))
    _save_frames(tmp_path, "a", 100, 19)
    _save_frames(tmp_path, "a", 200, 1)
    picture(100).point(lambda level: level * 20 // 40).save(tmp_path / "images/b/odd.png")
    shutil.copy(tmp_path / "images/a/200 0.png", tmp_path / "images/b/same.png")
    *lines, last = _refuse(tmp_path)
    assert [line.split(": ")[0] for line in lines] == [f"images/{name}.png" for name in ("a/200 0", "b/odd", "b/same")]
    assert "19 of its 20 copies are in class a" in lines[1]
    assert "images_copy_bits" in last
    run_split(tmp_path, images_policy="skip")
    manifest = read_manifest(tmp_path)
    assert len(manifest) == 24 + 19
    assert manifest[manifest["path"].str.startswith("a/100")]["split"].nunique() == 1


def test_a_class_of_near_copies_alone_is_refused_with_the_threshold(tmp_path):
    save(tmp_path / "images", *(f"a/{i}.png" for i in range(9)))
    _save_frames(tmp_path, "b", 100, 9)
    (line,) = _refuse(tmp_path)
    assert "class b: 1 different picture among its 9 " in line
    assert "images_copy_bits" in line


# What is remembered


def test_added_images_and_copies_leave_the_earlier_ones_where_they_were(tmp_path):
    save(tmp_path / "images", *(f"{'ab'[i % 2]}/{i}.png" for i in range(20)))
    run_split(tmp_path)
    before = read_manifest(tmp_path).set_index("path")["split"]
    save(tmp_path / "images", *(f"{'ab'[i % 3 == 0]}/{i}.png" for i in range(20, 50)), first=20)
    for path in before.index:
        ImageOps.mirror(Image.open(tmp_path / "images" / path)).save(tmp_path / "images" / f"{path} mirrored.bmp")
    run_split(tmp_path)
    after = read_manifest(tmp_path).set_index("path")["split"]
    assert after[before.index].equals(before)
    assert after[before.index + " mirrored.bmp"].tolist() == before.tolist()
    assert (read_manifest(tmp_path)["split"] == "test").mean() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("between", ["without", "with"])
def test_another_folder_in_between_leaves_the_ledger_as_it_was(tmp_path, between):
    save(tmp_path / "images", *(f"{'ab'[i % 2]}/{i}.png" for i in range(20)))
    run_split(tmp_path)
    before = read_manifest(tmp_path).set_index("path")["split"]
    (tmp_path / "images").rename(tmp_path / "first")
    tops = [f"{split}/" for split in SPLITS] if between == "with" else [""]
    save(tmp_path / "images", *(f"{top}{name}/{i}.png" for top in tops for name in "cd" for i in range(4)), first=100)
    run_split(tmp_path)
    (tmp_path / "images").rename(tmp_path / "second")
    (tmp_path / "first").rename(tmp_path / "images")
    save(tmp_path / "images", *(f"{'ab'[i % 2]}/{i}.png" for i in range(200, 220)), first=200)
    run_split(tmp_path)
    assert read_manifest(tmp_path).set_index("path")["split"][before.index].equals(before)
