"""Where a network looks: Grad-CAM on the deepest feature map that still has enough pixels.

Source: Selvaraju et al. 2017.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from stages.networks.batches import View, make_batch

MIN_SIDE_PX = 4  # smallest side of a feature map; smaller maps look the same for every image
BATCH_SIZE = 20  # a backward pass keeps the output of every layer


class FeatureMap(NamedTuple):
    """A layer or block whose output is a map, and the dimension of the output that holds the channels."""

    layer: nn.Module
    channels: int  # 1 in most networks, 3 in those that keep channels last


@torch.no_grad()
def find_map(network: nn.Module, image: torch.Tensor) -> FeatureMap | None:
    """Return the deepest layer or block whose output is a feature map of 4 x 4 pixels or more.

    Only convolutions with overlapping windows count, and blocks that contain one: cutting an image into patches, as a
    transformer does, is not looking. Outputs with an unclear channel dimension do not count either.

    Args:
        image: float, shape (1, 3, height, width), normalised.
    """
    try:
        larger = _record_shapes(network, torch.cat([torch.cat([image, image], dim=2)] * 2, dim=3))
    except (AssertionError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError):
        larger = []  # the network accepts one size only
    outputs = _record_shapes(network, image)  # last, in case the network remembers a size
    if [layer for layer, _ in outputs] != [layer for layer, _ in larger]:
        larger = outputs
    for (layer, shape), (_, changed) in reversed(list(zip(outputs, larger, strict=True))):
        channels = find_channels(shape, changed)
        if channels and min(side for axis, side in enumerate(shape) if axis not in (0, channels)) >= MIN_SIDE_PX:
            return FeatureMap(layer, channels)
    return None


def find_channels(shape: tuple[int, ...], larger: tuple[int, ...]) -> int | None:
    """Return which dimension of an output holds the channels: the one that a larger image does not change.

    Args:
        shape: (1, a, b, c), of a square image.
        larger: the shape for an image twice as large; equal to `shape` if the network accepts one size only. In that
            case rows and columns are the two adjacent dimensions of equal length.
    Returns:
        1, 2 or 3; None if the dimensions are ambiguous.
    """
    same = [axis for axis in (1, 2, 3) if shape[axis] == larger[axis]]
    if len(same) != 1:
        same = [axis for axis, rows in ((1, 2), (3, 1)) if shape[rows] == shape[rows + 1]]
    return same[0] if len(same) == 1 else None


def _record_shapes(network: nn.Module, image: torch.Tensor) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Return the layers whose outputs could be feature maps, in the order of computation."""
    found: list[tuple[nn.Module, tuple[int, ...]]] = []

    def remember(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and len(output) == len(image):
            found.append((module, tuple(output.shape)))

    hooks = [
        module.register_forward_hook(remember) for module in network.modules() if any(map(_overlaps, module.modules()))
    ]
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _overlaps(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and max(module.kernel_size) > max(module.stride)


def draw_attention(network: nn.Module, images: np.ndarray, rows: np.ndarray, view: View) -> np.ndarray:
    """Return where the network looks in each of these images, for the class that it predicts.

    Args:
        network: in evaluation mode, on the view's device.
        images: uint8, shape (n_images, stored, stored, 3).
        rows: int, shape (k,).
    Returns:
        uint8, shape (k, height, width), with the size of the feature map, 255 where it looks most; shape (0, 0, 0) if
        there is no image, or no feature map that is large enough.
    """
    maps = []
    for part in np.array_split(rows, -(-len(rows) // BATCH_SIZE)) if len(rows) else ():
        batch = make_batch(images, torch.from_numpy(part), view)
        found = find_map(network, batch[:1])
        if found is None:
            break
        maps.append(_grad_cam(network, found, batch))
    return np.concatenate(maps) if maps else np.empty((0, 0, 0), np.uint8)


def _grad_cam(network: nn.Module, found: FeatureMap, images: torch.Tensor) -> np.ndarray:
    torch.backends.cudnn.deterministic = True  # otherwise a GPU's backward pass gives other bits each time
    outputs: list[torch.Tensor] = []

    def remember(module: nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
        outputs.append(output)
        return output.clone()  # the next layer may change it in place

    hook = found.layer.register_forward_hook(remember)
    answers = network(images.requires_grad_()).max(dim=1).values
    hook.remove()
    (gradients,) = torch.autograd.grad(answers.sum(), outputs[-1:], materialize_grads=True)
    # (batch, channels, height, width)
    activations, gradients = (each.detach().movedim(found.channels, 1) for each in (outputs[-1], gradients))
    maps = (gradients.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1).relu()
    peaks = maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    return (255 * maps / peaks).round().to(torch.uint8).cpu().numpy()
