"""ResNet50 from scratch: 7x7/2 stem, bottlenecks 3, 4, 6, 3, average pooling, one dense layer.

Source: He et al. 2015; torchvision's network, whose stride lies in the 3x3 convolution.
"""

from torchvision import models

from stages.networks.layers import initialise


def build_model(n_classes: int, image_size_px: int):
    """Build the network; average pooling makes it independent of the images' size."""
    network = models.resnet50(num_classes=n_classes, zero_init_residual=True)
    initialise(network)
    return network
