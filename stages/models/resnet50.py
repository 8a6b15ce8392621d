"""ResNet50: 7x7/2 stem, bottlenecks 3, 4, 6, 3, average pooling, one dense layer.

Source: He et al. 2015; torchvision's network, whose stride lies in the 3x3 convolution, and whose parameter names timm
shares.
"""

from collections import OrderedDict

from stages.settings.types import Section


class Arguments(Section):
    """Nothing to choose; average pooling makes it independent of the images' size."""


def build_model(n_classes: int, image_size_px: int):
    """Build the network, of `backbone` and `head`; its residual branches start at zero."""
    from torch import nn
    from torchvision.models import resnet50

    from stages.networks.layers import initialise, join_head

    layers = OrderedDict(resnet50(zero_init_residual=True).named_children())
    del layers["fc"]
    network = join_head(nn.Sequential(layers), image_size_px, (), n_classes, dropout=0)
    initialise(network)
    return network
