"""The stage `check`, as DVC runs it: what is right is let through at once, and every mistake is a line."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import save_file

from stages.check import LAST_CONVOLUTIONS, read_tensor_names
from stages.models import resnet50_pretrained, vgg19_pretrained
from stages.runtime.errors import UserError
from tests.imports import ROOT

BASE = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PIPELINES = [
    ROOT / "dvc.yaml",
    *sorted((ROOT / "data").glob("*/dvc.yaml")),
    *sorted((ROOT / "data").glob("*/*/dvc.yaml")),
]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]
CHECKED = Path("data/params.checked")
MODEL = "def build_model(n_classes, image_size_px, *, width, depth=3):\n    return None\n"


class Project:
    """A folder with the pipelines and parameters of the repository, and none of its data."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.params = copy.deepcopy(BASE)
        self.python_path = ROOT
        for file in PIPELINES:
            (folder / file.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file.relative_to(ROOT))

    def run(self, *options: str, **environment: str) -> subprocess.CompletedProcess:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params), encoding="utf-8")
        return self.run_as_it_is(*options, **environment)

    def run_as_it_is(self, *options: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *options, "-m", "stages.check", str(CHECKED)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.python_path), **environment},
            text=True,
            capture_output=True,
            check=False,
        )

    def refused(self, **environment: str) -> list[str]:
        """Run the stage, which has to refuse the parameters; return what it says of them, a line each."""
        return self.lines_of(self.run(**environment))

    def lines_of(self, done: subprocess.CompletedProcess) -> list[str]:
        assert done.returncode == 2, done.stderr
        assert done.stdout == ""
        assert not (self.folder / CHECKED).exists()
        lines = done.stderr.splitlines()
        assert [line for line in lines if not line.startswith("error: params.yaml: ")] == []
        return [line.removeprefix("error: params.yaml: ") for line in lines]

    def passes(self, **environment: str) -> str:
        """Run the stage, which has to let the parameters through; return what it writes."""
        done = self.run(**environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return (self.folder / CHECKED).read_text(encoding="utf-8")

    def own_code(self) -> Path:
        """Give the folder the code too, for a sixth model; return the folder of models."""
        shutil.copytree(ROOT / "stages", self.folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
        self.python_path = self.folder
        return self.folder / "stages" / "models"

    def train_also(self, name: str) -> None:
        path = self.folder / "dvc.yaml"
        stages = yaml.safe_load(path.read_text(encoding="utf-8"))
        stages["stages"]["train"]["matrix"]["model"].append(name)
        path.write_text(yaml.safe_dump(stages), encoding="utf-8")


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


def _write_weights(folder: Path, backbone: str, *, batch_norm: bool, last: str | None = None) -> Path:
    """Write a file with as much of a backbone's weights as is looked at."""
    folder.mkdir(exist_ok=True)
    tensors = {last or LAST_CONVOLUTIONS[backbone][batch_norm]: np.zeros((2, 3), np.float32)}
    if batch_norm:
        tensors["bn1.running_mean"] = np.zeros(2, np.float32)
    save_file(tensors, folder / f"{backbone}.safetensors", metadata={"source": "a test"})
    return folder / f"{backbone}.safetensors"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_committed_parameter_file_passes(project, path):
    shutil.copy(path, project.folder / "params.yaml")
    done = project.run_as_it_is()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_written_is_the_same_for_all_right_parameters(project):
    first = project.passes()
    project.params |= {"seed": 7, "image_size_px": 36, "images": "/"}
    project.params["models"]["cnn"]["lr"] = 0.5
    assert project.passes() == first


def test_the_ordinary_case_imports_nothing_slow(project):
    done = project.run("-X", "importtime")
    assert done.returncode == 0
    imported = set(re.findall(r"\|\s+(\w+)\s*$", done.stderr, re.M))
    assert {"stages", "yaml", "pydantic"} <= imported
    assert not imported & {"torch", "torchvision", "timm", "pandas", "numpy", "PIL", "sklearn", "scipy", "matplotlib"}


def test_all_mistakes_are_named_at_once_a_line_each(project):
    project.params |= {"seed": -1, "images": "nowhere", "weights": "nowhere", "image_size_px": 31}
    project.params["models"]["cnn"]["lr"] = "fast"
    project.params["split"]["trian"] = 0.7
    project.params["ensemble"]["members"].append("resnet05")
    del project.params["augment"]["flip"], project.params["models"]["resnet50"]
    beginnings = (
        "models.cnn.lr: expected a number from 1e-12 to 100, found 'fast'",
        "seed: expected a whole number from 0 to 4294967295, found -1",
        "split.trian: unknown key; did you mean 'train'?",
        "augment.flip: missing key; expected true or false",
        "image_size_px is 31, but models.vgg16 needs",
        "image_size_px is 31, but models.vgg19_pretrained needs",
        "ensemble.members: unknown model 'resnet50'",
        "ensemble.members: unknown model 'resnet05'",
        "images: expected a folder",
        "weights: expected a folder",
        "models.resnet50: missing key; dvc.yaml has a stage for it",
    )
    said = project.refused()
    assert [beginning for beginning in beginnings if not any(line.startswith(beginning) for line in said)] == []
    assert len(said) == len(beginnings)


def test_a_mistake_leaves_what_was_written_before(project):
    first = project.passes()
    project.params["seed"] = -1
    assert project.run().returncode == 2
    assert (project.folder / CHECKED).read_text(encoding="utf-8") == first


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file; run from the repository's root"),
        (b"", "expected a mapping of parameters, found nothing"),
        (b"- seed", "expected a mapping of parameters, found ['seed']"),
        (b"seed: [1", "not a YAML file: line 1, column 9: while parsing a flow sequence expected ',' or ']'"),
        (b"seed: \xff", "not a YAML file: byte 7 (0xff) is not UTF-8; save it as UTF-8"),
        (b"seed: !!python/object/apply:os.getcwd []", "not a YAML file: line 1, column 7: could not determine a cons"),
    ],
    ids=["missing", "empty", "a list", "an open bracket", "not UTF-8", "a tag of Python's"],
)
def test_a_file_that_is_none_of_parameters_is_one_line(project, content, says):
    if content is not None:
        (project.folder / "params.yaml").write_bytes(content)
    (said,) = project.lines_of(project.run_as_it_is())
    assert said.startswith(says)


def test_a_folder_in_the_files_place_is_one_line(project):
    (project.folder / "params.yaml").mkdir()
    assert project.lines_of(project.run_as_it_is()) == [
        "expected a file, found a folder; run from the repository's root"
    ]


def test_a_key_that_stands_there_twice_is_one_line(project):
    text = yaml.safe_dump(project.params)
    (project.folder / "params.yaml").write_text(f"seed: 3\n{text}", encoding="utf-8")
    line = f"seed: {BASE['seed']}"
    second = text.splitlines().index(line) + 2
    said = project.lines_of(project.run_as_it_is())
    assert said == [f"seed: stands there 2 times, in lines 1 and {second}; keep one"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_one_line(project):
    project.run()
    (project.folder / "params.yaml").chmod(0)
    done = project.run_as_it_is()
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: params.yaml: Permission denied; give permission, and run again"]


@pytest.mark.parametrize("images", ["data/oxford102/images", "./data/flowers/images/", "data/flowers/images/rose"])
def test_images_that_a_pipeline_makes_need_not_be_there(project, images):
    project.params["images"] = images
    project.passes()


def test_images_that_dvc_add_tracks_need_not_be_there(project):
    project.params["images"] = "data/mine/images"
    (project.folder / "data/mine.dvc").write_text("outs:\n- path: mine\n", encoding="utf-8")
    project.passes()


def test_any_folder_is_taken_as_images(project):
    images = project.folder / "a folder" / '花 "x" $HOME'
    images.mkdir(parents=True)
    project.params["images"] = str(images)
    project.passes()


@pytest.mark.parametrize("images", ["data/flower/images", "data/flowers/images.csv", "x" * 900])
def test_images_that_are_nowhere_name_the_place_and_the_pipelines(project, images):
    project.params["images"] = images
    assert project.refused() == [
        "images: expected a folder that is there, or one that a pipeline makes "
        "(data/flowers/images, data/oxford102/images, data/weights/drawn/images), "
        f"found nothing: {images!r} in {str(project.folder)!r}"
    ]


def test_a_home_folder_is_to_be_written_out(project):
    project.params["images"] = "~/flowers"
    (said,) = project.refused(HOME="/home/me")
    assert said.endswith("found nothing: '~/flowers'; write the home folder out: '/home/me/flowers'")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("labels.csv", "name the folder that holds labels.csv"), ("flowers.zip", "name the folder it is in")],
)
def test_a_file_in_place_of_the_images_is_told_to_be_none(project, name, remedy):
    (project.folder / name).touch()
    project.params["images"] = str(project.folder / name)
    (said,) = project.refused()
    assert said.endswith(f"found a file: {str(project.folder / name)!r}; {remedy}: {str(project.folder)!r}")


@pytest.mark.parametrize("path", ["it's", "-x", "a\nb"])
def test_a_path_that_would_break_the_commands_is_one_line(project, path):
    project.params |= {"images": path, "weights": path}
    says = "expected the path of a folder, no ' or line break in it, no - before it, and 1000 characters at most, since"
    assert project.refused() == [
        f"{key}: {says} it stands in the commands of dvc.yaml, found {path!r}" for key in ("images", "weights")
    ]


def test_own_weights_are_taken(project):
    folder = project.folder / "mine"
    for backbone in LAST_CONVOLUTIONS:
        _write_weights(folder, backbone, batch_norm=True)
    project.params["weights"] = "mine"
    project.passes()


def test_weights_that_dvc_add_tracks_need_not_be_there(project):
    _write_weights(project.folder / "mine", "vgg19", batch_norm=True)
    (project.folder / "mine/resnet50.safetensors.dvc").write_text("outs: []\n", encoding="utf-8")
    project.params["weights"] = "mine"
    project.passes()


@pytest.mark.parametrize("weights", ["data/weights/drawm", "data/weights/drawn/vgg19.safetensors"])
def test_weights_that_are_nowhere_name_the_pipelines(project, weights):
    project.params["weights"] = weights
    (said,) = project.refused()
    assert "that a pipeline fills (data/weights/drawn, data/weights/imagenet), found nothing: " in said


def test_a_file_of_weights_is_told_to_be_no_folder(project):
    path = _write_weights(project.folder / "mine", "vgg19", batch_norm=True)
    project.params["weights"] = str(path)
    (said,) = project.refused()
    assert said.endswith(f"found a file: {str(path)!r}; name the folder it is in: {str(path.parent)!r}")


def test_weights_that_lack_a_file_name_it(project):
    _write_weights(project.folder / "mine", "vgg19", batch_norm=True)
    project.params["weights"] = "mine"
    assert project.refused() == ["weights: mine/resnet50.safetensors: expected a file, found nothing"]


def test_weights_of_the_other_network_are_told_apart(project):
    folder = project.folder / "mine"
    for backbone, other in (("vgg19", "resnet50"), ("resnet50", "vgg19")):
        _write_weights(folder, backbone, batch_norm=True, last=LAST_CONVOLUTIONS[other][True])
    project.params["weights"] = "mine"
    assert project.refused() == [
        "weights: mine/vgg19.safetensors: no weights of vgg19, which have features.49.weight; choose others",
        "weights: mine/resnet50.safetensors: no weights of resnet50, which have layer4.2.conv3.weight; choose others",
    ]


@pytest.mark.parametrize("in_file", [True, False])
def test_own_weights_with_another_batch_normalisation_name_the_parameter(project, in_file):
    folder = project.folder / "mine"
    _write_weights(folder, "vgg19", batch_norm=in_file)
    _write_weights(folder, "resnet50", batch_norm=in_file)
    project.params["weights"] = "mine"
    project.params["models"]["vgg19_pretrained"]["batch_norm"] = not in_file
    has, word = ("has batch", "true") if in_file else ("has no batch", "false")
    remedy = f"set models.vgg19_pretrained.batch_norm to {word}, or choose other weights"
    said = [f"weights: mine/vgg19.safetensors: {has} normalisation; {remedy}"]
    if not in_file:
        said.append("weights: mine/resnet50.safetensors: has no batch normalisation; choose other weights")
    assert project.refused() == said


def _with_header(header: Any, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no weights at all",
        _with_header({"a": 1}, length=2**63),
        _with_header([]),
        _with_header({}),
        _with_header({"a": 1}),
        _with_header({"a": {"data_offsets": ["x", "y"]}}),
        _with_header({"a": {}}),
        b"\xff\0\0\0\0\0\0\0" + b"[" * 255,
    ],
)
def test_a_file_that_is_no_safetensors_is_told_to_be_none(tmp_path, content):
    (tmp_path / "vgg19.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"vgg19\.safetensors: not a safetensors file; choose other weights"):
        read_tensor_names(tmp_path / "vgg19.safetensors")


def test_weights_that_are_cut_short_name_both_sizes(project):
    _write_weights(project.folder / "mine", "resnet50", batch_norm=True)
    path = _write_weights(project.folder / "mine", "vgg19", batch_norm=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    project.params["weights"] = "mine"
    says = f"expected {len(whole)} bytes, found {len(whole) - 1}; copy it anew"
    assert project.refused() == [f"weights: mine/vgg19.safetensors: {says}"]


def test_the_last_convolutions_are_those_of_the_networks():
    with torch.device("meta"):
        networks = {
            ("vgg19", norm): vgg19_pretrained.build_model(2, 32, batch_norm=norm, dense_units=1, dropout=0)
            for norm in (False, True)
        }
        networks |= dict.fromkeys([("resnet50", False), ("resnet50", True)], resnet50_pretrained.build_model(2, 32))
    for (backbone, norm), network in networks.items():
        convolutions = [name for name, each in network.backbone.named_modules() if isinstance(each, torch.nn.Conv2d)]
        assert LAST_CONVOLUTIONS[backbone][norm] == f"{convolutions[-1]}.weight"


def test_a_name_that_timm_does_not_have_is_one_line_with_the_nearest(project):
    project.params["weights"] = "data/weights/imagenet"
    project.params["imagenet"]["resnet50"] = "resnet50.a1_in2k"
    (said,) = project.refused()
    assert said == (
        "imagenet.resnet50: expected one of timm.list_pretrained(), found 'resnet50.a1_in2k'; "
        "did you mean 'resnet50.a1_in1k'?"
    )


def test_timm_is_not_asked_for_names_that_are_not_used(project):
    project.params["imagenet"]["resnet50"] = "resnet50.a1_in2k"
    project.passes()


def test_a_model_that_dvc_yaml_trains_may_not_be_missing(project):
    del project.params["models"]["cnn"]
    project.params["ensemble"]["members"].remove("cnn")
    (said,) = project.refused()
    assert said.startswith("models.cnn: missing key; dvc.yaml has a stage for it")


@pytest.fixture
def sixth(project) -> dict[str, Any]:
    """The settings of a sixth model, whose file and stage are there."""
    (project.own_code() / "tiny.py").write_text(MODEL, encoding="utf-8")
    project.train_also("tiny")
    settings = {**project.params["models"]["resnet50"], "width": 4}
    project.params["models"]["tiny"] = settings
    return settings


def test_a_sixth_model_is_taken(project, sixth):
    project.passes()
    sixth["depth"] = 1
    project.passes()


def test_a_sixth_models_keys_are_the_arguments_of_its_build_model(project, sixth):
    sixth["widht"] = sixth.pop("width")
    file = "stages/models/tiny.py"
    assert project.refused() == [
        f"models.tiny.widht: unknown key; did you mean 'width'?; build_model in {file} has no such argument",
        f"models.tiny.width: missing key; build_model in {file} needs it",
    ]


def test_a_sixth_model_that_takes_anything_may_have_any_key(project, sixth):
    text = MODEL.replace("depth=3", "**rest")
    (project.folder / "stages/models/tiny.py").write_text(text, encoding="utf-8")
    sixth["colour"] = 1
    project.passes()


@pytest.mark.parametrize("content", ["", "def build_model(:\n", "import no_such_package\n"])
def test_a_sixth_model_without_a_network_is_one_line(project, sixth, content):
    (project.folder / "stages/models/tiny.py").write_text(content, encoding="utf-8")
    (said,) = project.refused()
    assert said.startswith("models.tiny: no build_model in stages/models/tiny.py (")


def test_a_sixth_model_that_no_stage_trains_is_one_line(project, sixth):
    shutil.copy(ROOT / "dvc.yaml", project.folder / "dvc.yaml")
    assert project.refused() == ["models.tiny: no stage of dvc.yaml trains it; add it to the matrix of `train` there"]


@pytest.mark.parametrize("name", ["__init__", "../train", "tyni"])
def test_a_model_without_a_file_is_unknown(project, sixth, name):
    project.params["models"][name] = project.params["models"].pop("tiny")
    (said,) = [line for line in project.refused() if not line.startswith("models.tiny: missing key")]
    assert re.match(rf"models\.'?{re.escape(name)}'?: unknown model; expected one of: cnn, vgg16, ", said)


def test_compiling_without_a_compiler_is_one_line_for_each_network(project):
    project.params["models"]["cnn"]["compile"] = "default"
    project.params["pretrain"]["vgg19"]["compile"] = "reduce-overhead"
    assert project.refused(PATH="") == [
        "models.cnn.compile is 'default', but no compiler is here; install g++, or set it to 'none'",
        "pretrain.vgg19.compile is 'reduce-overhead', but no compiler is here; install g++, or set it to 'none'",
    ]
    project.passes(PATH="", CXX="/opt/g++")


@pytest.mark.parametrize("content", ["stages: [1", "- 1", "stages: 3", "stages: {train: 3}"])
def test_a_broken_pipeline_is_one_line(project, content):
    (project.folder / "dvc.yaml").write_text(content, encoding="utf-8")
    done = project.run()
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith("error: dvc.yaml: no pipeline of DVC (")
