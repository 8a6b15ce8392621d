"""VGG11 to VGG19: five blocks of 3x3 convolutions, and two dense layers on what they leave of the image.

Source: Simonyan and Zisserman 2014, configurations A, B, D and E; the convolutions are torchvision's, whose parameter
names timm shares. Unlike timm's, the head flattens what is there: at 64 px 2 x 2 x 512, not 7 x 7 x 512.
"""

from collections import OrderedDict
from typing import Literal

from stages.settings.types import Rate, Section, Units

CONFIGURATIONS = {11: "A", 13: "B", 16: "D", 19: "E"}
MIN_SIZE_PX = 32  # five poolings halve the image, and one pixel has to be left


class Arguments(Section):
    """`depth` counts the layers with weights; plain deep nets hardly start without batch normalisation."""

    depth: Literal[11, 13, 16, 19]
    batch_norm: bool
    dense_units: Units
    dropout: Rate

    def check(self, image_size_px: int) -> None:
        if image_size_px < MIN_SIZE_PX:
            raise ValueError(
                f"needs images of {MIN_SIZE_PX} px or more, found image_size_px = {image_size_px}; raise it"
            )


def build_model(n_classes: int, image_size_px: int, *, depth: int, batch_norm: bool, dense_units: int, dropout: float):
    """Build the network, of `backbone` and `head`, with He's initialisation."""
    from torch import nn
    from torchvision.models.vgg import cfgs, make_layers

    from stages.networks.layers import initialise, join_head

    features = make_layers(cfgs[CONFIGURATIONS[depth]], batch_norm=batch_norm)
    backbone = nn.Sequential(OrderedDict(features=features))
    network = join_head(backbone, image_size_px, (dense_units, dense_units), n_classes, dropout)
    initialise(network)
    return network
