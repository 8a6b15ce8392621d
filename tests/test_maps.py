"""Features of convolutions, calculated by hand for small networks."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from stages.inference.probabilities import predict_proba, predict_with_features
from stages.networks.batches import View
from stages.networks.maps import find_layers, watched


def join(*layers: nn.Module) -> nn.Sequential:
    head = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    network = nn.Sequential(OrderedDict(backbone=nn.Sequential(*layers), head=head)).eval()
    network(torch.zeros(1, 3, 8, 8))
    return network


def test_the_last_convolution_of_each_size_counts_and_the_largest_maps_come_first():
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1), nn.Conv2d(5, 6, 4)]
    names = find_layers(join(*layers), torch.zeros(1, 3, 8, 8))
    assert names == ["backbone.2", "backbone.5", "backbone.6"]  # maps of 8, 4 and 1 pixels


def test_features_are_means_and_deviations_of_maps_before_the_activation_each_a_vector_of_length_1():
    convolution = nn.Conv2d(3, 2, 3, padding=1, bias=False)
    with torch.no_grad():  # red minus green, and blue
        convolution.weight.zero_()
        convolution.weight[0, :2, 1, 1] = torch.tensor([1.0, -1.0])
        convolution.weight[1, 2, 1, 1] = 1
    network = join(convolution, nn.ReLU(inplace=True))
    images = torch.zeros(1, 3, 2, 2)
    images[0, 0] = torch.tensor([[1.0, 1.0], [5.0, 5.0]])
    images[0, 1] = 6.0
    images[0, 2] = torch.tensor([[4.0, 8.0], [4.0, 8.0]])
    with watched(network, ["backbone.0"]) as features:
        network[0](images)
        found = features()
    # means -3 and 6, deviations 2 and 2
    np.testing.assert_allclose(found, [[-1 / 5**0.5, 2 / 5**0.5, 0.5**0.5, 0.5**0.5]], rtol=1e-6)
    with pytest.raises(KeyError), watched(network, ["backbone.0"]) as features:
        features()  # the features of the last batch are gone


def test_a_network_that_cuts_pictures_into_patches_gives_the_output_of_its_backbone():
    network = join(nn.Conv2d(3, 4, 4, stride=4), nn.Flatten(2), nn.Linear(4, 3))
    assert find_layers(network, torch.zeros(1, 3, 8, 8)) == ["backbone"]
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad(), watched(network, ["backbone"]) as features:
        output = network.backbone(images).flatten(1)
        np.testing.assert_allclose(features(), output / output.norm(dim=1, keepdim=True), rtol=1e-6)


def test_a_layer_that_sees_parts_of_a_picture_as_a_batch_gives_no_features():
    folded = [nn.Unflatten(1, (2, 2)), nn.Flatten(0, 1), nn.Conv2d(2, 2, 3, padding=1), nn.Unflatten(0, (-1, 2))]
    network = join(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 1), *folded)
    assert find_layers(network, torch.zeros(1, 3, 8, 8)) == ["backbone.1"]
    assert find_layers(
        join(nn.Unflatten(1, (3, 1)), nn.Flatten(0, 1), nn.Conv2d(1, 2, 3)), torch.zeros(1, 3, 8, 8)
    ) == ["backbone"]


def test_watching_changes_no_bit_of_an_answer():
    network = join(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3, padding=1))
    images = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    view = View(8, 8, (0.5,) * 3, (0.2,) * 3, torch.device("cpu"))
    probabilities, features = predict_with_features(network, ["backbone.2"], images, view)
    np.testing.assert_array_equal(probabilities, predict_proba(network, images, view))
    assert features.shape == (5, 10)
