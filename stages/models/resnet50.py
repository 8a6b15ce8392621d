"""ResNet50: 7x7/2 stem, bottlenecks 3, 4, 6, 3, average pooling, one dense layer.

Source: He et al. 2015; the stride lies in the 3x3 convolution and parameters are named as in torchvision and timm, so
that their weights fit. Built here for its width, which torchvision's does not let choose.
"""

from typing import Annotated

from pydantic import BaseModel, Field

BLOCKS = (3, 4, 6, 3)
EXPANSION = 4  # of a block's channels in its last convolution


class Arguments(BaseModel):
    """`filters` are the stem's, and double from layer to layer; average pooling takes images of any size."""

    filters: Annotated[int, Field(ge=1, le=1024)] = 64


def build_model(n_classes: int, image_size_px: int, *, filters: int):
    """Build the network, of `backbone` and `head`; its residual branches start at zero."""
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
        width = filters * 2**number
        blocks = []
        for block in range(n_blocks):
            blocks.append(Bottleneck(n_inputs, width, EXPANSION * width, stride=2 if number and not block else 1))
            n_inputs = EXPANSION * width
        layers[f"layer{number + 1}"] = nn.Sequential(*blocks)
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    network = join_head(nn.Sequential(layers), image_size_px, (), n_classes, dropout=0)
    initialise(network)
    return network
