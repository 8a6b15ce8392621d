"""Any network of timm, by its name: `{architecture: timm, network: convnext_atto, ...}`.

A name may have a tag (`resnet18.a1_in1k`): the network is the same, and the pixels are normalised as those weights
expect. The weights themselves come from `weights` in the block, as with every architecture.
"""

from typing import Annotated, Any

from pydantic import BaseModel, Field

REFUSALS = (
    AssertionError,
    RuntimeError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
)  # raised for images of a wrong size


class Arguments(BaseModel):
    """`network` is one of timm.list_models(), or of timm.list_pretrained(); `drop_path` is stochastic depth."""

    network: Annotated[str, Field(min_length=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def check(self, image_size_px: int) -> None:
        """Refuse a name that timm does not know, and an image size that the network cannot process."""
        import difflib

        import timm

        if not timm.is_model(self.network):
            known = timm.list_models()
        elif "." in self.network and not timm.is_model_pretrained(self.network):
            known = timm.list_pretrained(f"{self.network.partition('.')[0]}.*")
        else:
            self._look_at_images(image_size_px)
            return
        close = difflib.get_close_matches(self.network, known, n=3, cutoff=0.4)
        meant = f"; did you mean {' or '.join(close)}?" if close else "; timm.list_models() returns all names"
        raise ValueError(f"network: timm has no {self.network!r}{meant}")

    def _look_at_images(self, image_size_px: int) -> None:
        import torch

        try:
            with torch.device("meta"):  # no memory for the weights
                network = _create(self.network, image_size_px, self.drop_path).eval()
            rest_px = _show_picture(network, image_size_px)
        except REFUSALS as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
        else:
            if not rest_px or _takes(network, image_size_px - rest_px):  # convolutions lose edges as well
                return
            reason = f"its patches do not cover {rest_px} px at the right and lower edges"
        raise ValueError(
            f"network: {self.network} cannot process images of image_size_px = {image_size_px} ({reason}); choose "
            "another image_size_px, or another network"
        )


def _show_picture(network: Any, size_px: int) -> int:
    """Run a network on the meta device; return how many columns of the picture are in no patch.

    Patches are the windows of a convolution on the picture itself, if they do not overlap.
    """
    import torch
    from torch import nn

    rests_px = [0]

    def measure(layer: nn.Conv2d, inputs: tuple) -> None:
        is_whole = inputs[0].shape[1:] == (3, size_px, size_px)
        if is_whole and (layer.kernel_size, layer.padding) == (layer.stride, (0, 0)):
            rests_px.append(size_px % layer.stride[-1])

    for each in network.modules():
        if isinstance(each, nn.Conv2d):
            each.register_forward_pre_hook(measure)
    with torch.device("meta"):
        network(torch.zeros(2, 3, size_px, size_px))
    return max(rests_px)


def _takes(network: Any, size_px: int) -> bool:
    try:
        _show_picture(network, size_px)
    except REFUSALS:
        return False
    return True


def normalisation(*, network: str, **_: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and deviation of the pixels, in 0..1, that timm's weights of this name expect."""
    import timm

    config = timm.get_pretrained_cfg(network)
    return tuple(config.mean), tuple(config.std)


def build_model(n_classes: int, image_size_px: int, *, network: str, dropout: float, drop_path: float):
    """Build the network: `backbone` (of timm, with its initialisation, up to the pooled features) and `head`."""
    from stages.models._layers import join_head, start_near_zero

    joined = join_head(_create(network, image_size_px, drop_path), image_size_px, 0, n_classes, dropout)
    start_near_zero(joined.head[-1])
    return joined


def _create(network: str, image_size_px: int, drop_path: float):
    import timm

    options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    config = timm.get_pretrained_cfg(network)
    if config and config.fixed_input_size:  # transformers have position embeddings for one size
        options["img_size"] = image_size_px
    return timm.create_model(network, num_classes=0, **options)
