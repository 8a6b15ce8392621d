"""What a network's convolutions make of a picture, as a row of numbers: how it is told from pictures of another kind.

Of each size of feature maps the last convolution counts, and of each of its maps the mean and the standard deviation
over the picture: early ones tell of texture, late ones of what is on it. A network that has no convolutions with
overlapping windows (a transformer) gives the output of its backbone instead.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

BACKBONE = "backbone"


@torch.no_grad()
def find_layers(network: nn.Module, image: torch.Tensor) -> list[str]:
    """Return the names of the layers that count, the one with the largest maps first.

    Args:
        network: of a `backbone` and a `head`, in evaluation mode.
        image: float, shape (1, 3, height, width), on the network's device.
    """
    names: dict[torch.Size, str] = {}
    layers = {name: each for name, each in network.named_modules() if isinstance(each, nn.Conv2d)}
    if not any(max(each.kernel_size) > max(each.stride) for each in layers.values()):
        return [BACKBONE]

    def remember(name: str) -> Callable:
        return lambda _, __, maps: names.update({maps.shape[2:]: name})

    hooks = [each.register_forward_hook(remember(name)) for name, each in layers.items()]
    network(image)
    for hook in hooks:
        hook.remove()
    return [names[size] for size in sorted(names, key=torch.Size.numel, reverse=True)]


@contextmanager
def watched(network: nn.Module, names: Sequence[str]) -> Iterator[Callable[[], torch.Tensor]]:
    """Give a function that returns what the layers made of the last batch: float32, (batch, n_features).

    Each layer's means, and each one's deviations, are a vector of length 1.
    """
    found: dict[str, list[torch.Tensor]] = {}

    def watch(name: str) -> Callable:
        return lambda _, __, maps: found.update({name: _summarise(maps)})

    hooks = [network.get_submodule(name).register_forward_hook(watch(name)) for name in names]
    try:
        yield lambda: torch.cat([part for name in names for part in found[name]], dim=1)
    finally:
        for hook in hooks:
            hook.remove()


def identify_head(network: nn.Module) -> str:
    """Return a hash of the last layer's weights, by which a trained network is known."""
    return hashlib.sha256(network.head[-1].weight.detach().cpu().numpy().tobytes()).hexdigest()[:16]


def _summarise(maps: torch.Tensor) -> list[torch.Tensor]:
    maps = maps.detach().float().flatten(2) if maps.ndim == 4 else maps.detach().float().flatten(1)[..., None]
    parts = [maps.mean(dim=2), maps.std(dim=2, correction=0)] if maps.shape[2] > 1 else [maps[..., 0]]
    return [functional.normalize(part) for part in parts]  # of a map of one pixel nothing deviates
