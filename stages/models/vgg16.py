"""VGG16 from scratch: five blocks of 3x3 convolutions (2, 2, 3, 3, 3) and two dense layers.

Source: Simonyan and Zisserman 2014, configuration D; the convolutions are torchvision's.
"""

from torchvision.models.vgg import cfgs, make_layers

from stages.networks.layers import initialise, join_head


def build_model(n_classes: int, image_size_px: int, *, batch_norm: bool, dense_units: int, dropout: float):
    """Build the network, with He's initialisation: deep plain nets hardly start without it."""
    backbone = make_layers(cfgs["D"], batch_norm=batch_norm)
    network = join_head(backbone, image_size_px, (dense_units, dense_units), n_classes, dropout)
    initialise(network)
    return network
