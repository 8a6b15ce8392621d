"""The parameter file: what is right is read as it stands, and every mistake is named by its full key."""

import copy
import math

import pytest
import yaml
from pydantic import ValidationError

from stages.shared.config import CnnSettings, FineTuneSettings, read_config
from stages.shared.errors import UserError
from tests.imports import ROOT

BASE = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
MISSING = object()
FILES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]


def _edit(**edits) -> dict:
    """Return a copy of params.yaml with some keys changed: models__cnn__lr is models.cnn.lr."""
    params = copy.deepcopy(BASE)
    for name, value in edits.items():
        *parents, key = name.split("__")
        block = params
        for parent in parents:
            block = block[parent]
        if value is MISSING:
            del block[key]
        else:
            block[key] = value
    return params


@pytest.fixture
def read(tmp_path):
    """Return a function that writes a changed copy of params.yaml and reads it."""

    def write_and_read(**edits):
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(_edit(**edits)), encoding="utf-8")
        return read_config(path)

    return write_and_read


@pytest.fixture
def message(read):
    """Return a function that gives what read_config says of a changed copy of params.yaml."""

    def read_and_fail(**edits) -> str:
        with pytest.raises(UserError) as error:
            read(**edits)
        assert "\n" not in str(error.value)
        return str(error.value)

    return read_and_fail


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_committed_parameter_file_is_valid(path):
    written = yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
    assert {name: dict(model).keys() for name, model in read_config(path).models.items()} == {
        name: block.keys() for name, block in written.items()
    }


def test_each_model_gets_the_settings_that_fit_its_name(read):
    config = read(models__cnn__filters=7, models__resnet50_pretrained__backbone_lr=0.25)
    assert isinstance(config.models["cnn"], CnnSettings)
    assert isinstance(config.models["resnet50_pretrained"], FineTuneSettings)
    assert config.models["cnn"].filters == 7
    assert config.models["resnet50_pretrained"].backbone_lr == 0.25


def test_the_network_gets_the_keys_that_are_not_about_training(read):
    config = read(
        models__cnn__filters=7, models__cnn__padding="same", models__cnn__dense_units=5, models__cnn__dropout=0.25
    )
    assert config.models["cnn"].network() == {"filters": 7, "padding": "same", "dense_units": 5, "dropout": 0.25}
    assert config.models["resnet50_pretrained"].network() == {}


def test_the_configuration_is_frozen(read):
    config = read()
    for section, key in ((config, "seed"), (config.split, "train"), (config.models["cnn"], "lr")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, 1)


@pytest.mark.parametrize("written", ["1e-5", "1e-05", "1E-5", "0.00001", "1.0e-5", "'1e-5'"])
def test_a_small_number_is_the_same_however_it_is_written(tmp_path, written):
    text = yaml.safe_dump(_edit(models__cnn__lr="SMALL"))
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("SMALL", written), encoding="utf-8")
    assert read_config(path).models["cnn"].lr == 0.00001


def test_a_whole_number_will_do_for_a_fractional_one(read):
    assert read(models__cnn__lr=1).models["cnn"].lr == 1.0


@pytest.mark.parametrize(
    ("edit", "full_key", "nearest"),
    [
        ({"sede": 1}, "sede", "seed"),
        ({"split__trian": 0.5}, "split.trian", "train"),
        ({"models__cnn__filtres": 32}, "models.cnn.filtres", "filters"),
        ({"models__vgg19_pretrained__frozen_epoch": 1}, "models.vgg19_pretrained.frozen_epoch", "frozen_epochs"),
        ({"pretrain__augment__colours": 0}, "pretrain.augment.colours", "colour"),
        ({"pretrain__vgg19__optimiser": "adam"}, "pretrain.vgg19.optimiser", "optimizer"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_right_one(message, edit, full_key, nearest):
    assert f"{full_key}: unknown key; did you mean {nearest!r}?" in message(**edit)


def test_an_unknown_key_in_a_phase_is_named_with_the_nearest_right_one(message):
    said = message(models__cnn__phases=[{"epochs": 1, "lr": 0.5, "epoch": 1}])
    assert "models.cnn.phases.0.epoch: unknown key; did you mean 'epochs'?" in said


def test_an_unknown_key_that_resembles_nothing_gets_a_list_of_the_right_ones(message):
    said = message(split__zzzz=1)
    assert "split.zzzz: unknown key; expected one of: seed, train, val, test" in said


@pytest.mark.parametrize(
    "full_key", ["seed", "augment", "split.test", "models.cnn.lr", "models.vgg16.dropout", "pretrain.resnet50.epochs"]
)
def test_a_missing_key_is_named(message, full_key):
    assert f"{full_key}: missing key" in message(**{full_key.replace(".", "__"): MISSING})


@pytest.mark.parametrize(
    ("full_key", "value"),
    [
        ("seed", "one"),
        ("seed", True),
        ("seed", 1.5),
        ("seed", -1),
        ("images", 3),
        ("images", ""),
        ("augment.flip", 1),
        ("augment.zoom", True),
        ("augment.zoom", 1.0),
        ("split.train", "most"),
        ("split.val", 0),
        ("models.cnn.lr", -1),
        ("models.cnn.lr", 0),
        ("models.cnn.lr", True),
        ("models.cnn.lr", "fast"),
        ("models.cnn.lr", None),
        ("models.cnn.lr", [0.1]),
        ("models.cnn.lr", math.nan),
        ("models.cnn.lr", math.inf),
        ("models.cnn.lr", "nan"),
        ("models.cnn.lr", "1e400"),
        ("models.cnn.epochs", 0),
        ("models.cnn.epochs", "3"),
        ("models.cnn.epochs", False),
        ("models.cnn.dropout", 1),
        ("models.cnn.optimizer", "adan"),
        ("models.cnn.padding", "full"),
        ("models.cnn.phases", None),
        ("models.vgg16.batch_norm", "yes"),
        ("models.resnet50_pretrained.weight_decay", math.inf),
        ("pretrain.val", 1),
        ("ensemble.voting", "hard"),
        ("ensemble.members", []),
        ("imagenet.vgg19", "resnet50.a1_in1k"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_named_with_what_was_found(message, full_key, value):
    said = message(**{full_key.replace(".", "__"): value})
    assert f"{full_key}: " in said
    assert f"found {value!r}" in said


def test_a_wrong_value_in_a_phase_is_named_with_its_place(message):
    said = message(models__cnn__phases=[{"epochs": 1, "lr": 0.5}, {"epochs": 1, "lr": -2}])
    assert "models.cnn.phases.1.lr: expected greater than 0, found -2" in said


@pytest.mark.parametrize("full_key", ["models", "augment", "split", "pretrain.vgg19", "ensemble"])
@pytest.mark.parametrize("value", [None, 3, "text", [1]])
def test_a_block_that_is_no_mapping_is_named(message, full_key, value):
    said = message(**{full_key.replace(".", "__"): value})
    assert f"{full_key}: expected" in said
    assert f"found {value!r}" in said


@pytest.mark.parametrize("value", [None, 3])
def test_a_models_block_that_is_no_mapping_is_named(message, value):
    assert "params.yaml: models.cnn: expected" in message(models__cnn=value)


def test_fractions_that_do_not_sum_to_one_are_named_with_their_sum(message):
    assert "split: train + val + test is 1.1, expected 1" in message(
        split__train=0.5, split__val=0.25, split__test=0.35
    )


def test_fractions_that_sum_to_one_but_for_rounding_are_taken(read):
    assert read(split__train=0.8, split__val=0.1, split__test=0.1).split.train == 0.8


def test_an_unknown_model_is_named_with_the_nearest_known_one(message):
    assert "models.vgg61: unknown model; did you mean 'vgg16'?" in message(models__vgg61=BASE["models"]["vgg16"])


def test_an_unknown_member_is_named_with_the_nearest_model(message):
    said = message(ensemble__members=["cnn", "resnet05"])
    assert "ensemble.members: unknown model 'resnet05'; did you mean 'resnet50'?" in said


def test_a_member_that_stands_there_twice_is_named(message):
    assert "ensemble.members: 'cnn' stands there twice" in message(ensemble__members=["cnn", "vgg16", "cnn"])


def test_a_stored_size_under_the_image_size_is_named_with_both(message):
    said = message(pack__stored_size_px=31, image_size_px=32)
    assert "pack.stored_size_px is 31, expected image_size_px or more (32)" in said


def test_a_stored_size_equal_to_the_image_size_is_taken(read):
    assert read(pack__stored_size_px=32, image_size_px=32).pack.stored_size_px == 32


def test_a_stored_size_under_the_image_size_is_named_in_pretrain_too(message):
    said = message(pretrain__stored_size_px=31, pretrain__image_size_px=32)
    assert "pretrain.stored_size_px is 31" in said


SHORT = {"models__cnn__epochs": 2, "models__cnn__warmup_epochs": 0, "models__cnn__phases": []}


def test_phases_longer_than_the_epochs_are_named_with_both(message):
    phases = [{"epochs": 2, "lr": 0.5}, {"epochs": 1, "lr": 0.25}]
    said = message(**{**SHORT, "models__cnn__phases": phases})
    assert "params.yaml: models.cnn: phases takes 3 epochs, but epochs is 2" in said


def test_phases_as_long_as_the_epochs_are_taken(read):
    settings = read(**{**SHORT, "models__cnn__phases": [{"epochs": 2, "lr": 0.5}]}).models["cnn"]
    assert [(phase.epochs, phase.lr) for phase in settings.phases] == [(2, 0.5)]


def test_a_warm_up_longer_than_the_epochs_is_named_with_both(message):
    said = message(**{**SHORT, "models__cnn__warmup_epochs": 3})
    assert "params.yaml: models.cnn: warmup_epochs takes 3 epochs, but epochs is 2" in said


def test_frozen_epochs_longer_than_the_epochs_are_named_with_both(message):
    short = {key.replace("cnn", "resnet50_pretrained"): value for key, value in SHORT.items()}
    said = message(**short, models__resnet50_pretrained__frozen_epochs=3)
    assert "params.yaml: models.resnet50_pretrained: frozen_epochs is 3, but epochs is 2" in said


@pytest.mark.parametrize(
    ("edits", "parts"),
    [
        ({"seed": -1, "split__trian": 1, "pack": MISSING}, ("seed: ", "split.trian: ", "pack: missing key")),
        (
            {"models__cnn__lr": -1, "models__cnn__filtres": 1, "models__cnn__padding": MISSING},
            ("models.cnn.lr: ", "models.cnn.filtres: ", "models.cnn.padding: missing key"),
        ),
        ({"models__cnn__lr": -1, "models__vgg16__lr": -2}, ("models.cnn.lr: ", "models.vgg16.lr: ")),
        ({"models__cnn__lr": -1, "seed": -2}, ("models.cnn.lr: ", "seed: ")),
    ],
    ids=["in several blocks", "in one model", "in two models", "in a model and elsewhere"],
)
def test_all_mistakes_are_named_at_once(message, edits, parts):
    said = message(**edits)
    assert [part for part in parts if part not in said] == []


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such file"):
        read_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("content", [b"seed: [1", b"seed: 1\n\tlr: 2", b"a: b: c", b"seed: \xff\xfe"])
def test_a_file_that_is_no_yaml_is_said_to_be_none_in_one_line(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"params.yaml: not a YAML file: [^\n]+\Z"):
        read_config(path)


@pytest.mark.parametrize(("text", "found"), [("", "NoneType"), ("- 1", "list"), ("seed", "str")])
def test_a_file_without_a_mapping_is_said_to_have_none(tmp_path, text, found):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"expected a mapping of parameters, found {found}"):
        read_config(path)
