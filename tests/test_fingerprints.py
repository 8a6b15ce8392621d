"""Hashes of what a training depends on: the smallest change shows, and nothing else does."""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stages.pixels.packed_splits import Pack, open_pack
from stages.settings.types import Phase
from stages.training.fingerprints import hash_code, hash_pack, hash_value, hash_weights
from tests.trainings import AUGMENT, SETTINGS, change_settings, fine_tune_settings, noise_pack, tiny_cnn


def _change_one(array: np.ndarray, index: tuple) -> np.ndarray:
    changed = array.copy()
    changed[index] += 1
    return changed


def test_equal_settings_have_equal_hashes():
    values = [SETTINGS, AUGMENT, 1, 32, 3]
    again = [SETTINGS.model_copy(deep=True), AUGMENT.model_copy(), 1, 32, 3]
    assert hash_value(values) == hash_value(again)
    assert len(hash_value(values)) == 64


@pytest.mark.parametrize(
    "changes", [{"lr": 0.010000000000000002}, {"epochs": 3}, {"precision": "bf16"}, {"phases": [Phase(epochs=1, lr=1)]}]
)
def test_another_setting_has_another_hash(changes):
    assert hash_value(change_settings(**changes)) != hash_value(SETTINGS)


def test_settings_of_a_subclass_are_hashed_whole():
    assert hash_value(fine_tune_settings()) != hash_value(fine_tune_settings(backbone_lr=0.006))


def test_values_that_change_places_have_another_hash():
    assert hash_value([SETTINGS, 1, 2]) != hash_value([SETTINGS, 2, 1])


def test_the_order_of_keys_has_no_say():
    assert hash_value({"a": 1, "b": 2}) == hash_value({"b": 2, "a": 1})


def test_one_pixel_one_label_or_the_shape_changes_a_packs_hash():
    pack = noise_pack(4)
    others = [
        Pack(_change_one(pack.images, (3, 17, 17, 2)), pack.labels),
        Pack(_change_one(pack.images, (0, 0, 0, 0)), pack.labels),
        Pack(pack.images, _change_one(pack.labels, (1,))),
        Pack(pack.images.reshape(4, 9, 36, 3), pack.labels),
        noise_pack(5),
    ]
    assert len({hash_pack(each) for each in (pack, *others)}) == 6


def test_a_packs_hash_is_that_of_its_content_wherever_it_lies(tmp_path):
    pack = noise_pack(4)
    for name in ("images", "labels"):
        np.save(tmp_path / f"{name}.npy", getattr(pack, name))
    assert (
        hash_pack(open_pack(tmp_path, 3)) == hash_pack(Pack(pack.images.copy(), pack.labels.copy())) == hash_pack(pack)
    )


def test_one_weight_or_one_buffer_changes_a_networks_hash():
    before = hash_weights(tiny_cnn())
    hashes = {before}
    for name, tensor in tiny_cnn().state_dict().items():
        network = tiny_cnn()
        network.state_dict()[name].view(-1)[-1] += 1e-3 if tensor.is_floating_point() else 1
        hashes.add(hash_weights(network))
    assert len(hashes) == 1 + len(tiny_cnn().state_dict())
    assert hash_weights(tiny_cnn()) == before


def test_weights_that_change_names_have_another_hash():
    one, other = nn.Module(), nn.Module()
    one.first = other.second = nn.Parameter(torch.ones(3))
    assert hash_weights(one) != hash_weights(other)


def test_a_networks_hash_does_not_depend_on_its_memory_format_or_mode():
    network = tiny_cnn()
    assert hash_weights(network.to(memory_format=torch.channels_last).eval()) == hash_weights(tiny_cnn())


def _imported(name: str, path: Path) -> types.ModuleType:
    return importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, path))


@pytest.fixture
def module(monkeypatch, tmp_path):
    """A module of the pipeline that is imported, and the file that it comes from."""
    path = tmp_path / "invented.py"
    path.write_text("RATE = 1\n", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "stages.invented", _imported("stages.invented", path))
    return path


def test_one_letter_of_an_imported_module_changes_the_codes_hash(module):
    before = hash_code()
    assert hash_code() == before
    module.write_text("RATE = 2\n", encoding="utf-8")
    changed = hash_code()
    module.write_text("RATE = 1\n", encoding="utf-8")
    assert changed != before == hash_code()


def test_a_module_that_is_not_imported_has_no_say(module, monkeypatch):
    with_it = hash_code()
    monkeypatch.delitem(sys.modules, "stages.invented")
    without = hash_code()
    module.write_text("RATE = 2\n", encoding="utf-8")
    assert with_it != without == hash_code()


def test_one_letter_of_the_stage_that_is_run_changes_the_codes_hash(module, monkeypatch):
    # `python -m stages.train` is called __main__, and only its spec has its name
    monkeypatch.delitem(sys.modules, "stages.invented")
    monkeypatch.setitem(sys.modules, "__main__", _imported("stages.invented", module))
    before = hash_code()
    module.write_text("RATE = 2\n", encoding="utf-8")
    assert hash_code() != before


def test_another_torch_changes_the_codes_hash(monkeypatch):
    before = hash_code()
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    assert hash_code() != before
