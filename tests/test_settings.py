"""Parameter files: correct values are read unchanged, and every mistake is reported with its full key."""

import csv
import re

import pytest
import yaml
from ruamel.yaml import YAML

from stages.inference.pictures import MAX_PIXELS
from stages.models import list_architectures, load_architecture
from stages.runtime.errors import UserError
from stages.settings.reading import read_params
from stages.settings.types import N_FLOWER_CLASSES, ModelSettings
from tests.parameters import MISSING, PARAMS, write_params
from tests.repository import ROOT

CHECKED = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["check"]["cmd"].split()[4:]
FILES = [ROOT / path for path in CHECKED] + sorted((ROOT / "recipes").rglob("*.yaml"))
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def read(tmp_path):
    """Return a function that writes changed parameters and reads them."""
    return lambda **changes: read_params(write_params(tmp_path / "params.yaml", **changes))


@pytest.fixture
def problems(read, tmp_path):
    """Return a function that returns the messages about changed parameters, without the file name."""

    def read_and_fail(**changes) -> list[str]:
        with pytest.raises(UserError) as error:
            read(**changes)
        start = f"{tmp_path / 'params.yaml'}: "
        assert all(line.startswith(start) and "\n" not in line for line in error.value.args)
        return [line.removeprefix(start) for line in error.value.args]

    return read_and_fail


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_committed_parameter_file_is_right(path):
    written = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    assert list(getattr(read_params(path), "models", ())) == list(written.get("models", ()))


def test_what_a_models_block_does_not_say_training_says(read):
    models = read(training__epsilon=0.5, training__batch_size=9, models__cnn__batch_size=7).models
    assert (models["cnn"].epsilon, models["cnn"].batch_size) == (0.5, 7)
    assert models["cnn"].arguments() == {
        name: PARAMS["models"]["cnn"][name] for name in ("filters", "padding", "dense_units", "dropout")
    }
    assert (models["resnet50"].epsilon, models["resnet50"].batch_size) == (0.5, 9)
    assert (models["resnet50"].lr, models["resnet50"].filters) == (PARAMS["models"]["resnet50"]["lr"], 16)


@pytest.mark.parametrize("architecture", list_architectures())
def test_no_architecture_takes_a_key_that_training_has(architecture):
    assert ModelSettings.model_fields.keys().isdisjoint(load_architecture(architecture).Arguments.model_fields)


@pytest.mark.parametrize("written", ["1e-5", "1e-05", "1E-5", "0.00001", "1.0e-5"])
def test_a_small_number_is_the_same_however_it_is_written(tmp_path, written):
    (tmp_path / "params.yaml").write_text(re.sub("    lr: .*", f"    lr: {written}", TEXT, count=1), encoding="utf-8")
    assert read_params(tmp_path / "params.yaml").models["cnn"].lr == 0.00001


@pytest.mark.parametrize(
    ("full_key", "value"),
    [
        ("seed", -1),
        ("seed", True),
        ("images", "two\nlines"),
        ("augment.flip", "yes"),
        ("augment.zoom", 1.0),
        ("augment.scale", 0.5),  # with crop: true
        ("augment.ratio", 1.3),  # with scale: 1
        ("models.cnn.lr", "1e-5"),
        ("models.cnn.lr", 1e400),
        ("models.cnn.architecture", "vit"),
        ("models.cnn.padding", "full"),
        ("models.vgg16.phases.0.lr", [{"epochs": 1, "lr": -2}]),
        ("models.resnet50", 3),
        ("audit.architecture", "vit"),
        ("audit.filters", 0),
        ("audit.lr", 0.1),
        ("audit", 3),
        ("models", {}),
        ("models", [1]),
        # a mistake in `training` is reported once, not once per model
        ("training.optimizer", "adan"),
        ("training.optimiser", "adam"),
        ("training", None),
    ],
)
def test_a_wrong_value_is_one_line_with_its_key(problems, full_key, value):
    (said,) = problems(**{full_key.removesuffix(".0.lr").replace(".", "__"): value})
    assert said.startswith(f"{full_key}: ")


@pytest.mark.parametrize(
    ("full_key", "nearest"),
    [("sede", "seed"), ("split.trian", "train"), ("models.cnn.filtres", "filters"), ("models.cnn.epoch", "epochs")],
)
def test_an_unknown_key_is_one_line_with_the_nearest_right_one(problems, full_key, nearest):
    (said,) = problems(**{full_key.replace(".", "__"): 1})
    assert said.startswith(f"{full_key}: ")
    assert repr(nearest) in said


@pytest.mark.parametrize(
    "full_key", ["seed", "split.test", "training", "models", "models.cnn.lr", "models.cnn.image_size_px"]
)
def test_a_missing_key_or_block_is_one_line(problems, full_key):
    assert problems(**{full_key.replace(".", "__"): MISSING}) == [f"{full_key}: missing key"]


@pytest.mark.parametrize("name", ["two words", "{a}", "a.b", "-x", ""])
def test_a_models_name_that_is_no_word_is_one_line(problems, name):
    (said,) = problems(models={name: PARAMS["models"]["cnn"]})
    assert said.startswith("models")
    assert name in said


def test_an_unknown_architecture_is_named_whatever_the_block_is_called(problems):
    assert problems(models={"{a}": {"architecture": "vit"}})[-1].startswith("models.{a}.architecture: ")


def test_all_mistakes_are_named_at_once(problems):
    said = problems(
        seed=-1, split__trian=1, pack=MISSING, training__schedule="x", models__cnn__lr=-1, models__vgg16__lr="fast"
    )
    keys = ["models.cnn.lr", "models.vgg16.lr", "pack", "seed", "split.trian", "training.schedule"]
    assert sorted(line.partition(":")[0] for line in said) == keys


def test_epochs_of_a_part_are_no_more_than_epochs(problems, read):
    of_cnn = {"models__cnn__epochs": 2, "models__cnn__warmup_epochs": 0}
    phases = [{"epochs": 2, "lr": 0.5}]
    assert read(**of_cnn, models__cnn__phases=phases, models__cnn__frozen_epochs=2).models["cnn"].phases[0].lr == 0.5
    for key, value in (("warmup_epochs", 3), ("frozen_epochs", 3), ("phases", [*phases, {"epochs": 1, "lr": 0.5}])):
        (said,) = problems(**{**of_cnn, f"models__cnn__{key}": value})
        assert said.startswith(f"models.cnn.{key}: ")


FITTED = {"head_start": "logistic_regression", "frozen_views": 1, "dense_units": 0}
ON_FEATURES = {"frozen_views": 2, "frozen_epochs": 2}


@pytest.mark.parametrize(
    ("block", "key"),
    [
        ({**FITTED, "dense_units": 4}, "dense_units"),
        ({**FITTED, "frozen_views": 0}, "frozen_views"),
        ({"frozen_views": 1}, "frozen_views"),
        ({**ON_FEATURES, "mixup": 0.2}, "mixup"),
        ({**FITTED, **ON_FEATURES, "cutmix": 1.0}, "cutmix"),
        ({"epochs": 0, "warmup_epochs": 0}, "epochs"),
        ({**FITTED, "epochs": 0}, "warmup_epochs"),
        ({**FITTED, "epochs": 0, "warmup_epochs": 0, "rounds": 2}, "rounds"),
    ],
    ids=str,
)
def test_settings_of_a_training_that_contradict_each_other_are_one_line_with_the_key(problems, block, key):
    (said,) = problems(models__vgg16=PARAMS["models"]["vgg16"] | {"warmup_epochs": 1, **block})
    assert said.startswith(f"models.vgg16.{key}: ")


@pytest.mark.parametrize(
    "block",
    [{**FITTED, "epochs": 0, "warmup_epochs": 0}, {**FITTED, "mixup": 0.2, "rounds": 2}, {**ON_FEATURES, "rounds": 2}],
    ids=str,
)
def test_a_head_is_fitted_to_features_or_learns_from_them(read, block):
    model = read(models__vgg16=PARAMS["models"]["vgg16"] | block).models["vgg16"]
    assert model.model_dump().items() >= block.items()


def test_an_image_is_stored_larger_than_it_is_seen_by_the_same_share_at_every_size(read):
    assert [read().pack.stored_size_px(size_px) for size_px in (32, 96, 224)] == [36, 108, 252]
    assert read(pack__margin=0).pack.stored_size_px(224) == 224


def test_what_does_not_fit_together_is_named(problems, read):
    assert read(augment__crop=False, augment__scale=0.5, augment__ratio=1.3).augment.ratio == 1.3
    assert read(image_sizes_px=[32, 64], models__cnn__image_size_px=64).models["cnn"].image_size_px == 64
    assert read(image_sizes_px=[32, 64], audit__image_size_px=64).audit.arguments() == {"filters": 16}
    (audit,) = problems(audit__image_size_px=64)
    assert audit.startswith("audit.image_size_px: ")
    not_packed, unused = problems(image_sizes_px=[32, 48], models__cnn__image_size_px=64)
    assert not_packed.startswith("models.cnn.image_size_px: ")
    assert unused.startswith("image_sizes_px: ")
    assert read(split__train=0.8, split__val=0.1, split__test=0.1).split.train == 0.8  # their sum is not quite 1
    (sums,) = problems(split__train=0.9)
    assert sums.startswith("split: ")
    (test,) = problems(split__train=0.85, split__test=0)
    assert test.startswith("split.test is 0")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"- 1", b"seed: [1", b"seed: \xff", b"seed: 1\0", b"seed: !!python/name:os.system", b"a: *b", b"<<: 3"),
        *(b"seed: 2024-02-30", b"seed: !!bool 3", b"[[]]: 1", TEXT.encode() + b"seed: 2\n"),
    ],
)
def test_a_file_that_is_no_parameters_is_one_line(tmp_path, content):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_params(tmp_path / "params.yaml")
    (said,) = error.value.args
    assert "\n" not in said


def test_numbers_that_the_code_repeats_are_those_of_their_files():
    assert PARAMS["images_max_pixels"] == MAX_PIXELS
    with (ROOT / "stages/drawing/flower_classes.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == N_FLOWER_CLASSES
