"""The pipeline as a whole: the real `dvc repro` of the real dvc.yaml, on a tiny drawn set, in a clone of its own."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.imports import ROOT

MODELS = ("cnn", "vgg16", "resnet50", "vgg19_pretrained", "resnet50_pretrained")
TRAINED = {"train@cnn", "train@vgg16", "train@resnet50", "finetune@vgg19", "finetune@resnet50"}
BELOW_ALL = {"ensemble", "report"}
BELOW_CNN = {"train@cnn", "evaluate@cnn"} | BELOW_ALL


def shrink(params: dict) -> dict:
    """Return the parameters with everything as small as it still runs."""
    params |= {"images_policy": "strict", "images_max_pixels": 10**8, "images_copy_bits": 48}
    params |= {"images": "data/flowers/images", "weights": "data/weights/drawn", "image_size_px": 32}
    params["flowers"] |= {"n_images": 520, "min_images": 5, "size_px": 32}
    params["source"] |= {"n_classes": 3, "images_per_class": 8, "size_px": 32}
    params["pack"]["stored_size_px"] = 36
    params["pretrain"] |= {"image_size_px": 32, "stored_size_px": 36, "val": 0.2}
    params["ensemble"] = {"members": list(MODELS), "voting": "fitted"}
    blocks = [params["models"][name] for name in MODELS] + [params["pretrain"][name] for name in ("vgg19", "resnet50")]
    for block in blocks:
        block |= {"epochs": 1, "rounds": 1, "phases": [], "warmup_epochs": 0, "batch_size": 128, "lr": 0.001}
        block |= {"frozen_epochs": 0} if "frozen_epochs" in block else {}
        block |= {"dense_units": 16} if "dense_units" in block else {}
    params["models"]["cnn"] |= {"filters": 4, "padding": "same"}
    params["models"]["vgg19_pretrained"]["batch_norm"] = params["pretrain"]["vgg19"]["batch_norm"]
    return params


class Clone:
    """A git clone of the working tree, with DVC set up, in which commands run as a user would run them."""

    def __init__(self, folder: Path):
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).is_file() and not name.startswith("metrics/") and not name.endswith("dvc.lock"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        self.write_params(shrink(self.read_params()))
        for command in (
            "git init -q",
            "git config user.email tests@example.org",
            "git config user.name tests",
            "git add .",
            "git commit -qm start",
        ):
            self.run(command)

    def read_params(self) -> dict:
        return yaml.safe_load((self.folder / "params.yaml").read_text(encoding="utf-8"))

    def write_params(self, params: dict) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def set_param(self, key: str, value: object) -> None:
        params = block = self.read_params()
        *parents, last = key.split(".")
        for parent in parents:
            block = block[parent]
        assert block[last] != value
        block[last] = value
        self.write_params(params)

    def run(self, command: str, expected: int = 0) -> str:
        environment = os.environ | {"DVC_NO_ANALYTICS": "1", "QUINTET_DEVICE": "cpu", "PYTHONPATH": ""}
        done = subprocess.run(
            command.split(), cwd=self.folder, env=environment, text=True, capture_output=True, check=False
        )
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout + done.stderr

    def repro(self) -> set[str]:
        """Run `dvc repro`; return the stages of which it says that they ran."""
        return set(re.findall(r"Running stage '([^']+)'", self.run("dvc repro")))

    def commit(self) -> None:
        self.run("git add .")
        self.run("git commit -qm results")

    def metric_bytes(self) -> dict[str, bytes]:
        files = [path for path in (self.folder / "metrics").rglob("*") if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the whole pipeline has run once, its results committed."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    clone.first_run = clone.repro()
    clone.commit()
    return clone


def test_the_first_run_runs_every_stage_of_the_chosen_inputs_and_no_other(clone: Clone):
    weights = {f"data/weights/drawn/dvc.yaml:{name}" for name in ("draw", "pretrain@vgg19", "pretrain@resnet50")}
    inputs = {"data/flowers/dvc.yaml:draw", *weights}
    evaluated = {f"evaluate@{name}" for name in MODELS}
    assert clone.first_run == {"check", "split", "pack", "ensemble", "report"} | TRAINED | inputs | evaluated


def test_every_model_and_the_vote_is_scored(clone: Clone):
    for name in (*MODELS, "ensemble"):
        scores = json.loads((clone.folder / "metrics" / f"{name}.json").read_text(encoding="utf-8"))
        assert 0 <= scores["accuracy"] <= 1
        assert scores["loss"] > 0
        assert 0 <= scores["f1_macro"] <= 1
    assert "vgg19.safetensors (sha256" in (clone.folder / "metrics/vgg19_pretrained.json").read_text(encoding="utf-8")


def test_the_table_names_every_model(clone: Clone):
    table = clone.run("python -m stages.reporting.score_table metrics")
    assert all(name in table for name in (*MODELS, "ensemble"))


def test_nothing_generated_is_left_for_git_but_lock_files_and_metrics(clone: Clone):
    tracked = clone.run("git ls-files").split()
    generated = [name for name in tracked if name.startswith(("data/", "metrics/")) and not name.endswith("dvc.yaml")]
    assert all(name.startswith("metrics/") or name.endswith("dvc.lock") for name in generated)
    assert clone.run("git status --short") == ""


def test_a_second_run_runs_nothing(clone: Clone):
    assert clone.repro() == set()


def test_a_comment_in_the_parameters_runs_nothing(clone: Clone):
    path = clone.folder / "params.yaml"
    path.write_text("# a comment\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert clone.repro() == set()


def test_a_learning_rate_reruns_its_model_and_what_lies_below(clone: Clone):
    clone.set_param("models.vgg16.lr", 0.000123)
    assert clone.repro() == {"check", "train@vgg16", "evaluate@vgg16", "ensemble", "report"}
    rows = clone.run("dvc metrics diff --md")
    assert "metrics/vgg16.json" in rows
    assert "metrics/ensemble.json" in rows
    assert not any(f"metrics/{name}.json" in rows for name in MODELS if name != "vgg16")


def test_the_way_to_vote_reruns_the_vote_alone(clone: Clone):
    clone.set_param("ensemble.voting", "equal")
    assert clone.repro() == {"check", "ensemble", "report"}


@pytest.mark.parametrize(
    ("leaf", "value", "expected"),
    [
        # of these, the outputs come out the same: DVC stops there
        ("images_policy", "skip", {"split"}),
        ("images_max_pixels", 10**7, {"split"}),
        ("images_copy_bits", 40, {"split"}),
        ("models.cnn.patience", 3, {"train@cnn"}),
        ("models.resnet50.sync_batch_norm", True, {"train@resnet50"}),
        # of these, another input is chosen
        ("imagenet.vgg19", "vgg19.tv_in1k", set()),
        ("imagenet.resnet50", "resnet50.tv_in1k", set()),
        ("models.cnn.dropout", 0.1, BELOW_CNN),
        ("models.vgg16.label_smoothing", 0.2, {"train@vgg16", "evaluate@vgg16", "ensemble", "report"}),
        ("models.vgg19_pretrained.backbone_lr", 1e-4, {"finetune@vgg19", "evaluate@vgg19_pretrained"} | BELOW_ALL),
        ("ensemble.members", ["cnn", "resnet50"], BELOW_ALL),
        ("ensemble.voting", "fitted", BELOW_ALL),
    ],
)
def test_a_parameter_reruns_what_its_outputs_reach_and_no_more(clone: Clone, leaf, value, expected):
    clone.set_param(leaf, value)
    assert clone.repro() == {"check"} | expected


def test_a_new_time_of_an_image_runs_nothing(clone: Clone):
    image = next((clone.folder / "data/flowers/images").rglob("*.jpg"))
    os.utime(image, (0, 0))
    assert clone.repro() == set()


def test_an_experiment_reruns_its_model_and_is_listed(clone: Clone):
    clone.commit()
    out = clone.run("dvc exp run -n slower -S models.cnn.lr=0.00001")
    assert set(re.findall(r"Running stage '([^']+)'", out)) == {"check"} | BELOW_CNN
    assert clone.read_params()["models"]["cnn"]["lr"] in (1e-05, "1e-05")  # DVC writes what YAML reads as a string
    assert "slower" in clone.run("dvc exp show --csv")
    clone.run("git checkout -q -- .")
    clone.run("dvc checkout --allow-missing")


def test_an_edited_model_file_reruns_that_model_alone(clone: Clone):
    with (clone.folder / "stages/models/cnn.py").open("a", encoding="utf-8") as file:
        file.write("# edited\n")
    # the same weights and predictions come out again, so that the vote does not run
    assert clone.repro() == {"train@cnn", "evaluate@cnn"}


def _add_image(class_folder: Path, number: int) -> str:
    """Add a picture that is like no other to a class; return its path in the image folder."""
    blots = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    path = class_folder / f"added {number}.png"
    Image.fromarray(blots).resize((40, 40)).save(path)
    return path.relative_to(class_folder.parent).as_posix()


def test_an_image_that_falls_to_the_test_split_retrains_nothing(clone: Clone):
    folder = clone.folder / "photos"
    shutil.copytree(clone.folder / "data/flowers/images", folder)
    class_folder = min(folder.iterdir())
    for number in range(6):
        _add_image(class_folder, number)
    clone.set_param("images", "photos")
    assert clone.repro() > TRAINED
    clone.commit()
    before = pd.read_csv(clone.folder / "data/manifest.csv").set_index("path")["split"]
    # 11 images are shared out 0.70 : 0.15 : 0.15 as 8, 2, 1, and 12 as 8, 2, 2
    added = _add_image(class_folder, 6)
    assert clone.repro() == {"split", "pack", *(f"evaluate@{name}" for name in MODELS)} | BELOW_ALL
    after = pd.read_csv(clone.folder / "data/manifest.csv").set_index("path")["split"]
    assert after[added] == "test"
    assert after[before.index].equals(before)
    changes = json.loads(clone.run("dvc metrics diff --json"))["metrics/dataset.json"]
    changed = {key: change["diff"] for key, change in changes.items() if change.get("diff")}
    assert changed.pop("n_bytes") == (folder / added).stat().st_size
    of_class = f"classes.{class_folder.name}"
    expected = {"n_images.test", "n_images.total", f"{of_class}.test", f"{of_class}.total", "largest_class"}
    assert {key: changed.pop(key) for key in expected} == dict.fromkeys(expected, 1)
    assert set(changed) <= {"imbalance_ratio"}


def test_a_mistaken_parameter_is_one_line_and_leaves_all_results(clone: Clone):
    before = clone.metric_bytes()
    clone.set_param("ensemble.voting", "loudest")
    out = clone.run("dvc repro", expected=255)
    assert "error: params.yaml: ensemble.voting: expected 'equal' or 'fitted', found 'loudest'" in out
    assert "Traceback" not in out
    assert clone.metric_bytes() == before
