"""The parameter file: what is right is read as it stands, and every mistake is named by its full key."""

import copy
import datetime
import functools
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError, create_model

from stages.draw import read_class_weights
from stages.drawing.species import MAX_SOURCE_CLASSES
from stages.models import cnn, vgg16, vgg19_pretrained
from stages.runtime.errors import UserError
from stages.settings.reading import inspect_values, read_config
from stages.settings.types import N_FLOWER_CLASSES, CnnSettings, Config, FineTuneSettings, Section
from tests.imports import ROOT

BASE = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
MISSING = object()
FILES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]


def _leaves(block: dict, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every value of params.yaml that is no mapping."""
    for key, value in block.items():
        yield from _leaves(value, (*path, key)) if isinstance(value, dict) else [(*path, key)]


def _blocks(block: dict, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every mapping of params.yaml, the whole file's first."""
    yield path
    for key, value in block.items():
        if isinstance(value, dict):
            yield from _blocks(value, (*path, key))


LEAVES = {".".join(path): path for path in _leaves(BASE)}
BLOCKS = {".".join(path): path for path in _blocks(BASE)}
CONFIG = read_config(FILES[0])

# what is right for no value of a kind, and what is right for some
NOTHING = (None, {}, {"a": 1}, [[1]], datetime.date(2024, 2, 29))
NO_NUMBER = (-1, -0.5, math.nan, math.inf, -math.inf, 1e30, 10**50, "", "many", "nan", "inf", True, [], [1])
WRONG = {
    bool: (*NOTHING, 0, 1, -1, math.nan, "true", "", [True]),
    int: (*NOTHING, *NO_NUMBER),
    float: (*NOTHING, *NO_NUMBER),
    str: (*NOTHING, "", 0, 3, 0.5, math.nan, True, [], ["none"], "it's", "-x", "two\nlines"),
    list: (*NOTHING, "", 3, 0.5, True, "cnn", [None], [3]),
}
PERHAPS_WRONG = (0, 1, 2, 15, 0.5, 1.0, 1.5, 181, 100_001, "no such word", "none", "1e-5", "1e5", True, [])


def _edit(**edits) -> dict:
    """Return a copy of params.yaml with some keys changed: models__cnn__lr is models.cnn.lr."""
    params = copy.deepcopy(BASE)
    for name, value in edits.items():
        _set(params, tuple(name.split("__")), value)
    return params


def _set(params: dict, path: tuple, value: Any) -> dict:
    """Change, add or remove the key at a path."""
    *parents, key = path
    block = params
    for parent in parents:
        block = block[parent]
    if value is MISSING:
        del block[key]
    else:
        block[key] = value
    return params


def _at(path: tuple) -> Any:
    value = BASE
    for key in path:
        value = value[key]
    return value


def _change(path: tuple, value: Any) -> list[str]:
    """Return what is said of params.yaml with one key changed."""
    return inspect_values(_set(copy.deepcopy(BASE), path, value)).problems


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


@functools.cache
def _wrong_values(path: tuple) -> list:
    """List the values of the battery that are wrong at a path: those of its kind, and what its field alone refuses."""
    section: Any = CONFIG
    for key in path[:-1]:
        section = section[key] if isinstance(section, dict) else getattr(section, key)
    field = type(section).model_fields[path[-1]]
    alone = create_model("Alone", __base__=Section, value=(field.annotation, field))
    return [*WRONG[type(_at(path))], *(value for value in PERHAPS_WRONG if not _is_right(alone, value))]


def _is_right(alone: type[Section], value: Any) -> bool:
    try:
        alone(value=value)
    except ValidationError:
        return False
    return True


def _names(line: str, full_key: str, value: Any) -> bool:
    """Say whether a line names the key, what is allowed, and what was found; of a list, it may be of its first item."""
    places, values = [full_key], [value]
    while isinstance(values[-1], list) and values[-1]:
        places.append(places[-1] + ".0")
        values.append(values[-1][0])
    shown = [str(each) if isinstance(each, datetime.date) else repr(each) for each in values]
    return any(
        re.fullmatch(rf"{re.escape(place)}: expected .{{4,}}, found {re.escape(text)}", line)
        for place, text in zip(places, shown, strict=True)
    )


@pytest.mark.parametrize("full_key", LEAVES)
def test_every_wrong_value_of_every_key_is_one_line_that_names_it(full_key):
    wrong = _wrong_values(LEAVES[full_key])
    assert len(wrong) >= 3
    for value in wrong:
        said = _change(LEAVES[full_key], value)
        assert len(said) == 1, (value, said)
        assert _names(said[0], full_key, value), (value, said)


@pytest.mark.parametrize("number", range(min(map(len, WRONG.values()))))
def test_a_file_in_which_every_value_is_wrong_has_a_line_for_each(tmp_path, number):
    params, wrong = copy.deepcopy(BASE), {key: _wrong_values(path)[number] for key, path in LEAVES.items()}
    for key, path in LEAVES.items():
        _set(params, path, wrong[key])
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_config(path)
    said = [line.removeprefix(f"{path}: ") for line in error.value.args]
    assert len(said) == len(LEAVES)
    assert [key for key, value in wrong.items() if sum(_names(line, key, value) for line in said) != 1] == []


@pytest.mark.parametrize("block", BLOCKS)
def test_every_missing_key_of_every_block_is_one_line_that_names_it(block):
    keys = Config.model_fields if block == "" else _at(BLOCKS[block])
    for key in keys:
        full_key = ".".join((*BLOCKS[block], key))
        said = _change((*BLOCKS[block], key), MISSING)
        if block == "models":  # there may be fewer; stages/check.py asks dvc.yaml which it needs
            assert said == [f"ensemble.members: unknown model {key!r}; {said[0].partition('; ')[2]}"]
        else:
            assert len(said) == 1, (key, said)
            assert re.fullmatch(rf"{re.escape(full_key)}: missing key; expected .{{4,}}", said[0])


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("key", ["zzzz", "two words", "dotted.key", "two\nlines", ""])
def test_an_unknown_key_in_any_block_is_one_line_that_names_it(block, key):
    said = _change((*BLOCKS[block], key), 1)
    full_key = ".".join((*BLOCKS[block], key if key == "zzzz" else repr(key)))
    assert len(said) == 1
    assert re.fullmatch(rf"{re.escape(full_key)}: unknown (key|model); (did you mean .+|expected one of: .+)", said[0])


def test_a_wrong_value_in_a_phase_is_named_with_its_place(message):
    said = message(models__cnn__phases=[{"epochs": 1, "lr": 0.5}, {"epochs": 1, "lr": -2}])
    assert said.endswith("params.yaml: models.cnn.phases.1.lr: expected a number from 1e-12 to 100, found -2")


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
    assert said.endswith("params.yaml: models.cnn.phases: expected no more epochs than epochs (2), found 3")


def test_phases_as_long_as_the_epochs_are_taken(read):
    settings = read(**{**SHORT, "models__cnn__phases": [{"epochs": 2, "lr": 0.5}]}).models["cnn"]
    assert [(phase.epochs, phase.lr) for phase in settings.phases] == [(2, 0.5)]


def test_a_warm_up_longer_than_the_epochs_is_named_with_both(message):
    said = message(**{**SHORT, "models__cnn__warmup_epochs": 3})
    assert said.endswith("params.yaml: models.cnn.warmup_epochs: expected no more epochs than epochs (2), found 3")


def test_frozen_epochs_longer_than_the_epochs_are_named_with_both(message):
    short = {key.replace("cnn", "resnet50_pretrained"): value for key, value in SHORT.items()}
    said = message(**short, models__resnet50_pretrained__frozen_epochs=3)
    full_key = "models.resnet50_pretrained.frozen_epochs"
    assert said.endswith(f"params.yaml: {full_key}: expected no more epochs than epochs (2), found 3")


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


NO_YAML = {
    "an open bracket": b"seed: [1",
    "a tab": b"seed: 1\n\tlr: 2",
    "two colons": b"a: b: c",
    "no UTF-8": b"seed: \xff\xfe",
    "UTF-16": "seed: 1".encode("utf-16"),
    "NUL": b"seed: 1\0",
    "a control character": b"seed: \x07",
    "an open quote": b"seed: 'x",
    "two documents": b"seed: 1\n---\nseed: 2",
    "a tag of Python's": b"seed: !!python/object/apply:os.system [ls]",
    "an unknown tag": b"seed: !number 1",
    "an unknown alias": b"seed: *one",
    "a key that is a list": b"? [seed]\n: 1",
    "a number of 5000 digits": b"seed: " + b"9" * 5000,
    "an impossible date": b"seed: 2024-13-45",
    "no number": b"seed: !!int x",
    "no bool": b"seed: !!bool x",
    "no timestamp": b"seed: !!timestamp x",
    "an empty number": b"seed: !!float ''",
    "brackets without end": b"[" * 5_000,
    "braces without end": b"{a: " * 5_000,
    "deep nesting": b"seed: " + b"[" * 5_000 + b"]" * 5_000,
    "a merge with no mapping": b"<<: 3",
    "YAML 3": b"%YAML 3.0\n---\nseed: 1",
}


@pytest.mark.parametrize("content", NO_YAML.values(), ids=NO_YAML)
def test_a_file_that_is_no_yaml_is_said_to_be_none_in_one_line(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"params.yaml: not a YAML file: [^\n]+\Z"):
        read_config(path)


@pytest.mark.parametrize(("text", "found"), [("", "nothing"), ("- 1", r"\[1\]"), ("seed", "'seed'")])
def test_a_file_without_a_mapping_is_said_to_have_none(tmp_path, text, found):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"expected a mapping of parameters, found {found}"):
        read_config(path)


def test_where_the_yaml_is_wrong_is_said_by_line_and_column(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("seed: 1\nsplit:\n  train: 0.7: 2\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"not a YAML file: line 3, column 13: mapping values are not allowed here"):
        read_config(path)


def test_a_character_that_yaml_does_not_allow_is_named_with_its_line(tmp_path):
    (said,) = _said_of(tmp_path / "params.yaml", "seed: 1\nsplit:\n  train: \0\n")
    assert said.endswith("params.yaml: not a YAML file: line 3: '\\x00' is a character that YAML does not allow")


def test_a_folder_in_the_files_place_is_said_to_be_one(tmp_path):
    with pytest.raises(UserError, match="expected a file, found a folder"):
        read_config(tmp_path)


def _said_of(path, text: str) -> tuple[str, ...]:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_config(path)
    return error.value.args


def test_a_key_that_stands_there_twice_is_named_with_its_lines(tmp_path):
    text = FILES[0].read_text(encoding="utf-8")
    lines = text.splitlines()
    first = lines.index("    lr: 0.001") + 1
    lines.insert(first + 1, "    lr: 0.01")
    assert _said_of(tmp_path / "params.yaml", "\n".join(lines)) == (
        f"{tmp_path}/params.yaml: models.cnn.lr: stands there 2 times, in lines {first} and {first + 2}; keep one",
    )
    n = len(text.splitlines())
    text += "seed: 1\nseed: x\n"
    line = lines.index("seed: 1") + 1
    assert _said_of(tmp_path / "params.yaml", text) == (
        f"{tmp_path}/params.yaml: seed: stands there 3 times, in lines {line}, {n + 1} and {n + 2}; keep one",
        f"{tmp_path}/params.yaml: seed: expected a whole number from 0 to 4294967295, found 'x'",
    )


@pytest.mark.parametrize("key", ["on", "1", "0.5", "null", "~", "2024-01-01", "!!int 3", "'on'"])
def test_a_key_that_yaml_takes_for_no_text_is_named_as_it_is_written(tmp_path, key):
    text = FILES[0].read_text(encoding="utf-8").replace("split:\n", f"split:\n  {key}: 1\n")
    shown = {"~": "'~'", "0.5": "'0.5'", "!!int 3": "3", "'on'": "on"}.get(key, key)
    said = f"{tmp_path}/params.yaml: split.{shown}: unknown key; expected one of: seed, train, val, test"
    assert _said_of(tmp_path / "params.yaml", text) == (said,)


def test_anchors_aliases_and_merge_keys_are_taken(tmp_path):
    params = copy.deepcopy(BASE)
    augment = params["pretrain"].pop("augment")
    assert augment == params["augment"]
    text = yaml.safe_dump(params).replace("augment:", "augment: &shared", 1)
    text = text.replace("pretrain:", "pretrain:\n  augment: {<<: *shared, flip: true}")
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    assert read_config(path) == read_config(FILES[0])


@pytest.mark.parametrize(("written", "read"), [("yes", True), ("off", False)])
def test_what_yaml_reads_as_true_or_false_is_taken_as_such(tmp_path, written, read):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(_edit(augment__flip="FLIP")).replace("FLIP", written), encoding="utf-8")
    assert read_config(path).augment.flip is read
    said = _said_of(path, yaml.safe_dump(_edit(augment__policy="POLICY")).replace("POLICY", written))
    assert said[0].endswith(f"augment.policy: expected 'none', 'randaugment' or 'trivialaugment', found {read}")


def test_aliases_that_unfold_without_end_are_shown_short(tmp_path):
    bomb = "\n".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]" for i in range(1, 30))
    said = _said_of(tmp_path / "params.yaml", f"b0: &b0 [1]\n{bomb}\nseed: *b29\nsplit: &s {{train: *s}}")
    assert all(len(line) < 1000 for line in said)


def test_what_does_not_fit_is_named_though_something_else_is_wrong(message):
    said = message(
        models__cnn__lr=-1, models__cnn__epochs=1, models__cnn__warmup_epochs=2, seed=-1, pack__stored_size_px=16
    )
    for part in ("models.cnn.lr: ", "models.cnn.warmup_epochs: ", "seed: ", "pack.stored_size_px is 16, expected "):
        assert part in said


def test_a_member_whose_settings_are_wrong_is_not_called_unknown(message):
    assert "ensemble" not in message(models__cnn__lr=-1)


@pytest.mark.parametrize("size_px", [75, 76])
def test_valid_padding_is_refused_exactly_where_the_cnn_refuses_it(size_px):
    edits = {"image_size_px": size_px, "pack__stored_size_px": 99, "models__cnn__padding": "valid"}
    said = inspect_values(_edit(**edits)).problems
    try:
        cnn.build_model(3, size_px, filters=1, padding="valid", dense_units=1, dropout=0)
    except UserError:
        assert len(said) == 1
        assert re.match(rf"models\.cnn\.padding is 'valid', which needs .*76 px or more, .*is {size_px}; ", said[0])
    else:
        assert said == []


@pytest.mark.parametrize("size_px", [31, 32])
def test_images_too_small_for_vgg_are_refused_exactly_where_it_refuses_them(size_px):
    settings = {"batch_norm": True, "dense_units": 1, "dropout": 0}
    said = inspect_values(_edit(image_size_px=size_px)).problems
    in_pretrain = inspect_values(_edit(pretrain__image_size_px=size_px)).problems
    try:
        with torch.device("meta"):
            for module in (vgg16, vgg19_pretrained):
                module.build_model(3, size_px, **settings)
    except UserError:
        assert said == [
            f"image_size_px is {size_px}, but models.{name} needs images of 32 px or more"
            for name in ("vgg16", "vgg19_pretrained")
        ]
        assert in_pretrain == [f"pretrain.image_size_px: expected a whole number from 32 to 4096, found {size_px}"]
    else:
        assert said == in_pretrain == []


def test_the_numbers_of_classes_are_those_of_the_drawn_sets():
    assert len(read_class_weights()) == N_FLOWER_CLASSES
    assert _change(("source", "n_classes"), MAX_SOURCE_CLASSES) == []
    assert len(_change(("source", "n_classes"), MAX_SOURCE_CLASSES + 1)) == 1


def test_too_few_images_for_the_flowers_are_named_with_both_numbers(message):
    said = message(flowers__n_images=1000, flowers__min_images=12)
    assert "flowers.n_images is 1000, but 104 classes of at least flowers.min_images = 12 need 1248; " in said


def test_too_few_images_of_a_class_for_a_split_are_named(message):
    assert "flowers.min_images is 2, expected 3 or more" in message(flowers__min_images=2)


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        (
            {"weights": "data/weights/drawn/", "pretrain__vgg19__batch_norm": False},
            "pretrain.vgg19.batch_norm is false",
        ),
        (
            {"weights": "./data/weights/imagenet", "imagenet__vgg19": "vgg19.tv_in1k"},
            "imagenet.vgg19 is 'vgg19.tv_in1k', without batch normalisation",
        ),
    ],
    ids=["drawn", "imagenet"],
)
def test_batch_normalisation_in_one_of_weights_and_network_names_both(message, edits, says):
    folder = edits["weights"].strip("./")
    said = message(**edits, models__vgg19_pretrained__batch_norm=True)
    assert said.endswith(f"batch_norm is true, but {says}, and weights is {folder}; set the two alike")
    assert "params.yaml: models.vgg19_pretrained.batch_norm is true" in said


def test_batch_normalisation_of_weights_that_are_not_used_may_differ(read):
    read(weights="data/weights/imagenet", pretrain__vgg19__batch_norm=False)
    read(weights="data/weights/drawn", imagenet__vgg19="vgg19.tv_in1k")
    read(weights="/mine", imagenet__vgg19="vgg19.tv_in1k", pretrain__vgg19__batch_norm=False)


@pytest.mark.parametrize("written", ["/", "../mine", "a folder", "花/薔薇", "${seed}", 'a "b"', "a\\b", "ZWJ \u200d"])
def test_a_path_may_have_any_characters_that_a_command_takes(read, written):
    assert read(images=written, weights=written).images == written


@pytest.mark.parametrize("written", ["it's", "-images", "a\nb", "a\0b", "a\u2028b", "\ud800", ""])
def test_a_path_that_would_break_a_command_is_named(message, written):
    said = message(images=written)
    assert said.endswith(f"in the commands of dvc.yaml, found {written!r}")


def test_a_path_longer_than_a_system_takes_is_shown_short(message):
    assert len(message(images="x" * 1001)) < 500
