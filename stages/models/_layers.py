"""Parts of architectures: the joint of backbone and head, a residual block, and He's initialisation."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from stages.runtime.errors import UserError


def join_head(backbone: nn.Module, image_size_px: int, dense_units: Sequence[int], n_classes: int, dropout: float):
    """Join a backbone and a dense head that fits its real feature size.

    Args:
        backbone: maps (batch, 3, image_size_px, image_size_px) to features of any shape.
        dense_units: the width of each hidden dense layer; each is followed by ReLU and dropout.
    Returns:
        nn.Sequential with the children `backbone` and `head`; maps images to logits (batch, n_classes).
    """
    head: list[nn.Module] = [nn.Flatten()]
    n_inputs = count_features(backbone, image_size_px)
    for n_units in dense_units:
        head += [nn.Linear(n_inputs, n_units), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        n_inputs = n_units
    head.append(nn.Linear(n_inputs, n_classes))
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Sequential(*head)))


@torch.no_grad()
def count_features(backbone: nn.Module, image_size_px: int) -> int:
    """Return the number of features that the backbone gives for one image."""
    backbone.eval()  # batch normalisation must not learn from this image
    try:
        n_features = backbone(torch.zeros(1, 3, image_size_px, image_size_px)).numel()
    except RuntimeError as error:
        raise UserError(f"image_size_px: {image_size_px} leaves nothing of an image ({error}); choose more") from None
    backbone.train()
    return n_features


class Bottleneck(nn.Module):
    """A residual block of three convolutions, 1x1, 3x3 and 1x1, whose last normalisation starts at zero.

    So the block starts as the identity (Goyal et al. 2017); parameter names are torchvision's.
    """

    def __init__(self, n_inputs: int, width: int, n_outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(n_inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, n_outputs, 1, bias=False), nn.BatchNorm2d(n_outputs)
        nn.init.zeros_(self.bn3.weight)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or n_inputs != n_outputs:
            shortcut = nn.Conv2d(n_inputs, n_outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(n_outputs))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, n_inputs, height, width) to (batch, n_outputs, height / stride, width / stride)."""
        kept = images if self.downsample is None else self.downsample(images)
        images = self.relu(self.bn1(self.conv1(images)))
        images = self.relu(self.bn2(self.conv2(images)))
        return self.relu(self.bn3(self.conv3(images)) + kept)


def initialise(network: nn.Module) -> None:
    """Draw the weights of all convolutions and dense layers anew; biases start at zero.

    Source: He et al. 2015, normal with variance 2 / fan-in, for layers followed by ReLU. The last layer, which none
    follows, starts near zero, so that all classes start alike.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    nn.init.normal_(layers[-1].weight, std=0.01)
