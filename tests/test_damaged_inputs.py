"""Each input file of evaluate, ensemble, report and train, damaged in every way: one line names it, and what mends it.

The stages run in this process, as `python -m` runs them: to import torch for each would take minutes.
"""

import functools
import importlib
import itertools
import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from stages.networks.model_files import ModelCard, build_network, save_weights
from stages.runtime.process import exit_cleanly
from stages.scoring.predictions import read_predictions, write_predictions
from stages.settings.reading import read_config
from stages.training.history import COLUMNS, write_history
from tests.imports import ROOT
from tests.test_pipeline import shrink

NAMES = ["aster", "iris", "rose"]
FRACTIONS = {"train": 0.4, "val": 0.2, "test": 0.4}  # of five images a class
COUNTS = {"train": 6, "val": 3, "test": 6}
MODELS = ["cnn", "vgg19_pretrained"]
NETWORK = {"filters": 4, "padding": "same", "dense_units": 16, "dropout": 0.5}
CARD = ModelCard("cnn", NETWORK, NAMES, image_size_px=32, start="scratch")
MODEL, WEIGHTS = "data/models/cnn.safetensors", "data/weights/drawn/vgg19.safetensors"
TABLES = ("per_class.csv", "confusion.csv", "confusion.png")
READ_ONCE = functools.cache(read_config)  # a fifth of a second each time, and params.yaml is the same in all tests


def read_pipeline() -> dict[str, tuple[list[str], list[str]]]:
    """Return the command and the outputs of each stage of dvc.yaml; of a matrix, those of the small CNN."""
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    for name, value in {"images": "photos", "weights": "data/weights/drawn", "item.model": "cnn"}.items():
        text = text.replace(f"${{{name}}}", value)
    stages = {
        name: (
            shlex.split(stage["cmd"])[2:],
            [next(iter(out)) if isinstance(out, dict) else out for out in stage["outs"] + stage.get("metrics", [])],
        )
        for name, stage in yaml.safe_load(text)["stages"].items()
    }
    # the small CNN here, too: a real backbone takes a second to build
    return stages | {"finetune": ([*stages["train"][0], "--backbone", WEIGHTS], stages["train"][1])}


PIPELINE = read_pipeline()


def run_stage(stage: str, command: list[str] | None = None) -> None:
    """Run a stage in this process and this folder, with the command of dvc.yaml if no other is given."""
    name, *arguments = command or PIPELINE[stage][0]
    module = importlib.import_module(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [name, *arguments])
        patch.setenv("QUINTET_DEVICE", "cpu")
        if hasattr(module, "read_config"):
            patch.setattr(module, "read_config", READ_ONCE)
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # networks this small lose time with more
        try:
            exit_cleanly(module.main)
        finally:
            torch.set_num_threads(n_threads)


def make_world() -> None:
    """Fill this folder with a pipeline of two models and 15 images, in which every stage but train and check has run.

    The results of the second model are copies of the first one's.
    """
    params = shrink(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
    params |= {"images": "photos", "split": {"seed": 1, **FRACTIONS}}
    params["ensemble"]["members"] = MODELS
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    rng = np.random.default_rng(1)
    for name, number in itertools.product(NAMES, range(5)):
        Path("photos", name).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(Path("photos", name, f"{number}.png"))
    torch.manual_seed(1)
    network = build_network(CARD)
    save_weights(Path(MODEL), network.state_dict(), asdict(CARD))
    save_weights(Path(WEIGHTS), network.backbone.state_dict(), {})
    for pipeline in (ROOT / "data").rglob("dvc.yaml"):
        Path(pipeline.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pipeline, pipeline.relative_to(ROOT))
    for name in MODELS:
        first = dict(zip(COLUMNS, (1, 1, 0.1, 1.5, 0.5, 1.0, 0.5, 1), strict=True))
        write_history(Path("metrics", name, "history.csv"), [first, {**first, "epoch": 2, "best": 0}])
    for stage in ("split", "pack", "evaluate"):
        run_stage(stage)
    for path in ("data/predictions/{}.npz", "metrics/{}.json", *(f"metrics/{{}}/{table}" for table in TABLES)):
        shutil.copy(path.format(MODELS[0]), path.format(MODELS[1]))
    for stage in ("ensemble", "report"):
        run_stage(stage)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage but train and check has run."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_world()
    return folder


@pytest.fixture
def world(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the whole folder, but for its images, in which the test runs."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("photos"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


def assert_refused(stage: str, path: str, mends: str, capfd, words: str = "expected .*found ") -> None:
    """Run the stage: it says on one line what is wrong with `path` and which stage mends it, and writes nothing."""
    before = contents(Path())
    with pytest.raises(SystemExit) as ended:
        run_stage(stage)
    said = capfd.readouterr()
    assert re.fullmatch(rf"error: {re.escape(path)}: .*{words}.*; run `dvc repro {mends}`\n", said.err), said.err
    assert len(said.err) < 600
    assert (ended.value.code, said.out) == (2, "")
    assert contents(Path()) == before


SPLIT_OUTPUTS = ("dataset.json", "class_counts.csv", "class_counts.png", "samples.png")
# of each stage: the files that it reads, and the stages that make them
INPUTS = [
    *(("evaluate", MODEL, "train@cnn"), ("finetune", WEIGHTS, "train@cnn")),
    *((stage, "data/packed/classes.json", "pack") for stage in ("evaluate", "train")),
    *(
        (stage, f"data/packed/{split}/{name}.npy", "pack")
        for stage, splits in (("evaluate", ("val", "test")), ("train", ("train", "val")))
        for split in splits
        for name in ("images", "labels")
    ),
    *(("ensemble", f"data/predictions/{name}.npz", f"evaluate@{name}") for name in MODELS),
    *(("report", f"metrics/{name}", "split") for name in SPLIT_OUTPUTS),
    *(("report", f"metrics/{name}.json", f"evaluate@{name}") for name in MODELS),
    *(("report", f"metrics/{name}/{table}", f"evaluate@{name}") for name in MODELS for table in TABLES[::2]),
    ("report", "metrics/cnn/history.csv", "train@cnn"),
    ("report", "metrics/vgg19_pretrained/history.csv", "finetune@vgg19"),
    ("report", "metrics/ensemble.json", "ensemble"),
    *(("report", f"metrics/ensemble/{table}", "ensemble") for table in TABLES),
]
WAYS: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "random bytes": lambda path: path.write_bytes(np.random.default_rng(1).bytes(3000)),
    "a text": lambda path: path.write_text("so\nit, goes\n", encoding="utf-8"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
}


@pytest.mark.parametrize(("stage", "path", "mends"), INPUTS, ids=[f"{stage} {path}" for stage, path, _ in INPUTS])
def test_an_input_damaged_in_any_way_is_named_with_the_stage_that_makes_it(world, capfd, stage, path, mends):
    file, whole_file = Path(path), Path(path).read_bytes()
    for damage in WAYS.values():
        damage(file)
        assert_refused(stage, path, mends, capfd)
        if file.is_dir():
            file.rmdir()
        file.unlink(missing_ok=True)
        file.write_bytes(whole_file)


@pytest.mark.parametrize(
    ("stage", "folder", "path", "mends"),
    [
        ("evaluate", "data/models", MODEL, "train@cnn"),
        ("evaluate", "data/packed/val", "data/packed/val/images.npy", "pack"),
        ("ensemble", "data/predictions", "data/predictions/cnn.npz", "evaluate@cnn"),
        ("report", "metrics/cnn", "metrics/cnn/history.csv", "train@cnn"),
        ("report", "metrics/ensemble", "metrics/ensemble/per_class.csv", "ensemble"),
    ],
)
def test_a_file_in_place_of_a_folder_of_inputs_is_one_line(world, capfd, stage, folder, path, mends):
    shutil.rmtree(folder)
    Path(folder).write_text("no folder", encoding="utf-8")
    assert_refused(stage, path, mends, capfd)


def change_predictions(name: str, **changes) -> None:
    path = Path("data/predictions", f"{name}.npz")
    write_predictions(path, replace(read_predictions(path), **{key: np.array(new) for key, new in changes.items()}))


def rows_of(row: list[float], dtype=np.float32) -> np.ndarray:
    return np.array([row] * COUNTS["val"], dtype)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"val_probabilities": rows_of([0.5, 0.25, 0.24])}, "that sum to 1 .* 0.99 as the sum of image 0"),
        ({"val_probabilities": rows_of([1.5, -0.25, -0.25])}, "of 0 or more .* -0.25 as the least"),
        ({"val_probabilities": rows_of([0.5, 0.5, np.nan])}, "found nan as the least"),
        ({"val_probabilities": rows_of([0.5, 0.25, 0.25], np.float64)}, r"float32 .*, found float64"),
        ({"val_probabilities": rows_of([0, 1, 0], np.int64)}, "float32 .*, found int64"),
        ({"val_probabilities": rows_of([0.5, 0.5])}, r"shape \(3, 3\), found float32 of shape \(3, 2\)"),
        ({"test_probabilities": rows_of([0.5, 0.25, 0.25])}, r"shape \(6, 3\), found float32 of shape \(3, 3\)"),
        ({"val_labels": [0, 1, 3]}, "labels from 0 to 2, found 0 to 3"),
        ({"test_labels": [0, 1, 2, 0, 1, -1]}, "labels from 0 to 2, found -1 to 2"),
        ({"val_labels": [0.0, 1.0, 2.0]}, "val labels as int64 .*, found float64"),
        ({"val_labels": [[0], [1], [2]]}, r"val labels .*, found int64 of shape \(3, 1\)"),
        ({"val_labels": np.zeros(0, np.int64)}, r"val labels .*, found int64 of shape \(0,\)"),
        ({"class_names": [1, 2, 3]}, "names of classes, found int64"),
        ({"class_names": ["aster", "iris", "iris"]}, "different names of classes"),
        ({"class_names": [b"aster", b"iris", b"rose"]}, "names of classes, found .S5"),
    ],
)
def test_predictions_that_are_none_are_named_with_what_is_wrong(world, capfd, changes, words):
    change_predictions("vgg19_pretrained", **changes)
    path = "data/predictions/vgg19_pretrained.npz"
    assert_refused("ensemble", path, "evaluate@vgg19_pretrained", capfd, words)


@pytest.mark.parametrize("change", ["lacks an array", "has another array", "is pickled"])
def test_a_file_of_other_arrays_is_no_prediction_file(world, capfd, change):
    path = "data/predictions/cnn.npz"
    arrays = asdict(read_predictions(Path(path)))
    if change == "lacks an array":
        del arrays["val_labels"]
    elif change == "has another array":
        arrays["logits"] = np.zeros(3)
    else:
        arrays["class_names"] = np.array(NAMES, dtype=object)
    np.savez(path, **arrays)
    assert_refused("ensemble", path, "evaluate@cnn", capfd, "expected a prediction file, found none that can be read")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ["aster", "iris", "tulip"]}, "class names"),
        ({"val_labels": [2, 1, 0]}, "val labels"),
        ({"test_labels": [0] * 4, "test_probabilities": [[0, 1, 0]] * 4}, "test labels"),
    ],
)
def test_predictions_of_other_images_or_classes_than_the_first_members_are_named(world, capfd, changes, words):
    if "test_probabilities" in changes:
        changes = changes | {"test_probabilities": np.array(changes["test_probabilities"], np.float32)}
    change_predictions("vgg19_pretrained", **changes)
    path = "data/predictions/vgg19_pretrained.npz"
    assert_refused("ensemble", path, "ensemble", capfd, f"same images and classes as in cnn.npz, found other {words}")


def change_model(change: Callable[[dict[str, torch.Tensor]], object], **card) -> None:
    state = load_file(MODEL)
    change(state)
    save_weights(Path(MODEL), state, asdict(replace(CARD, **card)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state["head.1.weight"][0, 0].fill_(np.nan), "finite weights, found others in head.1.weight"),
        (lambda state: state["head.1.weight"][0, 0].fill_(np.inf), "finite weights, found others in head.1.weight"),
        (lambda state: state.update({"head.1.bias": state["head.1.bias"].half()}), "float32 .*, found float16"),
        (lambda state: state.update({"head.1.bias": torch.zeros(17)}), r"\(16,\), found float32 \(17,\)"),
        (lambda state: state.pop("head.1.bias"), "expected head.1.bias as .*, found none"),
        (lambda state: state.update({"fc.bias": torch.zeros(3)}), "expected fc.bias as none, found float32"),
        (lambda state: state["head.7.weight"].fill_(3e38), "probabilities of 0 or more .*, found nan"),
    ],
    ids=["nan", "inf", "half", "shape", "missing", "another", "overflow"],
)
def test_a_model_with_other_weights_is_named_with_the_first_of_them(world, capfd, change, words):
    change_model(change)
    assert_refused("evaluate", MODEL, "train@cnn", capfd, words)


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"class_names": ["aster", "iris", "tulip"]}, "trained on other classes: expected the 3 of data/packed"),
        ({"class_names": ["iris", "aster", "rose"]}, "trained on other classes"),
        ({"class_names": NAMES[:2]}, r"found float32 \(3, 16\)"),
        ({"class_names": "abc"}, "class_names 'abc'"),
        ({"class_names": [1, 2, 3]}, "class_names"),
        ({"model": "vit"}, "found none .*vit"),
        ({"model": "../cnn"}, "found none"),
        ({"model": "__init__"}, "found none"),
        ({"network": [4]}, "found none"),
        ({"network": {"filters": 4}}, "found none .*missing a required"),
        ({"network": NETWORK | {"filters": -4}}, "found none"),
        ({"network": NETWORK | {"filters": "four"}}, "found none"),
        ({"image_size_px": "32"}, "image_size_px '32'"),
        ({"image_size_px": 0}, "image_size_px 0"),
        ({"mean": (0.5, 0.5, 0.5)}, r"mean \[0.5, 0.5, 0.5\]"),
        ({"mean": 0.5}, "found none"),
    ],
)
def test_a_model_whose_card_is_not_of_this_pipeline_or_these_classes_is_named(world, capfd, card, words):
    change_model(lambda state: None, **card)
    assert_refused("evaluate", MODEL, "train@cnn", capfd, words)


def test_weights_without_a_card_are_no_model(world, capfd):
    save_file(load_file(MODEL), MODEL)
    assert_refused("evaluate", MODEL, "train@cnn", capfd, "expected a model of this pipeline, found none")


def change_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = load_file(WEIGHTS)
    change(state)
    save_file(state, WEIGHTS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.clear(), "expected a backbone of cnn, found no 0.weight"),
        (lambda state: state.pop("0.bias"), "expected a backbone of cnn, found no 0.bias"),
        (lambda state: state.update({"0.bias": torch.zeros(5)}), r"found 0.bias of shape \(5,\) instead of \(4,\)"),
        (lambda state: state["0.bias"].fill_(np.nan), "found numbers in 0.bias that are not finite"),
        (lambda state: state.update({"0.bias": torch.zeros(4, dtype=torch.int64)}), "numbers in 0.bias"),
    ],
    ids=["none", "missing", "shape", "nan", "whole numbers"],
)
def test_weights_that_are_no_backbone_are_named_with_the_first_that_is_wrong(world, capfd, change, words):
    change_weights(change)
    assert_refused("finetune", WEIGHTS, "train@cnn", capfd, words)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("labels", np.array([0, 1, 3]), "labels 0 to 2, found 0 to 3"),
        ("labels", np.array([0, 1, -1]), "labels 0 to 2, found -1 to 1"),
        ("labels", np.array([0, 1]), r"\(3,\).*, found int64 \(2,\)"),
        ("labels", np.array([0.0, 1.0, 2.0]), "int64 .*, found float64"),
        ("labels", np.array(5), r"found int64 \(\)"),
        ("labels", np.array(["a", "b", "c"]), "found <U1"),
        ("labels", np.array([None] * 3), "found "),
        ("images", np.zeros((3, 36, 36, 3), np.float32), "uint8 .*, found float32"),
        ("images", np.zeros((3, 36, 36), np.uint8), r"found uint8 \(3, 36, 36\)"),
        ("images", np.zeros((3, 3, 36, 36), np.uint8), r"found uint8 \(3, 3, 36, 36\)"),
        ("images", np.zeros((0, 36, 36, 3), np.uint8), "found "),
        ("images", np.zeros((3, 31, 31, 3), np.uint8), "images of 32 px or more, found 31 px"),
    ],
)
@pytest.mark.parametrize("stage", ["evaluate", "train"])
def test_a_pack_that_is_none_is_named_with_what_is_wrong(world, capfd, stage, name, array, words):
    np.save(f"data/packed/val/{name}.npy", array)
    assert_refused(stage, f"data/packed/val/{name}.npy", "pack", capfd, words)


@pytest.mark.parametrize(
    "names", [{"aster": 0}, ["aster", "iris", "iris"], [], ["aster"], "aster", None, [["aster"], ["iris"], ["rose"]]]
)
@pytest.mark.parametrize("stage", ["evaluate", "train"])
def test_a_list_of_classes_that_is_none_is_named(world, capfd, stage, names):
    Path("data/packed/classes.json").write_text(json.dumps(names), encoding="utf-8")
    assert_refused(stage, "data/packed/classes.json", "pack", capfd)


def change_scores(name: str, change: dict) -> None:
    path = Path("metrics", f"{name}.json")
    scores = json.loads(path.read_text(encoding="utf-8"))
    for key, value in change.items():
        *parents, last = key.split(".")
        block = scores
        for parent in parents:
            block = block[parent]
        block.pop(last)
        block |= {} if value is ... else {last: value}
    path.write_text(json.dumps(scores), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accuracy": ...}, "expected accuracy as a number from 0 to 1, found 'none'"),
        ({"accuracy": float("nan")}, "expected accuracy as a number from 0 to 1, found nan"),
        ({"accuracy": 1.5}, "expected accuracy as a number from 0 to 1, found 1.5"),
        ({"accuracy": "0.5"}, "expected accuracy as a number from 0 to 1, found '0.5'"),
        ({"accuracy": True}, "expected accuracy as a number from 0 to 1, found True"),
        ({"loss": float("inf")}, "expected loss as a number of 0 or more, found inf"),
        ({"loss": 10**400}, "expected loss as a number of 0 or more, found 1000"),
        ({"ece": -0.1}, "expected ece as a number from 0 to 1, found -0.1"),
        ({"val": ...}, "expected scores, found None"),
        ({"val": [1]}, r"expected scores, found \[1\]"),
        ({"val.loss": ...}, "expected loss"),
        ({"n_images": 7}, "expected n_images 6, as class_counts.csv counts test, found 7"),
        ({"val.n_images": 6}, "expected n_images 3, as class_counts.csv counts val, found 6"),
        ({"n_images": ...}, "expected n_images 6"),
    ],
    ids=str,
)
@pytest.mark.parametrize(("name", "mends"), [("cnn", "evaluate@cnn"), ("ensemble", "ensemble")])
def test_scores_that_are_none_or_of_other_images_are_named_with_what_is_wrong(world, capfd, name, mends, change, words):
    change_scores(name, change)
    assert_refused("report", f"metrics/{name}.json", mends, capfd, words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": ...}, "expected start as a text, found None"),
        ({"start": 3}, "expected start as a text, found 3"),
        ({"n_parameters": ...}, "expected n_parameters as a whole number, found None"),
        ({"n_parameters": 1.5}, "expected n_parameters as a whole number, found 1.5"),
    ],
    ids=str,
)
def test_scores_that_do_not_say_of_which_model_they_are_are_named(world, capfd, change, words):
    change_scores("cnn", change)
    assert_refused("report", "metrics/cnn.json", "evaluate@cnn", capfd, words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_images.train": 7}, "expected the facts of the images that class_counts.csv counts, found other ones"),
        ({"smallest_class": "five"}, "expected the facts"),
        ({"width_px.median": float("nan")}, "expected the facts"),
        ({"height_px.max": "tall"}, "expected the facts"),
        ({"width_px.min": ...}, "expected the facts of 15 images, found none that can be read .*min"),
        ({"n_rejected.total": ...}, "expected the facts of 15 images, found none that can be read .*total"),
        ({"n_rejected": [0]}, "expected the facts of 15 images, found none that can be read"),
    ],
    ids=str,
)
def test_facts_of_other_images_are_named(world, capfd, change, words):
    change_scores("dataset", change)
    assert_refused("report", "metrics/dataset.json", "split", capfd, words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"voting": "loudest"}, "expected voting as equal or fitted, found 'loudest'"),
        ({"weights": ...}, "expected weights as .*, found None"),
        ({"weights": [0.5, 0.5]}, r"expected weights as .*, found \[0.5, 0.5\]"),
        ({"weights": {}}, "expected weights that sum to 1, found a sum of 0"),
        ({"weights.cnn": 0.9}, "expected weights that sum to 1, found a sum of"),
        ({"weights.cnn": "1"}, "expected weights as"),
        ({"temperatures": ...}, "expected temperatures of cnn, vgg19_pretrained, found None"),
        ({"temperatures.cnn": ...}, "expected temperatures of cnn, vgg19_pretrained, found"),
        ({"temperatures.cnn": float("nan")}, "expected temperatures as numbers"),
        ({"equal": ...}, "expected scores, found None"),
        ({"fitted.loss": "low"}, "expected loss"),
        ({"best_member": "vgg16"}, "expected best_member as one of cnn, vgg19_pretrained, found 'vgg16'"),
        ({"best_member": ["cnn"]}, "expected best_member"),
        ({"vs_best_member": ...}, "expected vs_best_member with"),
        ({"vs_best_member.low": float("nan")}, "expected vs_best_member with"),
    ],
    ids=str,
)
def test_a_vote_that_is_none_is_named_with_what_is_wrong(world, capfd, change, words):
    if "weights.cnn" in change and change["weights.cnn"] == 0.9:
        change = change | {"weights.vgg19_pretrained": 0.9}
    change_scores("ensemble", change)
    assert_refused("report", "metrics/ensemble.json", "ensemble", capfd, words)


def test_scores_of_a_member_that_has_no_file_are_missing(world, capfd):
    Path("metrics/vgg19_pretrained.json").unlink()
    assert_refused("report", "metrics/vgg19_pretrained.json", "evaluate@vgg19_pretrained", capfd, "No such file")


def test_a_json_file_of_no_model_is_not_said_to_be_made_by_a_stage(world, capfd):
    Path("metrics/notes.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        run_stage("report")
    assert ended.value.code == 2
    assert re.fullmatch(
        "error: metrics/notes.json: expected accuracy .*; remove it, or add stages/models/notes.py\n",
        capfd.readouterr().err,
    )


def change_text(path: str, old: str, new: str) -> None:
    text = Path(path).read_text(encoding="utf-8")
    assert old in text
    Path(path).write_bytes(text.replace(old, new, 1).encode("utf-8" if new.isascii() else "latin-1"))


@pytest.mark.parametrize(
    ("path", "mends", "old", "new", "words"),
    [
        (
            "class_counts.csv",
            "split",
            "class,train",
            "class,learn",
            "expected the columns class, train, .* class, learn",
        ),
        ("class_counts.csv", "split", ",test,total", ",total", "expected the columns"),
        (
            "class_counts.csv",
            "split",
            "iris,2",
            "iris,two",
            "a whole number of 0 or more as train of row 2, found 'two'",
        ),
        ("class_counts.csv", "split", "iris,2", "iris,-2", "a whole number of 0 or more as train of row 2, found '-2'"),
        ("class_counts.csv", "split", "iris,2", "iris,2.5", "a whole number of 0 or more as train"),
        ("class_counts.csv", "split", "iris,2", "iris,3", "expected 6 as total of 'iris', found 5"),
        ("class_counts.csv", "split", "iris", "aster", "expected a row for each class, found a class twice"),
        ("class_counts.csv", "split", "iris", "írís", "found none that can be read"),
        ("class_counts.csv", "split", "iris,2,1", "iris,2,1,1", "expected 5 values in row 2, found 6"),
        ("class_counts.csv", "split", "iris,2,1", "iris,2", "expected 5 values in row 2, found 4"),
        ("cnn/history.csv", "train@cnn", "val_loss", "loss", "expected the columns round, epoch"),
        ("cnn/history.csv", "train@cnn", ",1.5,", ",nan,", "a number of 0 or more as train_loss of row 1, found 'nan'"),
        ("cnn/history.csv", "train@cnn", ",1.5,", ",inf,", "a number of 0 or more as train_loss of row 1, found 'inf'"),
        ("cnn/history.csv", "train@cnn", ",0.5,", ",5,", "a number from 0 to 1 as train_accuracy of row 1, found '5'"),
        ("cnn/history.csv", "train@cnn", "1,2,", "1,3,", "the epochs from 1 on"),
        ("cnn/history.csv", "train@cnn", ",1\n", ",0\n", "one best of them, found 2 epochs and 0 best"),
        ("cnn/per_class.csv", "evaluate@cnn", "iris", "tulip", "2 test images of 'iris', .*, found 2 test .* 'tulip'"),
        ("cnn/per_class.csv", "evaluate@cnn", "f1,", "F1,", "expected the columns"),
        ("ensemble/per_class.csv", "ensemble", "rose", "aster", "2 test images of 'rose', .*, found 2 test .* 'aster'"),
        ("ensemble/confusion.csv", "ensemble", "actual,aster", "actual,tulip", "the columns actual, aster, iris"),
        ("ensemble/confusion.csv", "ensemble", "\niris", "\ntulip", "2 test images of 'iris'"),
    ],
)
def test_a_table_with_a_wrong_value_is_named_with_it(world, capfd, path, mends, old, new, words):
    change_text(f"metrics/{path}", old, new)
    assert_refused("report", f"metrics/{path}", mends, capfd, words)


def test_a_table_without_its_last_class_is_named_with_it(world, capfd):
    path = Path("metrics/cnn/per_class.csv")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert_refused("report", str(path), "evaluate@cnn", capfd, r"2 test images of .*, found no such row")


def change_support(path: str, add: int) -> None:
    table = pd.read_csv(path)
    table.loc[1, "support"] += add
    table.to_csv(path, index=False)


@pytest.mark.parametrize("name", [*MODELS, "ensemble"])
def test_scores_of_other_test_images_than_those_that_were_split_are_named(world, capfd, name):
    change_support(f"metrics/{name}/per_class.csv", 1)
    mends = name if name == "ensemble" else f"evaluate@{name}"
    words = "expected 2 test images of 'iris', as metrics/class_counts.csv has it, found 3"
    assert_refused("report", f"metrics/{name}/per_class.csv", mends, capfd, words)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("iris,1,1,1", "expected 2 test images of 'iris', .* found 3"),
        ("iris,3,-1,0", "a whole number of 0 or more in each cell of 'iris', found '-1'"),
        ("iris,1,1", "expected 4 values in row 2, found 3"),
        ("iris,,1,1", "in each cell of 'iris', found ''"),
    ],
)
def test_a_confusion_matrix_of_other_images_is_named(world, capfd, row, words):
    path = Path("metrics/ensemble/confusion.csv")
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:2], row, *lines[3:]]) + "\n", encoding="utf-8")
    assert_refused("report", path.as_posix(), "ensemble", capfd, words)


@pytest.mark.parametrize("name", ["class_counts.csv", "cnn/history.csv", "cnn/per_class.csv", "ensemble/confusion.csv"])
def test_a_table_with_a_header_alone_is_named(world, capfd, name):
    path = Path("metrics", name)
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    mends = {"class_counts.csv": "split", "cnn": "(train|evaluate)@cnn", "ensemble": "ensemble"}[name.split("/")[0]]
    assert_refused("report", path.as_posix(), mends, capfd, "expected a row or more, found none")


@pytest.mark.parametrize("path", ["metrics/ensemble/per_class.csv", "metrics/ensemble/confusion.csv"])
def test_a_table_with_a_row_twice_is_named(world, capfd, path):
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    Path(path).write_text("\n".join([*lines, lines[-1]]) + "\n", encoding="utf-8")
    assert_refused("report", path, "ensemble", capfd, "expected no such row, .* found 2 test images of 'rose'")


@pytest.mark.parametrize("kind", ["JPEG", "GIF"])
def test_a_picture_of_another_kind_is_named(world, capfd, kind):
    Image.new("RGB", (9, 9)).save("metrics/samples.png", kind)
    assert_refused("report", "metrics/samples.png", "split", capfd, "expected a PNG picture, found none")


def test_a_picture_with_one_wrong_byte_is_named(world, capfd):
    path = Path("metrics/cnn/confusion.png")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert_refused("report", path.as_posix(), "evaluate@cnn", capfd, "expected a PNG picture, found none")


def test_a_model_that_has_no_block_is_a_users_mistake(world, capfd):
    with pytest.raises(SystemExit) as ended:
        run_stage("train", ["stages.train", "vgg99", "data/packed", "data/models/vgg99.safetensors", "metrics/x.csv"])
    assert ended.value.code == 2
    said = capfd.readouterr().err
    assert re.fullmatch("error: params.yaml: models: expected one of cnn, .*, found no 'vgg99'; add its block\n", said)


def test_missing_weights_of_the_users_own_are_named_with_the_parameter(world, capfd):
    Path(WEIGHTS).with_name("dvc.yaml").unlink()
    Path(WEIGHTS).unlink()
    with pytest.raises(SystemExit) as ended:
        run_stage("finetune")
    assert ended.value.code == 2
    said = capfd.readouterr().err
    assert re.fullmatch(f"error: {WEIGHTS}: expected weights, found none .*; choose other .*`weights`.*\n", said)
