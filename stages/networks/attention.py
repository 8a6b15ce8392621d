"""Where a network looks for its answer: Grad-CAM on the deepest feature map that is still a map.

Source: Selvaraju et al. 2017, as captum's LayerGradCam computes it.
"""

import numpy as np
import torch
from torch import nn

from stages.networks.batches import View, make_batch

MIN_SIDE_PX = 4  # of a feature map: on fewer pixels it says of every image the same
BATCH_SIZE = 20  # a backward pass keeps every layer's output


@torch.no_grad()
def find_map(network: nn.Module, image: torch.Tensor) -> nn.Module | None:
    """Return the deepest layer or block whose output is a feature map of 4 x 4 pixels or more.

    Only convolutions whose windows overlap count, and blocks that hold one: what cuts an image into patches, as a
    transformer does, looks at none of it.

    Args:
        image: float, shape (1, 3, height, width), normalised.
    """
    found: list[nn.Module] = []

    def remember(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[2:]) >= MIN_SIDE_PX:
            found.append(module)

    hooks = [
        module.register_forward_hook(remember) for module in network.modules() if any(map(_overlaps, module.modules()))
    ]
    network(image)
    for hook in hooks:
        hook.remove()
    return found[-1] if found else None


def _overlaps(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and max(module.kernel_size) > max(module.stride)


def draw_attention(network: nn.Module, images: np.ndarray, rows: np.ndarray, view: View) -> np.ndarray:
    """Return where the network looks, in each of these images, for the class that it answers.

    Args:
        network: in evaluation mode, on the view's device.
        images: uint8, shape (n_images, stored, stored, 3).
        rows: int, shape (k,).
    Returns:
        uint8, shape (k, height, width), of the feature map's size, 255 where it looks most; of shape (0, 0, 0) where
        there is no image, or no feature map that is large enough.
    """
    maps = []
    for part in np.array_split(rows, -(-len(rows) // BATCH_SIZE)) if len(rows) else ():
        batch = make_batch(images, torch.from_numpy(part), view)
        layer = find_map(network, batch[:1])
        if layer is None:
            break
        maps.append(_grad_cam(network, layer, batch))
    return np.concatenate(maps) if maps else np.empty((0, 0, 0), np.uint8)


def _grad_cam(network: nn.Module, layer: nn.Module, images: torch.Tensor) -> np.ndarray:
    from captum.attr import LayerGradCam  # seconds, which the other users of this file do not need

    torch.backends.cudnn.deterministic = True  # a GPU's backward pass would else give other bits each time
    with torch.no_grad():
        answers = network(images).argmax(dim=1)
    maps = LayerGradCam(network, layer).attribute(images, answers, relu_attributions=True)[:, 0].detach()
    peaks = maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    return (255 * maps / peaks).round().to(torch.uint8).cpu().numpy()
