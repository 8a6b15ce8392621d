"""The whole pipeline: the real `dvc repro` of the real dvc.yaml, on tiny drawn sets, in separate clones."""

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipelines import SOURCE, Clone, ran
from tests.repository import ROOT

# begins with the first layers of another member
SIXTH = (
    "{architecture: cnn, filters: 2, padding: same, dense_units: 4, dropout: 0, weights: data/models/cnn.safetensors, "
    "image_size_px: 48, lr: 0.001, epochs: 1}"
)
COLOURS = ["red", "green", "blue"]


def keep_only(*names: str, **changes) -> Callable[[dict], None]:
    """Return a change of the parameters that keeps only some models and changes some keys."""

    def change(params: dict) -> None:
        params["models"] = {name: params["models"][name] | changes for name in names}

    return change


def members(folder: Path) -> list[str]:
    return list(json.loads((folder / "metrics/ensemble.json").read_text(encoding="utf-8"))["weights"])


def epochs_of(history: Path) -> list[int]:
    with history.open(encoding="utf-8") as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


def trains_cnn(folder: Path) -> bool:
    """Return whether an epoch of `cnn` has ended and its checkpoint is written."""
    has_begun = (folder / "metrics/models/cnn/history.csv").exists()
    return has_begun and any((folder / ".dvc/cache/checkpoints").glob("[!.]*.checkpoint"))


def test_a_killed_pipeline_goes_on_and_members_join_it_from_the_command_line(tmp_path):
    clone = Clone(tmp_path, change=keep_only("cnn", epochs=60))  # long enough for a kill
    small = clone.read()["models"]["cnn"]
    clone.edit(lambda params: params.update(models={"small": {**small, "epochs": 1}}), f"{SOURCE}/params.yaml")
    clone.edit(
        lambda params: params["models"]["cnn"].update(weights=f"{SOURCE}/models/small.safetensors", frozen_epochs=1)
    )
    assert clone.kill_when("dvc repro", lambda: trains_cnn(tmp_path))
    output = clone.run("dvc repro")
    assert "cnn: resumes after epoch" in output
    assert ran(output) == {"train@cnn", "evaluate@cnn", "ensemble", "audit", "report"}
    assert epochs_of(tmp_path / "metrics/models/cnn/history.csv") == list(range(1, 61))

    # files of a model that is no longer in the parameters
    for stray in ("data/predictions/removed.npz", "metrics/models/removed.json", "metrics/models/removed/history.csv"):
        (tmp_path / stray).parent.mkdir(exist_ok=True)
        (tmp_path / stray).write_text("removed", encoding="utf-8")
    clone.commit()
    sizes = "image_sizes_px=[32, 48]"
    output = clone.run(f"dvc exp run -S '{sizes}' -S '+models.sixth={SIXTH}'")
    assert ran(output) == {"check", "pack@48", "train@sixth", "evaluate@sixth", "ensemble", "report"}
    assert members(tmp_path) == ["cnn", "sixth"]
    assert "sixth.lr" in clone.run("python -m stages.experiments.sweep")  # two ensembles differ in it
    found = json.loads(clone.run("python -m stages.experiments.compare HEAD --json"))
    assert (found["only"]["after"], found["unchanged"]) == (["sixth"], ["cnn"])
    assert [row["model"] for row in found["rows"]] == ["ensemble"]
    starts = [
        json.loads((tmp_path / f"metrics/models/{model}.json").read_text(encoding="utf-8"))["start"]
        for model in members(tmp_path)
    ]
    assert starts[0].startswith(f"{SOURCE}/models/small.safetensors (sha256 ")
    assert starts[1].startswith("data/models/cnn.safetensors (sha256 ")
    report = (tmp_path / "metrics/report.html").read_text(encoding="utf-8")
    for page in (report, clone.run("python -m stages.show metrics")):
        assert "sixth" in page
        assert "removed" not in page

    clone.edit(lambda params: params["models"].pop("sixth"))
    clone.edit(lambda params: params.update(image_sizes_px=[32]))
    assert clone.repro() == {"ensemble", "report"}  # DVC knows these parameters and does not run `check`
    clone.commit()
    clone.run(f"git clone -q . {tmp_path / 'fresh'}")
    fresh = clone.beside(tmp_path / "fresh")
    fresh.run(f"dvc cache dir --local {tmp_path / '.dvc/cache'}")
    fresh.run("dvc checkout --with-deps report")
    assert fresh.repro() == set()  # the removed model left no files

    clone.edit(lambda params: params["models"]["cnn"].update(weights="data/weights/scratch", image_size_px=64))
    assert "error: params.yaml: models.cnn.image_size_px: " in clone.run("dvc repro train@cnn", expected=1)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", sorted(path.name for path in ROOT.glob("recipes/*.yaml")))
def test_a_recipe_runs_whole(recipe, tmp_path):
    packaged = "data/weights/packaged/tf_efficientnet_lite0.safetensors"
    timm = {"architecture": "timm", "network": "tf_efficientnet_lite0.in1k", "weights": packaged, "lr": 0.001}
    timm |= {"image_size_px": 32, "epochs": 1, "warmup_epochs": 0}
    clone = Clone(tmp_path, f"recipes/{recipe}", change=lambda params: params["models"].update(timm=timm))
    output = clone.run("dvc repro")
    models, sizes_px = list(clone.read()["models"]), clone.read()["image_sizes_px"]
    packs = {f"pack@{size_px}" for size_px in sizes_px}
    assert {"code", "check", "split", *packs, "ensemble", "report"} <= ran(output)
    assert {f"{stage}@{name}" for name in models for stage in ("train", "evaluate")} <= ran(output)
    assert members(tmp_path) == models
    for name, block in clone.read()["models"].items():
        first = 0 if block.get("head_start") == "logistic_regression" else 1
        epochs = epochs_of(tmp_path / f"metrics/models/{name}/history.csv")
        assert epochs == list(range(first, first + len(epochs)))
        assert name in (table := clone.run("python -m stages.show metrics"))
    assert "ImageNet-1k, EfficientNet-Lite0 (Google, Apache-2.0)" in table
    assert (tmp_path / "metrics/report.html").stat().st_size > 0
    clone.run("git add .")
    tracked = clone.run("git ls-files data").split()
    assert {Path(path).name for path in tracked} == {"dvc.yaml", "dvc.lock", "params.yaml", "scratch"}
    assert clone.repro() == set()
    if recipe == "default.yaml":
        measured = clone.run("python -m benchmarks.training cnn --rounds 1 --seconds 0.1")
        assert json.loads(measured[measured.index("{") : measured.index("}}") + 2])["real_to_limit"] > 0


def save_colours(folder: Path, wrong: dict[str, str]) -> None:
    """Save a folder with 40 pictures for each of three colours, some of them in another colour."""
    random = np.random.default_rng(1)
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True)
        for i in range(40):
            shown = COLOURS.index(wrong.get(f"{colour}/{i}.png", colour))
            blots = random.integers(0, 120, (9, 9, 3)) + 120 * np.eye(3, dtype=int)[shown]
            Image.fromarray(blots.astype(np.uint8)).resize((48, 40)).save(folder / colour / f"{i}.png")


@pytest.mark.slow
def test_accepted_labels_are_trained_on_and_a_confirmed_one_trains_nothing(tmp_path):
    wrong = {"red/3.png": "green", "green/7.png": "blue", "green/30.png": "red", "blue/12.png": "red"}
    clone = Clone(tmp_path, change=keep_only("cnn", epochs=1))
    save_colours(tmp_path / "data/photos", wrong)
    clone.edit(lambda params: params.update(images="data/photos"))
    clone.run("dvc repro")
    with (tmp_path / "metrics/label_issues.csv").open(encoding="utf-8") as file:
        issues = list(csv.DictReader(file))
    assert {row["file"]: row["suggested"] for row in issues} == wrong

    clone.run("python -m stages.audit --accept 3")
    fixes = tmp_path / "labels_fixed.csv"
    expected = ["file,label", *(f"{row['file']},{row['suggested']}" for row in issues[:3])]
    assert fixes.read_text(encoding="utf-8").splitlines() == expected
    with fixes.open("a", encoding="utf-8") as file:
        file.write(f"{issues[3]['file']},drop\n")
    assert clone.repro() == {"split", "pack@32", "train@cnn", "evaluate@cnn", "ensemble", "audit", "report"}
    facts = json.loads((tmp_path / "metrics/dataset.json").read_text(encoding="utf-8"))["n_fixed"]
    assert (facts["relabelled"], facts["dropped"] + facts["marked_in_test"]) == (3, 1)
    assert (tmp_path / "metrics/label_issues.csv").read_text(encoding="utf-8").count("\n") == 1
    with fixes.open("a", encoding="utf-8") as file:
        file.write("red/5.png,red\n")  # confirmed as right
    assert clone.repro() == {"split", "audit", "report"}
    fixes.write_text("file,label\nred/99.png,red\n", encoding="utf-8")
    assert "error: labels_fixed.csv: line 2: " in clone.run("dvc repro", expected=1)


def share(clone: Clone, folder: Path, way: str = "") -> None:
    """Push, and pull in another clone, which is complete afterwards."""
    clone.commit()
    clone.run("dvc push")
    clone.run(f"git clone -q . {folder}")
    second = clone.beside(folder)
    second.run(f"dvc pull {way}")
    assert second.repro() == set()
    assert second.run(f"dvc status {way}").strip() == "Data and pipelines are up to date."
    assert second.bytes_of("data/models", "metrics") == clone.bytes_of("data/models", "metrics")


@pytest.mark.slow
def test_trainings_side_by_side_are_those_of_one_after_another_and_a_second_clone_pulls_them(tmp_path):
    finished, clone = (
        Clone(tmp_path / name, change=keep_only("cnn", "vgg19_pretrained")) for name in ("serial", "clone")
    )
    finished.run("dvc repro")
    check_side_by_side(clone, finished)
    finished.run(f"dvc remote add --default folder {tmp_path / 'remote'}")
    share(finished, tmp_path / "some_inputs_are_unused", "--with-deps report")
    finished.run("dvc repro --all-pipelines")
    share(finished, tmp_path / "all_inputs_are_there")


def check_side_by_side(clone: Clone, finished: Clone) -> None:
    """Run `make repro JOBS=2` in a clone: all stages, then no stage, then with a training that fails."""
    (clone.folder / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != "installed":
            (clone.folder / ".venv" / part.name).symlink_to(part)
    (clone.folder / ".venv/installed").touch()
    output = clone.run("make repro JOBS=2")
    assert "[train@cnn] cnn epoch 2/2" in output
    started = re.findall(r"\[(\S+)\] is out of date(?:; next: (.*))?", output)
    names = [name for first, others in started for name in (first, *filter(None, others.split(", ")))]
    assert len(names) == len(set(names)) == len(clone.read("dvc.lock")["stages"]) + 4  # and stages of the input
    outputs = ("data/models", "data/predictions", f"{SOURCE}/models/vgg19.safetensors", "metrics")
    assert clone.bytes_of(*outputs) == finished.bytes_of(*outputs)
    assert clone.read("dvc.lock") == finished.read("dvc.lock")
    assert "is out of date" not in clone.run("make repro JOBS=2")

    def spoil(params: dict) -> None:
        params["split"]["seed"] += 1  # inputs of the trainings are made again before they run in parallel
        params["models"]["spoilt"] = {**params["models"]["cnn"], "optimizer": "sgd", "lr": 100, "weight_decay": 100}

    clone.edit(spoil)
    output = clone.run("make repro JOBS=2", expected=2)
    assert "[train@spoilt] error: spoilt: the validation loss is nan" in output
    assert "[train@cnn] cnn epoch 1/" in output
    before, after = (each.read("dvc.lock")["stages"]["train@cnn"] for each in (finished, clone))
    assert before["outs"] != after["outs"]
