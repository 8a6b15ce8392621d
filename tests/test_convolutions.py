"""Gradients of convolutions are correct, also if the processor's library is wrong or would crash the process."""

import torch
from torch import nn

from stages.networks.convolutions import spare_strides


def test_a_strided_convolution_of_few_channels_gives_and_learns_the_same_in_channels_last():
    torch.manual_seed(1)
    layer = nn.Conv2d(3, 8, 1, stride=2)
    network = spare_strides(nn.Sequential(layer)).to(memory_format=torch.channels_last)
    for _ in range(8):  # corrupted memory shows only after a while
        images = torch.randn(4, 3, 64, 64).to(memory_format=torch.channels_last)
        network.zero_grad()
        maps = network(images)
        maps.square().sum().backward()
        pixels = images[:, :, ::2, ::2]
        expected = torch.einsum("oc,bchw->bohw", layer.weight[:, :, 0, 0], pixels) + layer.bias[:, None, None]
        torch.testing.assert_close(maps, expected)
        gradient = 2 * torch.einsum("bohw,bchw->oc", expected, pixels)
        torch.testing.assert_close(layer.weight.grad[:, :, 0, 0], gradient, rtol=1e-4, atol=1e-2)


def test_other_convolutions_stay_as_they_are():
    layers = [nn.Conv2d(3, 8, 2, stride=2), nn.Conv2d(3, 8, 1), nn.Conv2d(16, 8, 1, stride=2)]
    strides = [layer.stride for layer in layers]
    assert [layer.stride for layer in spare_strides(nn.Sequential(*layers))] == strides
