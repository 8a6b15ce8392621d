"""ResNet50 whose backbone comes from pretrained weights, with one new dense layer.

Source: He et al. 2015; torchvision's network, whose parameter names timm shares.
"""

from collections import OrderedDict

from torch import nn
from torchvision import models

from stages.networks.layers import initialise, join_head


def build_model(n_classes: int, image_size_px: int):
    """Build the network; its child `backbone` takes the pretrained weights, its `head` starts anew."""
    layers = OrderedDict(models.resnet50(zero_init_residual=True).named_children())
    del layers["fc"]
    network = join_head(nn.Sequential(layers), image_size_px, (), n_classes, dropout=0)
    initialise(network)
    return network
