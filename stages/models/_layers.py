"""Parts of architectures: the joint of backbone and head, and He's initialisation."""

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
