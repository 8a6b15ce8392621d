"""Model files: the network that is loaded is the one that was saved, and what is no such file is named."""

import errno
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from stages.shared import model_files

from stages.networks.model_files import ModelCard, build_network, load_model, save_weights
from stages.runtime.errors import UserError

NETWORK = {"filters": 2, "padding": "same", "dense_units": 4, "dropout": 0.5}
CARD = ModelCard("cnn", NETWORK, ["NA", "Rose – 玫瑰"], image_size_px=16, start="scratch")


def _network() -> torch.nn.Module:
    torch.manual_seed(1)
    network = build_network(CARD)
    network(torch.randn(8, 3, 16, 16))  # so that the batch statistics are not the ones of a new network
    return network


def _save(path, network=None, card=CARD):
    save_weights(path, (network or _network()).state_dict(), asdict(card))


def test_a_loaded_network_gives_the_same_logits_as_the_saved_one(tmp_path):
    network = _network()
    _save(tmp_path / "new folder" / "cnn.safetensors", network)
    loaded, _ = load_model(tmp_path / "new folder" / "cnn.safetensors")
    images = torch.randn(5, 3, 16, 16)
    network = network.to(memory_format=torch.channels_last).eval()
    assert not loaded.training
    assert torch.equal(loaded(images), network(images))


def test_a_loaded_card_says_what_the_saved_one_said(tmp_path):
    _save(tmp_path / "cnn.safetensors")
    _, card = load_model(tmp_path / "cnn.safetensors")
    assert {**asdict(card), "mean": tuple(card.mean), "std": tuple(card.std)} == asdict(CARD)


def test_the_same_network_gives_the_same_bytes_under_any_name(tmp_path):
    network = _network()
    _save(tmp_path / "one.safetensors", network)
    _save(tmp_path / "another name.safetensors", network.to(memory_format=torch.channels_last))
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "another name.safetensors").read_bytes()


def test_nothing_but_the_file_is_left(tmp_path):
    _save(tmp_path / "cnn.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["cnn.safetensors"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cnn\.safetensors: expected a model of this pipeline"):
        load_model(tmp_path / "cnn.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
def test_a_file_cut_short_is_a_users_mistake(tmp_path, share):
    path = tmp_path / "cnn.safetensors"
    _save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"cnn\.safetensors: expected a model of this pipeline"):
        load_model(path)


def test_what_the_system_refuses_is_an_error_of_the_system_that_names_the_file(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(model_files, "save_file", refuse)
    with pytest.raises(OSError, match=r"No space left on device: .*cnn\.safetensors") as error:
        _save(tmp_path / "cnn.safetensors")
    assert error.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"quintet": '{"source": "timm"}'}, {"quintet": "?"}])
def test_weights_without_a_card_are_a_users_mistake(tmp_path, metadata):
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors", metadata=metadata)
    with pytest.raises(UserError, match=r"foreign\.safetensors: expected a model of this pipeline"):
        load_model(tmp_path / "foreign.safetensors")


def test_weights_that_do_not_fit_their_card_are_a_users_mistake(tmp_path):
    # such is a file of data/weights: the card of a whole network, the weights of its backbone
    save_weights(tmp_path / "backbone.safetensors", _network().backbone.state_dict(), asdict(CARD))
    _save(tmp_path / "shapes.safetensors", card=replace(CARD, network={**NETWORK, "filters": 3}))
    for name in ("backbone", "shapes"):
        with pytest.raises(UserError, match=rf"{name}\.safetensors: expected \S+ as float32 .*, found"):
            load_model(tmp_path / f"{name}.safetensors")


def test_a_card_of_a_model_that_is_not_here_is_a_users_mistake(tmp_path):
    _save(tmp_path / "other.safetensors", card=replace(CARD, model="vit"))
    with pytest.raises(UserError, match=r"other\.safetensors: expected a model of this pipeline"):
        load_model(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("network", "name"), [({**NETWORK, "filtres": 2}, "filtres"), ({"filters": 2, "padding": "same"}, "dense_units")]
)
def test_an_argument_that_the_network_does_not_know_or_misses_is_named(network, name):
    with pytest.raises(UserError, match=rf"models\.cnn: .*'{name}'"):
        build_network(replace(CARD, network=network))


def test_the_network_has_an_output_for_each_class():
    network = build_network(replace(CARD, class_names=["a", "b", "c", "d", "e"])).eval()
    assert network(torch.zeros(1, 3, 16, 16)).shape == (1, 5)
