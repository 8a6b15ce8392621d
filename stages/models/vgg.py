"""VGG11 to VGG19: five blocks of 3x3 convolutions, and two dense layers or average pooling.

Source: Simonyan and Zisserman 2014, configurations A, B, D and E. Parameters have the names of torchvision and timm, so
that their weights fit. Unlike in timm, the dense layers take the features as they are: 2 x 2 x 512 at 64 px, not
7 x 7 x 512.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # per block
MIN_SIZE_PX = 32  # five poolings halve the image, and one pixel must remain


class Arguments(BaseModel):
    """`depth` counts the layers with weights; `filters` is the width of the first block, and doubles up to eightfold.

    `dense_units` is the width of both hidden layers; 0: no hidden layers, and the features are averaged over the image.
    Without batch normalisation, plain deep networks hardly start to learn.
    """

    depth: Literal[11, 13, 16, 19]
    batch_norm: bool
    filters: Annotated[int, Field(ge=1, le=1024)] = 64
    dense_units: Annotated[int, Field(ge=0, le=65_536)]
    dropout: Annotated[float, Field(ge=0, lt=1)]

    def check(self, image_size_px: int) -> None:
        if image_size_px < MIN_SIZE_PX:
            raise ValueError(
                f"VGG needs images of {MIN_SIZE_PX} px or more, found image_size_px = {image_size_px}; raise "
                "image_size_px"
            )


def build_model(
    n_classes: int,
    image_size_px: int,
    *,
    depth: int,
    batch_norm: bool,
    filters: int,
    dense_units: int,
    dropout: float,
):
    """Build the network with its children `backbone` and `head`, with He's initialisation."""
    from collections import OrderedDict

    from torch import nn

    from stages.models._layers import initialise, join_head

    layers: list[nn.Module] = []
    n_inputs = 3
    for number, n_convolutions in enumerate(CONVOLUTIONS[depth]):
        width = filters * min(2**number, 8)
        for _ in range(n_convolutions):
            layers.append(nn.Conv2d(n_inputs, width, 3, padding=1))
            layers += [nn.BatchNorm2d(width)] * batch_norm + [nn.ReLU(inplace=True)]
            n_inputs = width
        layers.append(nn.MaxPool2d(2))
    parts = OrderedDict[str, nn.Module](features=nn.Sequential(*layers))
    if not dense_units:
        parts["avgpool"] = nn.AdaptiveAvgPool2d(1)
    network = join_head(nn.Sequential(parts), image_size_px, dense_units, n_classes, dropout)
    initialise(network)
    return network
