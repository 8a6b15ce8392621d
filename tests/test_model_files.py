"""Model files: the loaded network equals the saved one, with its metadata."""

import errno
import json
import resource
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from stages.networks.cards import write_card
from stages.networks.model_files import build_network, load_model, save_weights
from stages.runtime.errors import UserError

ARGUMENTS = {"filters": 2, "padding": "same", "dense_units": 4, "dropout": 0.5}
CARD = write_card("cnn", ARGUMENTS, ["NA", "Rose – 玫瑰"], (18, 16), "scratch")


def _network() -> torch.nn.Module:
    torch.manual_seed(1)
    network = build_network(CARD)
    network(torch.randn(8, 3, 16, 16))  # so that the batch statistics differ from those of a new network
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


@pytest.mark.parametrize("grey_bits", [None, 12])
def test_the_depth_of_grey_pictures_is_written_where_the_images_had_such_and_may_be_missing(tmp_path, grey_bits):
    path = tmp_path / "cnn.safetensors"
    save_weights(path, _network().state_dict(), asdict(replace(CARD, grey_bits=grey_bits)))
    with safe_open(path, framework="pt") as file:
        assert ("grey_bits" in file.metadata()["quintet"]) == (grey_bits is not None)
    assert load_model(path)[1].grey_bits == grey_bits


def test_the_same_network_gives_the_same_bytes_under_any_name_and_nothing_else_is_left(tmp_path):
    network = _network()
    _save(tmp_path / "one.safetensors", network)
    _save(tmp_path / "another name.safetensors", network.to(memory_format=torch.channels_last))
    one, other = sorted(tmp_path.iterdir())
    assert one.read_bytes() == other.read_bytes()


def test_a_missing_model_is_one_line_with_the_command_that_trains_it(tmp_path):
    with pytest.raises(UserError, match=r"cnn\.safetensors: .*dvc repro train@cnn"):
        load_model(tmp_path / "cnn.safetensors")


STATE = _network().state_dict()
HALF = {key: tensor for key, tensor in STATE.items() if "head" not in key}
VIT = {"network": "vit_tiny_patch16_224.of_tomorrow", "dropout": 0, "drop_path": 0}


def _change(**changes: object) -> dict[str, str]:
    """Return metadata of a model whose card has some fields changed, or removed if the value is ..."""
    card = {key: value for key, value in {**asdict(CARD), **changes}.items() if value is not ...}
    return {"quintet": json.dumps(card)}


STRANGERS = {  # metadata, weights, and what the message must name: what the file needs, and what this clone has
    "no metadata": (None, STATE, "found nothing"),
    "weights of others": ({"source": "timm vgg19"}, STATE, "found source"),
    "damaged metadata": ({"quintet": '{"arch'}, STATE, "metadata"),
    "an unknown field": (_change(depth="float"), STATE, "depth: unknown key.*architecture, arguments"),
    "a missing field": (_change(class_names=...), STATE, "class_names: missing"),
    "a field of another type": (_change(mean=0.5), STATE, "mean: .*found 0.5"),
    "an unknown architecture": (_change(architecture="perceiver"), STATE, "'perceiver'.*cnn, resnet50, timm, vgg"),
    "a part of architectures": (_change(architecture="_layers"), STATE, "'_layers'.*cnn, resnet50"),
    "an unknown argument": (_change(arguments={**ARGUMENTS, "gate": 1}), STATE, "gate: unknown key.*filters, padding"),
    "another value": (_change(arguments={**ARGUMENTS, "padding": "wrap"}), STATE, "padding: .*found 'wrap'"),
    "an unknown network of timm's": (_change(architecture="timm", arguments=VIT), STATE, "of_tomorrow.*timm [0-9]"),
    "a deviation of zero": (_change(std=[0.2, 0, 0.2]), STATE, r"std\.1: .*greater than 0"),
    "pictures that no memory holds": (_change(stored_size_px=10**6), STATE, "stored_size_px: "),
    "a centre larger than its picture": (_change(stored_size_px=CARD.image_size_px - 1), STATE, "image_size_px"),
    "a depth that is none": (_change(grey_bits=40), STATE, "grey_bits: "),
    "another shape": (_change(class_names=["a", "b", "c"]), STATE, r"head\.7\.weight of shape \(2, 4\)"),
    "a missing weight": (_change(), HALF, r"no head\.1\.weight"),
    "a weight that is no number": (
        _change(),
        {**STATE, "head.1.bias": torch.full_like(STATE["head.1.bias"], torch.nan)},
        r"head\.1\.bias .*not finite",
    ),
    "a weight too many": (_change(), {**STATE, "gate.weight": torch.ones(1)}, r"gate\.weight"),
}


@pytest.mark.parametrize(("metadata", "state", "says"), STRANGERS.values(), ids=STRANGERS)
def test_a_model_that_this_clone_cannot_open_is_one_line_with_what_it_needs_and_what_there_is(
    tmp_path, metadata, state, says
):
    save_file(state, tmp_path / "cnn.safetensors", metadata=metadata)
    with pytest.raises(UserError, match=rf"cnn\.safetensors: .*{says}") as error:
        load_model(tmp_path / "cnn.safetensors")
    assert len(error.value.args) == 1
    assert "\n" not in str(error.value)


def test_a_model_file_that_is_cut_short_anywhere_is_one_line(tmp_path):
    _save(tmp_path / "cnn.safetensors")
    content = (tmp_path / "cnn.safetensors").read_bytes()
    for end in (0, 3, 8, 100, len(content) - 1):
        (tmp_path / "cnn.safetensors").write_bytes(content[:end])
        with pytest.raises(UserError, match=r"cnn\.safetensors: .*found [0-9,]+ bytes.*dvc repro train@cnn"):
            load_model(tmp_path / "cnn.safetensors")


def test_an_older_model_that_lacks_an_argument_has_its_default(tmp_path):
    older, path = {"network": "test_resnet", "dropout": 0.0}, tmp_path / "older.safetensors"  # no drop_path
    card = write_card("timm", older, ["a", "b"], (36, 32), "scratch")
    save_weights(path, build_network(replace(card, arguments={**older, "drop_path": 0.0})).state_dict(), asdict(card))
    assert load_model(path)[1].arguments == {**older, "drop_path": 0.0}


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
