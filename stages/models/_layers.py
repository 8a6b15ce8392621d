"""Parts of architectures: a residual block, joining backbone and head, and He's initialisation."""

from collections import OrderedDict

import torch
from torch import nn

from stages.runtime.errors import UserError


class Bottleneck(nn.Module):
    """A residual block of 1x1, 3x3 and 1x1 convolutions; the last one has four times the width.

    Source: He et al. 2015, with the stride in the 3x3 convolution; names of parameters as in torchvision.
    """

    expansion = 4

    def __init__(self, n_inputs: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, self.expansion * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.expansion * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample or nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inner = self.relu(self.bn1(self.conv1(images)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        return self.relu(self.bn3(self.conv3(inner)) + self.downsample(images))


def join_head(backbone: nn.Module, image_size_px: int, dense_units: int, n_classes: int, dropout: float):
    """Join a backbone and a dense head that fits the number of its features.

    Args:
        backbone: maps (batch, 3, image_size_px, image_size_px) to features of any shape.
        dense_units: width of the two hidden dense layers, each followed by ReLU and dropout; 0: no hidden layers, and
            dropout on the features.
    Returns:
        nn.Sequential with the children `backbone` and `head`; maps images to logits (batch, n_classes).
    """
    head: list[nn.Module] = [nn.Flatten()]
    n_inputs = count_features(backbone, image_size_px)
    if dense_units:
        for n_units in (n_inputs, dense_units):
            head += [nn.Linear(n_units, dense_units), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    elif dropout:
        head.append(nn.Dropout(dropout))
    head.append(nn.Linear(dense_units or n_inputs, n_classes))
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Sequential(*head)))


@torch.no_grad()
def count_features(backbone: nn.Module, image_size_px: int) -> int:
    """Return the number of features that the backbone gives for one image."""
    backbone.eval()  # batch normalisation must not learn from this image
    try:
        n_features = backbone(torch.zeros(1, 3, image_size_px, image_size_px)).numel()
    except RuntimeError as error:
        raise UserError(
            f"image_size_px: {image_size_px} is too small for this network ({error}); choose a larger size"
        ) from None
    backbone.train()
    return n_features


def initialise(network: nn.Module) -> None:
    """Draw new random weights for all convolutions and dense layers; biases start at zero.

    Source: He et al. 2015, normal with variance 2 / fan-in, for layers followed by ReLU.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    start_near_zero(layers[-1])


def start_near_zero(layer: nn.Linear) -> None:
    """Draw small weights for the last layer, which no ReLU follows, so that all classes start equal."""
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
