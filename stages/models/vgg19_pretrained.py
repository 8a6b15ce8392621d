"""VGG19 whose convolutions come from pretrained weights, its classifier replaced by new dense layers.

Source: Simonyan and Zisserman 2014, configuration E; torchvision's convolutions, whose parameter names timm shares.
"""

from collections import OrderedDict

from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from stages.networks.layers import initialise, join_head


def build_model(n_classes: int, image_size_px: int, *, batch_norm: bool, dense_units: int, dropout: float):
    """Build the network; its child `backbone` takes the pretrained weights, its `head` starts anew."""
    backbone = nn.Sequential(OrderedDict(features=make_layers(cfgs["E"], batch_norm=batch_norm)))
    network = join_head(backbone, image_size_px, (dense_units, dense_units), n_classes, dropout)
    initialise(network)
    return network
