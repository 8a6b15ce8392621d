"""The stage `audit` on packed pictures: which labels it lists, which it does not, and what `--accept` adds."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages import audit
from stages.labelling import backbones
from stages.pixels.packed_splits import open_splits
from stages.runtime.errors import UserError
from stages.runtime.process import exit_cleanly
from stages.settings.reading import read_params
from stages.training.checkpoint_folder import FEATURES, find_folder
from stages.training.features import read_features
from stages.training.job import prepare
from tests.parameters import PARAMS, write_params
from tests.pipelines import write_start

NAMES = ["rose", "iris, blue", "nan"]
SIZES = {"train": 90, "val": 30, "test": 30}
WRONG = {("train", 4): 2, ("train", 20): 0, ("val", 9): 1, ("test", 7): 0}  # {position: wrong label}
FILES = {f"{NAMES[label]}/{split} {i}.jpg": NAMES[i % 3] for (split, i), label in WRONG.items()}
BLOCK = {"architecture": "cnn", "filters": 2, "padding": "same", "dense_units": 0, "dropout": 0}
OUTPUTS = ("metrics/label_issues.csv", "metrics/audit.json", "data/audit.npz")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in a folder with packed pictures of three colours, and a manifest of them."""
    monkeypatch.chdir(tmp_path)
    random, rows = np.random.default_rng(1), []
    for split, n in SIZES.items():
        shown = np.arange(n) % 3
        labels = np.array([WRONG.get((split, i), label) for i, label in enumerate(shown)])
        images = np.full((n, 36, 36, 3), 60) + 150 * np.eye(3, dtype=int)[shown][:, None, None]
        images = images + random.integers(-40, 40, images.shape)
        packed = tmp_path / "packed" / split
        packed.mkdir(parents=True)
        for name, array in (("images", images.astype(np.uint8)), ("labels", labels)):
            np.save(packed / f"{name}.npy", array)
        np.save(packed / "groups.npy", random.integers(0, 2**62, n))
        rows += [(f"{NAMES[label]}/{split} {i}.jpg", NAMES[label], split) for i, label in enumerate(labels)]
    (tmp_path / "packed/classes.json").write_text(json.dumps(NAMES))
    manifest = pd.DataFrame(rows, columns=["path", "class", "split"])
    Path("data").mkdir()
    manifest.to_csv("manifest.csv", index=False)
    write_fixes()
    write_start(tmp_path / "start.safetensors")
    write_params(tmp_path / "params.yaml", audit={**BLOCK, "weights": "start.safetensors", "image_size_px": 32})
    return tmp_path


def write_fixes(*rows: str) -> None:
    Path("fixes.csv").write_text("\n".join(["file,split,given,fixed", *rows, ""]), encoding="utf-8")


def run(monkeypatch, *arguments: str) -> None:
    paths = arguments or ("packed", "manifest.csv", "fixes.csv", *OUTPUTS)
    monkeypatch.setattr("sys.argv", ["audit", *paths])
    audit.main()


def read_issues() -> pd.DataFrame:
    return pd.read_csv(OUTPUTS[0], keep_default_na=False, dtype=str)


def test_wrong_labels_of_every_split_are_named_with_the_right_class_and_pictures_of_it(folder, monkeypatch):
    run(monkeypatch)
    issues = read_issues()
    assert issues.columns.tolist() == ["file", "given", "suggested", "score", "split", "judged"]
    assert dict(zip(issues["file"], issues["suggested"], strict=True)) == FILES
    assert (issues["judged"] == "yes").all()
    summary = json.loads(Path(OUTPUTS[1]).read_text(encoding="utf-8"))
    assert summary["n_pictures"] == sum(SIZES.values())
    assert summary["n_judged"] == len(issues)
    assert summary["expected_precision"] == pytest.approx(issues["score"].astype(float).mean(), abs=1e-4)
    with np.load(OUTPUTS[2]) as pictures:
        colours = pictures["images"][pictures["shown"]].mean(axis=(2, 3)).argmax(axis=2)
    assert colours.tolist() == [[NAMES.index(each)] * 4 for each in issues["suggested"]]  # with three neighbours


def test_the_same_pictures_give_the_same_bytes(folder, monkeypatch):
    run(monkeypatch)
    kept = [Path(name).read_bytes() for name in OUTPUTS]
    run(monkeypatch)
    assert [Path(name).read_bytes() for name in OUTPUTS] == kept


def test_features_that_a_training_has_kept_are_read_and_give_the_same_bytes(folder, monkeypatch):
    run(monkeypatch)
    expected = [Path(name).read_bytes() for name in OUTPUTS]
    keep_features(folder)
    sizes = []
    compute = backbones.compute_features
    monkeypatch.setattr(backbones, "compute_features", lambda *parts: (sizes.append(len(parts[1])), compute(*parts))[1])
    run(monkeypatch)
    assert sizes == [SIZES["test"]]
    assert [Path(name).read_bytes() for name in OUTPUTS] == expected


def keep_features(folder: Path) -> None:
    """Store features of train and val, as a training from the audit's weights does."""
    start = {"weights": "start.safetensors", "image_size_px": 32, "head_start": "logistic_regression"}
    block = {**PARAMS["models"]["cnn"], **BLOCK, **start, "frozen_views": 1}
    recipe = read_params(write_params(folder / "recipe.yaml", models={"other": block}, image_sizes_px=[32]))
    class_names, splits = open_splits(Path("packed"), ("train", "val"))
    network, _, job = prepare(recipe, "other", class_names, splits, torch.device("cpu"), code="of a training")
    for split in ("train", "val"):
        read_features(network.backbone, job, split, find_folder(Path(OUTPUTS[2])) / FEATURES)


def test_what_a_person_has_decided_is_not_named_again(folder, monkeypatch):
    write_fixes("nan/train 4.jpg,train,nan,nan", "rose/test 7.jpg,test,rose,")
    run(monkeypatch)
    assert set(read_issues()["file"]) == FILES.keys() - {"nan/train 4.jpg", "rose/test 7.jpg"}
    assert json.loads(Path(OUTPUTS[1]).read_text(encoding="utf-8"))["n_pictures"] == sum(SIZES.values()) - 1


def test_weights_of_these_labels_are_refused_before_anything_is_written(folder, monkeypatch, capsys):
    write_params(folder / "params.yaml", audit={**BLOCK, "weights": "data/models/cnn.safetensors", "image_size_px": 32})
    Path("data/models").mkdir()
    (folder / "start.safetensors").rename("data/models/cnn.safetensors")
    with pytest.raises(SystemExit) as ended:
        exit_cleanly(lambda: run(monkeypatch))
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: data/models/cnn.safetensors: ")
    assert not any(Path(name).exists() for name in OUTPUTS)


def test_the_first_judged_rows_are_accepted_and_a_number_that_is_none_is_one_line(folder, monkeypatch):
    with pytest.raises(UserError, match="dvc repro audit"):
        run(monkeypatch, "--accept", "1")
    Path("metrics").mkdir()
    rows = [
        "file,given,suggested,score,split,judged",
        "a,x,y,1,val,no",
        '"b, 1",x,"y, z",1,test,yes',
        "c,x,y,0.9,train,yes",
    ]
    Path(OUTPUTS[0]).write_text("\n".join(rows), encoding="utf-8")
    run(monkeypatch, "--accept", "1")
    assert Path("labels_fixed.csv").read_text(encoding="utf-8") == 'file,label\n"b, 1","y, z"\n'
    run(monkeypatch, "--accept", "2")
    assert Path("labels_fixed.csv").read_text(encoding="utf-8").endswith('"y, z"\nc,y\n')
    for n in ("0", "3", "-1"):
        with pytest.raises(UserError, match="2 judged"):
            run(monkeypatch, "--accept", n)
