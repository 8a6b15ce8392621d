"""Model files: the network that is loaded is the one that was saved, with what it says of itself."""

import errno
import resource
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from stages.networks.model_files import build_network, load_model, save_weights, write_card
from stages.runtime.errors import UserError

ARGUMENTS = {"filters": 2, "padding": "same", "dense_units": 4, "dropout": 0.5}
CARD = write_card("cnn", ARGUMENTS, ["NA", "Rose – 玫瑰"], (18, 16), "scratch")


def _network() -> torch.nn.Module:
    torch.manual_seed(1)
    network = build_network(CARD)
    network(torch.randn(8, 3, 16, 16))  # so that the batch statistics are not the ones of a new network
    return network


def _save(path, network=None) -> None:
    save_weights(path, (network or _network()).state_dict(), asdict(CARD))


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


def test_the_same_network_gives_the_same_bytes_under_any_name_and_nothing_else_is_left(tmp_path):
    network = _network()
    _save(tmp_path / "one.safetensors", network)
    _save(tmp_path / "another name.safetensors", network.to(memory_format=torch.channels_last))
    one, other = sorted(tmp_path.iterdir())
    assert one.read_bytes() == other.read_bytes()


def test_a_missing_model_is_one_line_with_the_command_that_trains_it(tmp_path):
    with pytest.raises(UserError, match=r"cnn\.safetensors: .*dvc repro train@cnn"):
        load_model(tmp_path / "cnn.safetensors")


@pytest.mark.parametrize("metadata", [None, {"source": "timm vgg19"}, {"quintet": '{"size": 3}'}])
def test_a_file_that_is_no_model_of_ours_is_one_line(tmp_path, metadata):
    save_file({"weight": torch.zeros(1)}, tmp_path / "cnn.safetensors", metadata=metadata)
    with pytest.raises(UserError, match=r"cnn\.safetensors: .*dvc repro train@cnn"):
        load_model(tmp_path / "cnn.safetensors")
    (tmp_path / "cnn.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"cnn\.safetensors: "):
        load_model(tmp_path / "cnn.safetensors")


def test_a_full_disk_is_an_error_of_the_system_that_names_the_file(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # as good as a full disk
    try:
        with pytest.raises(OSError, match=r"cnn\.safetensors") as error:
            _save(tmp_path / "cnn.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_the_network_has_an_output_for_each_class_and_the_normalisation_of_imagenet():
    assert build_network(CARD).eval()(torch.zeros(1, 3, 16, 16)).shape == (1, 2)
    assert (CARD.mean, CARD.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
