"""Attention maps, calculated by hand for a network that adds up colours."""

import numpy as np
import pytest
import torch
from torch import nn

from stages.models import resnet50
from stages.networks.attention import draw_attention, find_map
from stages.networks.batches import View
from stages.scoring.mistakes import choose_mistakes, read_attention, write_attention

VIEW = View(10, 8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), device=torch.device("cpu"))


def keep_colours(stride: int = 1) -> nn.Conv2d:
    """Return a 3 x 3 convolution that returns the middle of its window."""
    layer = nn.Conv2d(3, 3, 3, stride=stride, padding=1, bias=False)
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.weight[range(3), range(3), 1, 1] = 1
    return layer


def add_up(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()  # logits: red, green, blue


def test_the_map_is_where_the_answers_colour_is():
    images = np.zeros((2, 10, 10, 3), np.uint8)
    images[1, 1:5, 5:9, 1] = 200  # green: in the centre crop of 8 px, rows 0 to 3 and columns 4 to 7
    images[1, 5, 1, 0] = 100  # a little red, which is not the answer
    maps = draw_attention(add_up(keep_colours()), images, np.array([1]), VIEW)
    expected = np.zeros((1, 8, 8), np.uint8)
    expected[0, :4, 4:] = 255
    np.testing.assert_array_equal(maps, expected)


def test_the_deepest_map_of_four_by_four_pixels_is_looked_at():
    first, second, third = keep_colours(), keep_colours(stride=2), keep_colours(stride=2)  # 8 x 8, 4 x 4, 2 x 2
    assert find_map(add_up(first, second, third), torch.zeros(1, 3, 8, 8)) == (second, 1)
    network = resnet50.build_model(2, 32, filters=2).eval()
    assert find_map(network, torch.zeros(1, 3, 32, 32)) == (network.backbone.layer2, 1)


class ChannelsLast(nn.Module):
    """A layer with the channels last, which accepts pictures of one size only, or of any size."""

    def __init__(self, n_channels: int, size_px: int | None):
        super().__init__()
        self.convolution, self.size_px = nn.Conv2d(3, n_channels, 3, padding=1, bias=False), size_px
        with torch.no_grad():
            nn.init.zeros_(self.convolution.weight)[range(3), range(3), 1, 1] = 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.size_px:
            range(self.size_px)[images.shape[2] - 1]  # positions in a table, as in mvitv2: a larger picture has none
        return self.convolution(images).permute(0, 2, 3, 1)


class Average(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean(dim=(1, 2))[:, :3]


@pytest.mark.parametrize(("n_channels", "size_px"), [(5, 8), (8, None)], ids=["one size", "as many as rows"])
def test_a_network_that_keeps_channels_last_has_the_map_of_one_that_keeps_them_first(n_channels, size_px):
    images = np.zeros((1, 10, 10, 3), np.uint8)
    images[0, 2:4, 6:9, 1] = 200
    network = nn.Sequential(ChannelsLast(n_channels, size_px), Average()).eval()
    assert find_map(network, torch.zeros(1, 3, 8, 8)) == (network[0], 3)
    expected = draw_attention(add_up(keep_colours()), images, np.array([0]), VIEW)
    np.testing.assert_array_equal(draw_attention(network, images, np.array([0]), VIEW), expected)


def test_where_the_channels_cannot_be_told_there_is_no_map():
    network = nn.Sequential(ChannelsLast(8, 8), Average()).eval()  # 8 channels, 8 x 8, one size only
    assert find_map(network, torch.zeros(1, 3, 8, 8)) is None


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 3, 2, stride=2), nn.Identity()], ids=["patches", "no convolution"])
def test_a_network_without_overlapping_windows_has_no_map(layer: nn.Module):
    images = np.zeros((1, 10, 10, 3), np.uint8)
    assert draw_attention(add_up(layer), images, np.array([0]), VIEW).shape == (0, 0, 0)


def test_the_surest_mistakes_come_first():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
    assert choose_mistakes(np.array([1, 1, 1, 1]), probabilities, 2).tolist() == [0, 3]
    assert choose_mistakes(np.array([0, 0, 1, 0]), probabilities, 2).tolist() == []
    alike = np.tile([[0.75, 0.25], [0.9, 0.1]], (50, 1))  # the first of equal ones
    assert choose_mistakes(np.ones(100, int), alike, 100).tolist() == [*range(1, 100, 2), *range(0, 100, 2)]


def test_maps_are_read_by_the_row_of_their_image_and_none_that_is_empty(tmp_path):
    maps = np.stack([np.zeros((2, 2), np.uint8), np.eye(2, dtype=np.uint8)])
    write_attention(tmp_path / "cnn.npz", np.array([5, 3]), maps)
    (row, found), *rest = read_attention(tmp_path / "cnn.npz").items()
    assert (row, found.tolist(), rest) == (3, [[1, 0], [0, 1]], [])
