"""ResNet50: 7x7/2 stem, bottlenecks 3, 4, 6, 3, average pooling, one dense layer.

Source: He et al. 2015. The stride is in the 3x3 convolution, and parameters have the names of torchvision and timm, so
that their weights fit. It is built here because torchvision's version has a fixed width, and importing torchvision
takes as long as importing torch.
"""

from typing import Annotated

from pydantic import BaseModel, Field

BLOCKS = (3, 4, 6, 3)


class Arguments(BaseModel):
    """`filters` is the width of the stem and doubles with each layer; average pooling accepts images of any size."""

    filters: Annotated[int, Field(ge=1, le=1024)] = 64


def build_model(n_classes: int, image_size_px: int, *, filters: int):
    """Build the network with its children `backbone` and `head`; its residual branches start at zero."""
    from collections import OrderedDict

    from torch import nn

    from stages.models._layers import Bottleneck, initialise, join_head

    layers = OrderedDict(
        conv1=nn.Conv2d(3, filters, 7, stride=2, padding=3, bias=False),
        bn1=nn.BatchNorm2d(filters),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(3, stride=2, padding=1),
    )
    n_inputs = filters
    for number, n_blocks in enumerate(BLOCKS):
        width, stride = filters * 2**number, 2 if number else 1
        n_outputs = Bottleneck.expansion * width
        shortcut = nn.Sequential(nn.Conv2d(n_inputs, n_outputs, 1, stride, bias=False), nn.BatchNorm2d(n_outputs))
        blocks = [Bottleneck(n_inputs, width, stride, shortcut)]
        blocks += [Bottleneck(n_outputs, width) for _ in range(n_blocks - 1)]
        for block in blocks:
            nn.init.zeros_(block.bn3.weight)  # so that it starts as the identity (Goyal et al. 2017)
        layers[f"layer{number + 1}"] = nn.Sequential(*blocks)
        n_inputs = n_outputs
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    network = join_head(nn.Sequential(layers), image_size_px, 0, n_classes, dropout=0)
    initialise(network)
    return network
