"""The architectures: published sizes, one logit per class, and initial weights that depend only on the seed."""

import math

import pytest
import torch
from torch import nn

from stages.models import cnn, list_architectures, resnet50, timm, vgg
from stages.networks.batches import make_batch
from stages.networks.cards import write_card
from stages.runtime.errors import UserError

CNN = {"filters": 2, "padding": "same", "dense_units": 8, "dropout": 0.5}
VGG = {"depth": 11, "batch_norm": True, "filters": 2, "dense_units": 8, "dropout": 0.5}
RESNET = {"filters": 2}
PLAIN = {"dropout": 0.0, "drop_path": 0.0}
TINY = {  # the smallest of each architecture; for timm, a convolutional network and a transformer
    "cnn": (cnn, CNN),
    "cnn averaged": (cnn, {**CNN, "dense_units": 0}),
    "resnet50": (resnet50, RESNET),
    "timm test_resnet": (timm, {"network": "test_resnet", "dropout": 0.5, "drop_path": 0.1}),
    "timm test_vit": (timm, {"network": "test_vit", **PLAIN}),
    "vgg": (vgg, VGG),
    "vgg averaged": (vgg, {**VGG, "dense_units": 0}),
}
META = torch.device("meta")  # shapes without values, so that even a VGG is fast


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _build(module, arguments: dict) -> nn.Module:
    torch.manual_seed(1)
    return module.build_model(5, 32, **arguments)


def test_every_architecture_is_tried_here():
    assert sorted({name.partition(" ")[0] for name in TINY}) == list_architectures()


@pytest.mark.parametrize(("module", "arguments"), TINY.values(), ids=TINY)
def test_a_network_of_backbone_and_head_starts_as_the_seed_says_and_gives_a_logit_for_each_class(module, arguments):
    network, same = (_build(module, arguments) for _ in range(2))
    state = same.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert network.training
    assert [name for name, _ in network.named_children()] == ["backbone", "head"]
    assert not any(buffer.any() for name, buffer in network.named_buffers() if name.endswith("running_mean"))
    with torch.no_grad():
        logits = network(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("module", "arguments", "n_parameters"),
    [
        (resnet50, {"filters": 64}, 25_557_032),
        (vgg, {**VGG, "depth": 16, "batch_norm": False, "filters": 64, "dense_units": 4096}, 138_357_544),
        (vgg, {**VGG, "depth": 19, "batch_norm": False, "filters": 64, "dense_units": 4096}, 143_667_240),
        # the convolutions' 14,714,688, and one layer from 512 averages to 1000 classes
        (vgg, {**VGG, "depth": 16, "batch_norm": False, "filters": 64, "dense_units": 0}, 14_714_688 + 513_000),
        (timm, {"network": "resnet18", **PLAIN}, 11_689_512),
    ],
)
def test_networks_for_imagenet_have_the_published_number_of_parameters(module, arguments, n_parameters):
    with META:
        assert _count(module.build_model(1000, 224, **arguments)) == n_parameters


@pytest.mark.parametrize(
    ("theirs", "module", "arguments"),
    [
        ("resnet50", resnet50, {"filters": 64}),
        ("vgg19_bn", vgg, {**VGG, "depth": 19, "filters": 64}),
        ("vgg13", vgg, {**VGG, "depth": 13, "filters": 64, "batch_norm": False}),
    ],
)
def test_torchvisions_weights_fit_and_give_torchvisions_features(theirs, module, arguments):
    from torchvision import models

    torch.manual_seed(1)
    published = getattr(models, theirs)(weights=None)
    ours = module.build_model(5, 64, **arguments).backbone
    state = published.state_dict()
    ours.load_state_dict({name: state[name] for name in ours.state_dict()})
    layers = [published.features] if "vgg" in theirs else list(published.children())[:-1]
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), nn.Sequential(*layers)(images))  # both in training mode, with batch statistics


def test_the_small_cnn_has_the_parameters_that_a_pencil_gives():
    # blocks 3-2-2, 2-4-4, 4-8-8, 8-16-16: 9 * in * out + out for each convolution, 2 * out for the normalisation
    blocks = (56 + 38 + 4) + (76 + 148 + 8) + (296 + 584 + 16) + (1168 + 2320 + 32)
    # at 32 px 2 * 2 * 16 = 64 features are left: 64-8, 8-8, 8-3
    assert _count(cnn.build_model(3, 32, **CNN)) == blocks + (64 * 8 + 8) + (8 * 8 + 8) + (8 * 3 + 3)


@pytest.mark.parametrize(
    ("module", "arguments", "size_px"), [(cnn, {**CNN, "padding": "valid"}, 76), (vgg, VGG, 32)], ids=["cnn", "vgg"]
)
def test_the_smallest_image_is_the_smallest_that_leaves_a_pixel(module, arguments, size_px):
    settings = module.Arguments(**arguments)
    settings.check(size_px)
    with META:
        assert module.build_model(3, size_px, **arguments).head[1].in_features == 16
    with pytest.raises(ValueError, match=f"{size_px} px or more"):
        settings.check(size_px - 1)
    with META, pytest.raises(UserError, match="image_size_px"):
        module.build_model(3, size_px - 1, **arguments)


@pytest.mark.parametrize(("module", "arguments"), [(cnn, CNN), (vgg, VGG)], ids=["cnn", "vgg"])
def test_a_head_without_hidden_layers_is_one_linear_layer_on_averages_over_the_image(module, arguments):
    network = module.build_model(3, 64, **{**arguments, "dense_units": 0}).eval()
    assert [type(layer) for layer in network.head] == [nn.Flatten, nn.Dropout, nn.Linear]
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps, features = network.backbone[:-1](images), network.backbone(images)
    assert maps.shape[2] > 1
    torch.testing.assert_close(features, maps.mean(dim=(2, 3), keepdim=True))
    assert features.shape == (2, 16, 1, 1)


def test_weights_start_as_he_says_the_last_layer_near_zero_and_biases_at_zero():
    torch.manual_seed(1)
    network = cnn.build_model(3, 16, filters=8, padding="same", dense_units=64, dropout=0)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    deviations = [*(math.sqrt(2 / layer.weight[0].numel()) for layer in layers[:-1]), 0.01]
    assert len(layers) == 8 + 3
    for layer, deviation in zip(layers, deviations, strict=True):
        # the deviation of n numbers is within 4 of its own standard errors, 1 / sqrt(2 n)
        assert layer.weight.std().item() == pytest.approx(deviation, rel=4 / math.sqrt(2 * layer.weight.numel()))
        assert not layer.bias.any()


def test_timms_last_layer_starts_near_zero():
    torch.manual_seed(1)
    layer = timm.build_model(1000, 32, network="test_resnet", **PLAIN).head[-1]
    assert layer.weight.std().item() == pytest.approx(0.01, rel=4 / math.sqrt(2 * layer.weight.numel()))
    assert not layer.bias.any()


def test_timms_dropout_and_stochastic_depth_reach_the_network():
    network = timm.build_model(3, 32, network="test_convnext", dropout=0.25, drop_path=0.5)
    assert [layer.p for layer in network.head if isinstance(layer, nn.Dropout)] == [0.25]
    assert max(getattr(layer, "drop_prob", 0) or 0 for layer in network.backbone.modules()) == 0.5


@pytest.mark.parametrize(
    ("network", "white"), [("vit_small_patch16_224.augreg_in21k", (1.0, 1.0, 1.0)), ("resnet18", (2.249, 2.429, 2.640))]
)
def test_pixels_are_normalised_as_timms_weights_expect(network, white):
    card = write_card("timm", {"network": network, **PLAIN}, ["a", "b"], (1, 1), "scratch")
    images = torch.full((1, 1, 1, 3), 255, dtype=torch.uint8)
    view = card.view(torch.device("cpu"))
    assert make_batch(images, torch.tensor([0]), view).flatten().tolist() == pytest.approx(white, abs=1e-3)
