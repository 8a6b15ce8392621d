"""Pretrained weights: the backbone takes them, the head does not, and weights that do not fit say what to do."""

import hashlib
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stages.networks.start_weights import load_backbone
from stages.runtime.errors import UserError

VGG, RESNET = "vgg19_pretrained", "resnet50_pretrained"


def _network(batch_norm: bool = True, width: int = 2) -> nn.Module:
    layers = OrderedDict(conv1=nn.Conv2d(3, width, 3))
    if batch_norm:
        layers["bn1"] = nn.BatchNorm2d(width)
    return nn.Sequential(OrderedDict(backbone=nn.Sequential(layers), head=nn.Linear(width, 4)))


def _state(batch_norm: bool = True, width: int = 2) -> dict[str, torch.Tensor]:
    """Return the state of a backbone in which every number is 7."""
    state = _network(batch_norm, width).backbone.state_dict()
    return {name: torch.full_like(tensor, 7) for name, tensor in state.items()}


@pytest.fixture
def load(tmp_path):
    """Return a function that saves a state and loads it into a network's backbone."""
    path = tmp_path / "weights.safetensors"

    def save_and_load(state: dict[str, torch.Tensor], network: nn.Module | None = None, name: str = VGG) -> str:
        save_file(state, path)
        return load_backbone(network or _network(), path, name)

    return save_and_load


@pytest.mark.parametrize("batch_norm", [True, False])
def test_every_weight_of_the_backbone_is_taken_and_none_of_the_head(load, batch_norm):
    network = _network(batch_norm)
    head = {name: tensor.clone() for name, tensor in network.head.state_dict().items()}
    load({**_state(batch_norm), "head.weight": torch.full((4, 2), 7.0)}, network)
    for name, tensor in network.backbone.state_dict().items():
        assert (tensor == 7).all() or name.endswith("num_batches_tracked")
    assert all(torch.equal(tensor, head[name]) for name, tensor in network.head.state_dict().items())


def test_a_classifier_in_the_file_is_left_out(load):
    network = _network()
    load({**_state(), "fc.weight": torch.zeros(1000, 2), "pre_logits.fc1.bias": torch.zeros(9)}, network)
    assert (network.backbone.conv1.weight == 7).all()


def test_the_count_of_batches_may_be_missing(load):
    state = _state()
    del state["bn1.num_batches_tracked"]
    network = _network()
    load(state, network)
    assert (network.backbone.bn1.running_mean == 7).all()


def test_half_precision_weights_become_single_ones(load):
    network = _network()
    load({name: tensor.half() for name, tensor in _state().items()}, network)
    assert network.backbone.conv1.weight.dtype == torch.float32
    assert (network.backbone.conv1.weight == 7).all()


def test_what_the_model_starts_from_names_the_file_and_its_hash(load, tmp_path):
    start = load(_state())
    path = tmp_path / "weights.safetensors"
    assert start == f"{path.as_posix()} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"


@pytest.mark.parametrize("in_file", [True, False])
def test_another_batch_normalisation_names_the_parameter_and_its_right_value(load, in_file):
    remedy = f"set models.vgg19_pretrained.batch_norm to {str(in_file).lower()}, or choose other weights"
    with pytest.raises(UserError, match=remedy):
        load(_state(in_file), _network(not in_file))


def test_a_network_that_always_has_batch_normalisation_is_not_told_to_switch_it_off(load):
    with pytest.raises(UserError, match=r"no batch normalisation.*choose other weights") as error:
        load(_state(batch_norm=False), _network(), RESNET)
    assert "resnet50_pretrained.batch_norm" not in str(error.value)  # no such parameter


def test_a_missing_weight_is_named(load):
    state = _state()
    del state["conv1.bias"]
    with pytest.raises(UserError, match=r"a backbone of vgg19_pretrained, found no conv1\.bias.*choose other weights"):
        load(state)


def test_a_weight_of_another_shape_is_named(load):
    with pytest.raises(
        UserError, match=r"a backbone of vgg19_pretrained, found conv1\.weight of shape .*choose other weights"
    ):
        load(_state(width=3))


def test_a_network_without_a_backbone_takes_no_weights(load):
    with pytest.raises(
        UserError, match=r"stages/models/resnet50\.py: expected .* child `backbone`.*leave out --backbone"
    ):
        load(_state(), nn.Linear(2, 2), "resnet50")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(load, number):
    with pytest.raises(UserError, match=r"found numbers in conv1\.bias that are not finite; choose other weights"):
        load(_state() | {"conv1.bias": torch.tensor([7.0, number])})


def test_weights_that_are_made_here_are_made_anew_by_the_stage_that_needs_them(load, tmp_path):
    (tmp_path / "dvc.yaml").touch()
    with pytest.raises(UserError, match=r"; run `dvc repro finetune@vgg19`$"):
        load({})


def test_weights_that_do_not_fit_leave_the_network_as_it_was(load):
    network = _network()
    before = network.backbone.conv1.weight.clone()
    state = _state()
    del state["bn1.weight"]
    with pytest.raises(UserError):
        load(state, network)
    assert torch.equal(network.backbone.conv1.weight, before)


@pytest.mark.parametrize("content", [None, b"", b"no weights"])
def test_a_missing_or_damaged_file_names_the_parameter_and_its_choices(tmp_path, content):
    path = tmp_path / "vgg19.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"vgg19\.safetensors: expected weights, found none.*`weights`.*data/weights/imagenet"
    ):
        load_backbone(_network(), path, VGG)
