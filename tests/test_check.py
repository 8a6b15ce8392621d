"""The stage `check`: mistakes made on purpose each give a line that names the key, and exit code 2, before any work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages import check
from stages.runtime.process import exit_cleanly
from tests.parameters import MISSING, write_params
from tests.repository import ROOT

SCRATCH = "data/weights/scratch"
TIMM = {"architecture": "timm", "weights": SCRATCH, "lr": 0.1}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Work in a folder with the repository's pipelines and parameters, and none of its data."""
    for path in [ROOT / "dvc.yaml", *ROOT.glob("data/*/*.yaml"), *ROOT.glob("data/*/*/*.yaml"), ROOT / SCRATCH]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def problems(project, monkeypatch, capsys):
    """Return a function that runs the stage on changed parameters, and gives what is said of them, a line each."""

    def run(**changes) -> list[str]:
        write_params(Path("params.yaml"), **changes)
        monkeypatch.setattr(sys, "argv", ["check", "data/params.checked", "params.yaml", "data/flowers/params.yaml"])
        Path("data/params.checked").unlink(missing_ok=True)
        code = 0
        try:
            exit_cleanly(check.main)
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        assert code == (2 if said.err else 0)
        assert Path("data/params.checked").exists() == (code == 0)
        assert all(line.startswith("error: params.yaml: ") for line in said.err.splitlines())
        return [line.removeprefix("error: params.yaml: ") for line in said.err.splitlines()]

    return run


MISTAKES = {
    "no such images": ({"images": "nowhere"}, ["images"]),
    "no number": ({"models__cnn__lr": "abc"}, ["models.cnn.lr"]),
    "an unknown key": ({"models__cnn__filtres": 3}, ["models.cnn.filtres"]),
    "negative epochs": ({"models__cnn__epochs": -3}, ["models.cnn.epochs"]),
    "shares that sum to 1.2": ({"split__train": 0.9}, ["split"]),
    "an unknown architecture": ({"models__cnn__architecture": "vit"}, ["models.cnn.architecture"]),
    "a block that is missing": ({"augment": MISSING}, ["augment"]),
    "no vote, which only an input may lack": ({"ensemble": MISSING}, ["ensemble"]),
    "a typo in training": ({"training__optimiser": "adam"}, ["training.optimiser"]),
    "weights that are nowhere": ({"models__cnn__weights": "mine.safetensors"}, ["models.cnn.weights"]),
    "an input's weights, spelt wrong": (
        {
            "models__cnn__weights": "data/weights/packaged/tf_efficientnet_lite.safetensors",
            "models__vgg16__weights": "data/weights/source/models/vgg91.safetensors",
        },
        ["models.cnn.weights", "models.vgg16.weights"],
    ),
    "a folder for weights": (
        {"models__cnn__weights": "/", "models__vgg16__weights": "."},
        ["models.cnn.weights", "models.vgg16.weights"],
    ),
    "images too small for VGG": ({"image_size_px": 31}, ["models.vgg16", "models.vgg19_pretrained"]),
    "valid padding at 32 px": ({"models__cnn__padding": "valid"}, ["models.cnn"]),
    "no network of timm's": ({"models__seventh": {**TIMM, "network": "resnet81"}}, ["models.seventh"]),
    "no weights of timm's": ({"models__seventh": {**TIMM, "network": "resnet18.a1_in2k"}}, ["models.seventh"]),
    "a model called as the vote is": ({"models__ensemble": {**TIMM, "network": "resnet18"}}, ["models.ensemble"]),
    "patches that do not fit": (
        {
            "pack__stored_size_px": 40,
            "image_size_px": 40,
            "models__seventh": {**TIMM, "network": "vit_tiny_patch16_224"},
        },
        ["models.seventh"],
    ),
    "several at once": (
        {"images": "nowhere", "image_size_px": 31, "models__cnn__weights": "mine.safetensors"},
        ["images", "models.cnn.weights", "models.vgg16", "models.vgg19_pretrained"],
    ),
}


@pytest.mark.parametrize(("changes", "keys"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_line_that_names_the_key(problems, changes, keys):
    assert sorted(line.partition(":")[0] for line in problems(**changes)) == keys


def test_a_key_that_stands_there_twice_is_named(problems, project, monkeypatch):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("    lr: 0.002\n", 2 * "    lr: 0.002\n", 1)
    monkeypatch.setattr("tests.test_check.write_params", lambda path: path.write_text(text, encoding="utf-8"))
    (said,) = problems()
    assert 'duplicate key "lr"' in said


def test_a_stochastic_depth_that_a_network_does_not_have_is_a_mistake(problems):
    assert problems(models__seventh={**TIMM, "network": "resnet18", "drop_path": 0.1}) == []
    (said,) = problems(models__seventh={**TIMM, "network": "vgg11", "drop_path": 0.1})
    assert said.startswith("models.seventh: ")


@pytest.mark.parametrize(("network", "size_px"), [("test_vit", 32), ("test_resnet", 33), ("xcit_nano_12_p8_224", 32)])
def test_a_network_of_timms_is_let_through_at_a_size_that_it_can_look_at(problems, network, size_px):
    assert problems(image_size_px=size_px, models__seventh={**TIMM, "network": network}) == []


def test_an_input_that_is_switched_off_is_told_how_to_switch_on(problems):
    path, name = Path("data/weights/timm/params.yaml"), "resnet50.a1_in1k"
    weights = {"models__cnn__weights": f"data/weights/timm/{name}.safetensors"}
    (said,) = problems(**weights)
    assert f"add {name} to `fetch` in {path}" in said
    path.write_text(f"fetch: [{name}]", encoding="utf-8")
    assert problems(**weights) == []


def test_what_is_there_or_will_be_made_is_let_through(problems):
    Path("a folder").mkdir()
    Path("mine.dvc").touch()
    assert problems(images="a folder") == problems(images="mine/images") == problems(images="/") == []
    assert problems(models__cnn__weights="data/models/vgg16.safetensors") == []
    assert problems(models__cnn__weights="data/weights/packaged/tf_efficientnet_lite0.safetensors") == []
    Path("data/mine").mkdir()
    Path("data/mine/dvc.yaml").write_text("stages: {make: {matrix: {n: [1]}, outs: ['${item.n}.d': {cache: false}]}}")
    assert problems(models__cnn__weights="data/mine/1.d/weights.safetensors") == []
    Path("mine.safetensors").touch()
    assert problems(models__cnn__weights="mine.safetensors") == []
    assert [line.partition(":")[0] for line in problems(images="mine.safetensors")] == ["images"]


def test_the_ordinary_case_imports_nothing_slow(project):
    write_params(Path("params.yaml"))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "stages.check", "data/params.checked", "params.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        check=True,
    )
    imported = set(re.findall(r"\|\s+(\w+)\s*$", done.stderr, re.MULTILINE))
    assert {"stages", "ruamel", "pydantic"} <= imported
    assert not imported & {"torch", "torchvision", "timm", "pandas", "numpy", "PIL", "sklearn", "scipy", "matplotlib"}
