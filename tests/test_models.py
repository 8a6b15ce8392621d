"""The five networks: their sizes against the published ones, their outputs, and the names of pretrained weights."""

import math

import pytest
import timm
import torch
from torch import nn

from stages.models import cnn, resnet50, resnet50_pretrained, vgg16, vgg19_pretrained
from stages.runtime.errors import UserError

CNN = {"filters": 2, "padding": "same", "dense_units": 8, "dropout": 0.5}
VGG = {"batch_norm": True, "dense_units": 16, "dropout": 0.5}
META = torch.device("meta")  # shapes without numbers: a VGG in no time


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("module", "n_parameters"),
    [
        (resnet50, 25_557_032),
        (resnet50_pretrained, 25_557_032),
        (vgg16, 138_357_544),
        (vgg19_pretrained, 143_667_240),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_networks_for_imagenet_have_the_published_number_of_parameters(module, n_parameters):
    settings = {"batch_norm": False, "dense_units": 4096, "dropout": 0.5} if "vgg" in module.__name__ else {}
    with META:
        assert _count(module.build_model(1000, 224, **settings)) == n_parameters


def test_the_small_cnn_has_the_parameters_that_a_pencil_gives():
    # blocks 3-2-2, 2-4-4, 4-8-8, 8-16-16: 9 * in * out + out for each convolution, 2 * out for the normalisation
    blocks = (56 + 38 + 4) + (76 + 148 + 8) + (296 + 584 + 16) + (1168 + 2320 + 32)
    # at 32 px 2 * 2 * 16 = 64 features are left: 64-8, 8-8, 8-3
    head = (64 * 8 + 8) + (8 * 8 + 8) + (8 * 3 + 3)
    assert _count(cnn.build_model(3, 32, **CNN)) == blocks + head


def test_valid_padding_needs_76_px():
    valid = {**CNN, "padding": "valid"}
    with pytest.raises(UserError, match=r"models\.cnn\.padding: 'valid' needs images of 76 px or more.*is 75"):
        cnn.build_model(3, 75, **valid)
    # 76 - 4 = 72, 36, 32, 16, 12, 6, 2, 1: one pixel of 16 channels is left
    network = cnn.build_model(3, 76, **valid)
    assert network.head[1].in_features == 16
    assert network(torch.zeros(2, 3, 76, 76)).shape == (2, 3)


@pytest.mark.parametrize(
    ("module", "size_px", "settings"),
    [
        (cnn, 48, CNN),
        (vgg16, 32, VGG),
        (resnet50, 48, {}),
        (vgg19_pretrained, 32, {**VGG, "batch_norm": False}),
        (resnet50_pretrained, 48, {}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_networks_map_images_to_a_logit_for_each_class(module, size_px, settings):
    network = module.build_model(5, size_px, **settings)
    assert network.training
    with torch.no_grad():
        logits = network(torch.randn(2, 3, size_px, size_px))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


@pytest.mark.parametrize("module", [vgg16, vgg19_pretrained], ids=["vgg16", "vgg19_pretrained"])
def test_images_too_small_for_five_poolings_are_a_users_mistake(module):
    with META, pytest.raises(UserError, match="image_size_px"):
        module.build_model(3, 31, **VGG)


@pytest.mark.parametrize(
    ("module", "settings", "timm_name"),
    [
        (vgg19_pretrained, VGG, "vgg19_bn"),
        (vgg19_pretrained, {**VGG, "batch_norm": False}, "vgg19"),
        (resnet50_pretrained, {}, "resnet50"),
    ],
    ids=["vgg19_bn", "vgg19", "resnet50"],
)
def test_backbones_have_the_weights_of_timms_networks_without_the_classifier(module, settings, timm_name):
    with META:
        network = module.build_model(5, 64, **settings)
        theirs = timm.create_model(timm_name, pretrained=False).state_dict()
    ours = {name: tensor.shape for name, tensor in network.backbone.state_dict().items()}
    classifier = ("pre_logits.", "head.", "fc.")
    assert ours == {name: tensor.shape for name, tensor in theirs.items() if not name.startswith(classifier)}


@pytest.mark.parametrize(("module", "settings"), [(vgg19_pretrained, VGG), (resnet50_pretrained, {})])
def test_a_pretrained_network_is_a_backbone_and_a_head(module, settings):
    with META:
        network = module.build_model(5, 64, **settings)
    assert [name for name, _ in network.named_children()] == ["backbone", "head"]
    assert network.head[-1].out_features == 5


def test_building_a_network_leaves_its_batch_statistics_untouched():
    for name, tensor in cnn.build_model(3, 16, **CNN).state_dict().items():
        if "running_mean" in name or "num_batches_tracked" in name:
            assert not tensor.any()


def test_weights_start_as_he_says_the_last_layer_near_zero_and_biases_at_zero():
    torch.manual_seed(1)
    network = cnn.build_model(3, 16, filters=8, padding="same", dense_units=64, dropout=0)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == 8 + 3
    deviations = [math.sqrt(2 / layer.weight[0].numel()) for layer in layers[:-1]]
    deviations.append(0.01)  # the last layer starts near zero
    for layer, deviation in zip(layers, deviations, strict=True):
        # the deviation of n numbers is within 4 of its own standard errors, 1 / sqrt(2 n)
        assert layer.weight.std().item() == pytest.approx(deviation, rel=4 / math.sqrt(2 * layer.weight.numel()))
        assert not layer.bias.any()
