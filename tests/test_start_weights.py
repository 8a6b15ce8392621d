"""Start weights: the backbone gets the weights of the file, the head does not; unsuitable weights give one line."""

import hashlib
from collections import OrderedDict
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from stages.models import resnet50, vgg
from stages.models.timm import build_model
from stages.networks.batches import MEAN, STD
from stages.networks.cards import write_card
from stages.networks.model_files import build_network, save_weights
from stages.networks.start_weights import Origin, write_start_weights
from stages.networks.start_weights import load_start_weights as load_normalised
from stages.runtime.errors import UserError
from tests.repository import ROOT

META = torch.device("meta")  # shapes without values, so that even a VGG is fast
VGG = {"filters": 64, "dense_units": 4, "dropout": 0}
PLAIN = {"dropout": 0.0, "drop_path": 0.0}


def load_start_weights(network: nn.Module, path: Path) -> str:
    return load_normalised(network, path, MEAN, STD)


def _network(batch_norm: bool = True, width: int = 2) -> nn.Module:
    layers = OrderedDict(conv1=nn.Conv2d(3, width, 3))
    if batch_norm:
        layers["bn1"] = nn.BatchNorm2d(width)
    return nn.Sequential(OrderedDict(backbone=nn.Sequential(layers), head=nn.Linear(width, 4)))


def _state(batch_norm: bool = True, width: int = 2) -> dict[str, torch.Tensor]:
    """Return the state of a backbone in which every value is 7."""
    state = _network(batch_norm, width).backbone.state_dict()
    return {name: torch.full_like(tensor, 7) for name, tensor in state.items()}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "weights.safetensors"


def test_every_weight_of_the_backbone_is_taken_and_none_of_the_head(path):
    network = _network()
    head = network.head.weight.clone()
    state = _state() | {"head.weight": torch.full((4, 2), 7.0), "fc.weight": torch.zeros(1000, 2)}
    del state["bn1.num_batches_tracked"]  # older files lack it
    save_file({name: tensor.half() for name, tensor in state.items()}, path)
    start = load_start_weights(network, path)
    for name, tensor in network.backbone.state_dict().items():
        assert name == "bn1.num_batches_tracked" or (tensor == 7).all()
    assert network.backbone.conv1.weight.dtype == torch.float32
    assert torch.equal(network.head.weight, head)
    assert start == f"{path.as_posix()} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"


def test_scratch_changes_nothing():
    network = _network()
    before = network.backbone.conv1.weight.clone()
    assert load_start_weights(network, ROOT / "data/weights/scratch") == "scratch"
    assert torch.equal(network.backbone.conv1.weight, before)


@pytest.mark.parametrize("name", ["cnn", "timm"])
def test_a_model_that_quintet_wrote_gives_its_backbone_and_not_its_head(path, name):
    arguments = {
        "cnn": {"filters": 2, "padding": "same", "dense_units": 4, "dropout": 0.0},
        "timm": {"network": "test_convnext", **PLAIN},
    }[name]
    card = write_card(name, arguments, ["a", "b"], (32, 32), "scratch")
    trained, network = (build_network(replace(card, class_names=[*names])) for names in ("ab", "abc"))
    save_weights(path, trained.state_dict(), asdict(card))
    head = network.head[-1].weight.clone()
    load_normalised(network, path, card.mean, card.std)
    state = network.backbone.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in trained.backbone.state_dict().items())
    assert torch.equal(network.head[-1].weight, head)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet", "test_convnext"])
def test_weights_of_timm_with_their_classifier_start_the_same_network_of_ours(path, name):
    theirs = timm.create_model(name, img_size=32) if name == "test_vit" else timm.create_model(name)
    save_file(theirs.state_dict(), path)
    ours = build_model(3, 32, network=name, **PLAIN)
    load_start_weights(ours, path)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    theirs.reset_classifier(0)
    with torch.no_grad():
        assert torch.equal(ours.eval().backbone(images), theirs.eval()(images))


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: vgg.build_model(3, 32, depth=19, batch_norm=True, **VGG), "vgg19_bn"),
        (lambda: vgg.build_model(3, 32, depth=16, batch_norm=False, **VGG), "vgg16"),
        (lambda: resnet50.build_model(3, 32, filters=64), "resnet50"),
        *(
            (lambda name=name: build_model(3, 224, network=name, **PLAIN), name)
            for name in ("convnext_atto", "efficientnet_b0", "efficientformer_l1", "vit_tiny_patch16_224")
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_backbone_has_the_names_and_shapes_of_timms_weights(build, name):
    with META:
        ours, theirs = build().backbone.state_dict(), timm.create_model(name).state_dict()
    assert [key for key, tensor in ours.items() if key not in theirs or theirs[key].shape != tensor.shape] == []


MISFITS = {
    "a missing weight": (lambda state: state.pop("conv1.bias"), r"no conv1\.bias"),
    "another shape": (lambda state: state.update(_state(width=3)), r"conv1\.weight of shape \(3, 3, 3, 3\)"),
    "no number": (lambda state: state["bn1.weight"].fill_(torch.nan), r"bn1\.weight that are not finite"),
    "no batch normalisation": (lambda state: [state.pop(key) for key in [*state] if "bn" in key], "`batch_norm: "),
}


@pytest.mark.parametrize(("spoil", "says"), MISFITS.values(), ids=MISFITS)
def test_weights_that_do_not_fit_are_one_line_and_change_nothing(path, spoil, says):
    network, state = _network(), _state()
    before = network.backbone.conv1.weight.clone()
    spoil(state)
    save_file(state, path)
    with pytest.raises(UserError, match=rf"weights\.safetensors: .*{says}") as error:
        load_start_weights(network, path)
    assert "\n" not in str(error.value)
    assert torch.equal(network.backbone.conv1.weight, before)


def test_an_infinite_limit_that_the_new_network_has_itself_is_right(path):
    network, state = _network(), _state()
    network.backbone.register_buffer("limit", torch.tensor(torch.inf))
    save_file({**state, "limit": torch.tensor(torch.inf)}, path)
    load_start_weights(network, path)
    save_file({**state, "limit": torch.tensor(-torch.inf)}, path)
    with pytest.raises(UserError, match="limit that are not finite"):
        load_start_weights(network, path)


HALF = (0.5, 0.5, 0.5)


def test_a_file_that_says_where_its_weights_are_from_is_named_by_that(path):
    write_start_weights(path, _state(), Origin("Mine (MIT)", HALF, HALF))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert load_normalised(_network(), path, HALF, HALF) == f"Mine (MIT) (sha256 {digest})"


@pytest.mark.parametrize("kind", ["weights", "a model of ours"])
def test_pixels_normalised_in_another_way_than_the_weights_learnt_from_are_one_line(path, kind):
    network = _network()
    before = network.backbone.conv1.weight.clone()
    if kind == "weights":
        write_start_weights(path, _state(), Origin("Mine (MIT)", HALF, HALF))
    else:
        card = {**asdict(write_card("cnn", {}, ["a"], (32, 32), "scratch")), "mean": HALF, "std": HALF}
        save_weights(path, _state(), card)
    with pytest.raises(UserError, match=r"normalised.*0\.485.*0\.5, 0\.5"):
        load_start_weights(network, path)
    assert torch.equal(network.backbone.conv1.weight, before)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.backbone.", "student.net."]
)
def test_what_stands_before_every_name_is_left_out_and_said(path, capsys, prefix):
    save_file({f"{prefix}{name}": tensor for name, tensor in _state().items()}, path)
    network = _network()
    load_start_weights(network, path)
    assert (network.backbone.conv1.weight == 7).all()
    assert prefix.partition(".")[0] in capsys.readouterr().out


def test_a_prefix_of_the_networks_own_names_stays(path):
    network = nn.Sequential(OrderedDict(backbone=nn.Sequential(OrderedDict(model=nn.Linear(2, 2)))))
    save_file({f"model.{part}": torch.full(shape, 7.0) for part, shape in (("weight", (2, 2)), ("bias", (2,)))}, path)
    load_start_weights(network, path)
    assert (network.backbone.model.weight == 7).all()


def test_weights_of_another_architecture_are_one_line_that_says_what_the_file_contains(path):
    write_start_weights(path, {"stem.weight": torch.zeros(1)}, Origin("Mine (MIT)", MEAN, STD))
    with pytest.raises(UserError, match=r"no conv1\.weight.*Mine \(MIT\).*stem\.weight"):
        load_start_weights(_network(batch_norm=False), path)


def test_batch_normalisation_that_the_network_does_not_have_is_one_line(path):
    save_file(_state(), path)
    with pytest.raises(UserError, match="`batch_norm: true`"):
        load_start_weights(_network(batch_norm=False), path)


@pytest.mark.parametrize("says", ['{"architecture"', "[1]"])
def test_damaged_metadata_are_one_line(path, says):
    save_file(_state(), path, metadata={"quintet": says})
    with pytest.raises(UserError, match=r"weights\.safetensors: .*metadata"):
        load_start_weights(_network(), path)


@pytest.mark.parametrize("content", [None, b"", b"no weights", b"\x10\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_missing_or_no_safetensors_is_one_line(path, content):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.safetensors: expected a safetensors file") as error:
        load_start_weights(_network(), path)
    assert "\n" not in str(error.value)
