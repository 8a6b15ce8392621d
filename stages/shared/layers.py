"""Sizes in, the parts that several networks share out: a network of backbone and head, the dense head, He's start."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn


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
    n_features = backbone(torch.zeros(1, 3, image_size_px, image_size_px)).numel()
    backbone.train()
    return n_features


def initialise(network: nn.Module) -> None:
    """Draw the weights of all convolutions and dense layers anew; biases start at zero.

    Source: He et al. 2015, normal with variance 2 / fan-in, for layers followed by ReLU.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
