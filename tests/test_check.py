"""The stage `check`: each mistake gives a line that names the key, and exit code 2, before any work."""

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
FLOWERS, SOURCE = "data/flowers/params.yaml", "data/weights/source/params.yaml"
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # DVC's own
TIMM = {"architecture": "timm", "weights": SCRATCH, "image_size_px": 32, "lr": 0.1}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Work in a folder with the pipelines and parameters of the repository, but without its data."""
    for path in [ROOT / "dvc.yaml", *ROOT.glob("data/*/*.yaml"), *ROOT.glob("data/*/*/*.yaml"), ROOT / SCRATCH]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(
        f"[core]\nno_scm = true\nsite_cache_dir = {tmp_path}/site\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def problems(project, monkeypatch, capsys):
    """Return a function that runs the stage on changed parameters, and returns its lines."""

    def run(**changes) -> list[str]:
        write_params(Path("params.yaml"), **changes)
        monkeypatch.setattr(sys, "argv", ["check", "data/params.checked", "params.yaml", FLOWERS, SOURCE])
        Path("data/params.checked").unlink(missing_ok=True)
        code = 0
        try:
            exit_cleanly(check.main)
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        assert code == (2 if said.err else 0)
        assert Path("data/params.checked").exists() == (code == 0)
        assert all(line.startswith("error: ") for line in said.err.splitlines())
        return [line.removeprefix("error: ").removeprefix("params.yaml: ") for line in said.err.splitlines()]

    return run


MISTAKES = {
    "what the reader refuses, in several places": (
        {"models__cnn__lr": "abc", "augment": MISSING},
        ["augment", "models.cnn.lr"],
    ),
    "no audit, which only an input may lack": ({"audit": MISSING}, ["audit"]),
    "an audit by what learnt the labels": ({"audit__weights": "data/models/resnet50.safetensors"}, ["audit.weights"]),
    "an audit by what learnt nothing": ({"audit__weights": SCRATCH}, ["audit.weights"]),
    "an audit by what learnt from the same folder": ({"images": "data/weights/source/images"}, ["audit.weights"]),
    "no such images": ({"images": "nowhere"}, ["images"]),
    "no vote, which only an input may lack": ({"ensemble": MISSING}, ["ensemble"]),
    "a typo below an input that draws": ({"images": "data/flowers/image"}, ["images"]),
    "a typo below an input that trains": (
        {"models__cnn__weights": "data/weights/source/models/vgg91.safetensors"},
        ["models.cnn.weights"],
    ),
    "weights that are nowhere": ({"models__cnn__weights": "mine.safetensors"}, ["models.cnn.weights"]),
    "an input's weights, spelt wrong": (
        {
            "models__cnn__weights": "data/weights/packaged/tf_efficientnet_lite.safetensors",
            "models__vgg16__weights": "data/weights/source/models/vgg91.safetensors",
        },
        ["models.cnn.weights", "models.vgg16.weights"],
    ),
    "images too small for VGG": (
        {"image_sizes_px": [32, 31], "models__vgg16__image_size_px": 31, "models__resnet50__image_size_px": 31},
        ["models.vgg16"],
    ),
    "a head of several layers as a logistic regression": (
        {"training__head_start": "logistic_regression", "training__frozen_views": 1},
        ["models.cnn.dense_units", "models.vgg16.dense_units", "models.vgg19_pretrained.dense_units"],
    ),
    "valid padding at 32 px": ({"models__cnn__padding": "valid"}, ["models.cnn"]),
    "no network of timm's": ({"models__seventh": {**TIMM, "network": "resnet81"}}, ["models.seventh"]),
    "no weights of timm's": ({"models__seventh": {**TIMM, "network": "resnet18.a1_in2k"}}, ["models.seventh"]),
    "a network without stochastic depth": (
        {"models__seventh": {**TIMM, "network": "vgg11", "drop_path": 0.1}},
        ["models.seventh"],
    ),
    "a model called as the vote is": ({"models__ensemble": {**TIMM, "network": "resnet18"}}, ["models.ensemble"]),
    "patches that do not fit": (
        {
            "image_sizes_px": [32, 34],
            "models__seventh": {**TIMM, "network": "vit_tiny_patch16_224", "image_size_px": 34},
        },
        ["models.seventh"],
    ),
    "frozen layers that the backbone lacks": (
        {"models__resnet50__frozen_layers": ["layer1", "layer1.9", "blocks"]},
        ["models.resnet50.frozen_layers", "models.resnet50.frozen_layers"],
    ),
    "several at once": (
        {"images": "nowhere", "models__cnn__padding": "valid", "models__cnn__weights": "mine.safetensors"},
        ["images", "models.cnn", "models.cnn.weights"],
    ),
}


@pytest.mark.parametrize(("changes", "keys"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_line_that_names_the_key(problems, changes, keys):
    assert sorted(line.partition(":")[0] for line in problems(**changes)) == keys


@pytest.mark.parametrize(
    ("size_px", "block"),
    [
        (32, {"network": "test_vit"}),
        (33, {"network": "test_resnet"}),
        (32, {"network": "xcit_nano_12_p8_224"}),
        (32, {"network": "pvt_v2_b0"}),  # windows of 7 px that overlap
        (34, {"network": "convnext_atto"}),  # its patches leave out 2 px, as other convolutions do
        (32, {"network": "resnet18", "drop_path": 0.1}),
    ],
)
def test_a_network_of_timms_is_let_through_at_a_size_that_it_can_look_at(problems, size_px, block):
    sizes_px = sorted({32, size_px})
    assert problems(image_sizes_px=sizes_px, models__seventh={**TIMM, "image_size_px": size_px, **block}) == []


@pytest.mark.parametrize("starts", [{"cnn": "cnn"}, {"cnn": "vgg16", "vgg16": "cnn"}, {"vgg16": "nobody"}])
def test_models_that_start_from_each_other_or_from_none_are_one_mistake(problems, starts):
    changes = {f"models__{name}__weights": f"data/models/{other}.safetensors" for name, other in starts.items()}
    Path("data/models").mkdir()
    Path("data/models/cnn.safetensors").touch()  # from an earlier run
    assert len(problems(**changes)) == 1


@pytest.mark.parametrize(
    ("start", "n_problems"),
    [("data/models/vgg19.safetensors", 1), ("data/models/cnn.safetensors", 0)],
)
def test_an_input_starts_from_what_any_pipeline_makes(problems, start, n_problems):
    text = Path(SOURCE).read_text(encoding="utf-8")
    Path(SOURCE).write_text(text.replace(SCRATCH, start, 1), encoding="utf-8")
    assert len(problems()) == n_problems


def test_an_audit_by_what_started_from_a_member_is_refused_however_far_back(problems):
    text = Path(SOURCE).read_text(encoding="utf-8")
    chain = text.replace(SCRATCH, "data/models/cnn.safetensors", 1)  # for vgg19; resnet50 then starts from vgg19
    Path(SOURCE).write_text(chain.replace(SCRATCH, "data/weights/source/models/vgg19.safetensors", 1), encoding="utf-8")
    (said,) = problems()
    assert said.startswith("audit.weights: ")
    assert "data/models/cnn.safetensors" in said


def test_an_input_that_is_switched_off_is_told_how_to_switch_on(problems):
    path, name = Path("data/weights/timm/params.yaml"), "resnet50.a1_in1k"
    weights = {"models__cnn__weights": f"data/weights/timm/{name}.safetensors"}
    (said,) = problems(**weights)
    assert f"add {name} to `fetch` in {path}" in said
    path.write_text(f"fetch: [{name}]", encoding="utf-8")
    assert problems(**weights) == []


def test_a_folder_that_is_missing_is_no_switch_and_an_experiment_is_told_of_its_copy(problems, monkeypatch):
    (said,) = problems(images="photos")
    assert said.endswith("found nothing: photos")
    monkeypatch.setenv("DVC_EXP_NAME", "muggy-hock")
    (said,) = problems(images="photos")
    assert "dvc add" in said


def test_what_is_there_or_will_be_made_is_let_through(problems):
    Path("a folder").mkdir()
    Path("mine.dvc").write_text("outs: [{path: mine}]", encoding="utf-8")
    assert problems(images="a folder") == problems(images="mine/images") == problems(images=str(ROOT / "docs")) == []
    assert problems(models__cnn__weights="data/models/vgg16.safetensors") == []
    assert problems(models__cnn__weights="data/weights/packaged/tf_efficientnet_lite0.safetensors") == []
    Path("mine.safetensors").touch()
    assert problems(models__cnn__weights="mine.safetensors") == []
    assert [line.partition(":")[0] for line in problems(images="mine.safetensors")] == ["images"]


def test_files_that_an_experiment_would_commit_to_git_are_named_and_what_is_ignored_or_of_dvc_is_not(
    project, monkeypatch, capsys
):
    for path in ("my photos/rose/1.jpg", "data/photos/rose/1.jpg", "mine.safetensors"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    shutil.copy(ROOT / ".gitignore", ".gitignore")
    for command in ("git init -q", f"git add {SCRATCH}"):
        subprocess.run(command.split(), check=True)
    monkeypatch.setattr(sys, "argv", ["check", "data/params.checked", "params.yaml", FLOWERS, SOURCE])

    def named(**changes) -> list[str]:
        write_params(Path("params.yaml"), **changes)
        check.main()
        return re.findall(r"^check: params\.yaml: ([\w.]+): ", capsys.readouterr().out, re.MULTILINE)

    both = {"images": "my photos", "models__cnn__weights": "mine.safetensors"}
    assert named(**both, audit__weights="mine.safetensors") == ["images", "models.cnn.weights", "audit.weights"]
    assert named() == named(images="data/photos") == named(images=str(ROOT / "docs")) == []
    Path("link").symlink_to("my photos")
    assert named(images="link") == []  # git would track only the link
    Path("my photos.dvc").write_text("outs: [{path: my photos}]", encoding="utf-8")
    assert named(**both) == ["models.cnn.weights"]


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
