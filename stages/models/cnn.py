"""The small CNN: four blocks of two 3x3 convolutions, and two dense layers or average pooling."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

MIN_SIZE_VALID_PX = 76  # four times (size - 4) / 2 must leave a pixel


class Arguments(BaseModel):
    """`filters` is the width of the first block and doubles with each block. The assignment uses `valid` padding.

    `dense_units` is the width of both hidden layers; 0: no hidden layers, and the features are averaged over the image.
    """

    filters: Annotated[int, Field(ge=1, le=1024)]
    padding: Literal["same", "valid"]
    dense_units: Annotated[int, Field(ge=0, le=65_536)]
    dropout: Annotated[float, Field(ge=0, lt=1)]

    def check(self, image_size_px: int) -> None:
        if self.padding == "valid" and image_size_px < MIN_SIZE_VALID_PX:
            raise ValueError(
                f"padding: valid needs images of {MIN_SIZE_VALID_PX} px or more, but image_size_px is {image_size_px}; "
                "set padding to same, or raise image_size_px"
            )


def build_model(n_classes: int, image_size_px: int, *, filters: int, padding: str, dense_units: int, dropout: float):
    """Build the network with its children `backbone` and `head`."""
    from torch import nn

    from stages.models._layers import initialise, join_head

    layers: list[nn.Module] = []
    n_inputs = 3
    for n_outputs in (filters, 2 * filters, 4 * filters, 8 * filters):
        layers += [nn.Conv2d(n_inputs, n_outputs, 3, padding=padding), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(n_outputs, n_outputs, 3, padding=padding), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2), nn.BatchNorm2d(n_outputs)]
        n_inputs = n_outputs
    if not dense_units:
        layers.append(nn.AdaptiveAvgPool2d(1))
    network = join_head(nn.Sequential(*layers), image_size_px, dense_units, n_classes, dropout)
    initialise(network)
    return network
