"""The small CNN: four blocks of two 3x3 convolutions, two dense layers, trained from scratch."""

from torch import nn

from stages.networks.layers import initialise, join_head
from stages.runtime.errors import UserError

MIN_SIZE_VALID_PX = 76  # four times (size - 4) / 2 must leave a pixel


def build_model(n_classes: int, image_size_px: int, *, filters: int, padding: str, dense_units: int, dropout: float):
    """Build the network.

    Args:
        filters: of the first block; they double from block to block.
        padding: "valid" (the assignment's) or "same" (needed under 76 px).
    Raises:
        UserError: "valid" padding would leave nothing of images this small.
    """
    if padding == "valid" and image_size_px < MIN_SIZE_VALID_PX:
        raise UserError(
            f"models.cnn.padding: 'valid' needs images of {MIN_SIZE_VALID_PX} px or more, image_size_px is "
            f"{image_size_px}; set models.cnn.padding to 'same', or a larger image_size_px"
        )
    layers: list[nn.Module] = []
    n_inputs = 3
    for n_outputs in (filters, 2 * filters, 4 * filters, 8 * filters):
        layers += [nn.Conv2d(n_inputs, n_outputs, 3, padding=padding), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(n_outputs, n_outputs, 3, padding=padding), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2), nn.BatchNorm2d(n_outputs)]
        n_inputs = n_outputs
    network = join_head(nn.Sequential(*layers), image_size_px, (dense_units, dense_units), n_classes, dropout)
    initialise(network)
    return network
