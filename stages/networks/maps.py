"""Features of a picture from several depths of a network, to recognise pictures of another kind.

For each size of feature map, the features are the mean and the standard deviation of the maps of the last convolution
with this size: early maps show texture, late ones objects. A network without overlapping convolutions (a transformer)
gives the output of its backbone instead.
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
    """Return the names of the layers that give the features, the one with the largest maps first.

    Args:
        network: has a `backbone` and a `head`, in evaluation mode.
        image: float, shape (1, 3, height, width), on the network's device.
    """
    names: dict[torch.Size, str] = {}
    layers = {name: each for name, each in network.named_modules() if isinstance(each, nn.Conv2d)}
    if not any(max(each.kernel_size) > max(each.stride) for each in layers.values()):
        return [BACKBONE]

    def remember(name: str) -> Callable:
        # some networks fold heads or windows into the batch
        return lambda _, __, maps: names.update({maps.shape[2:]: name} if len(maps) == len(image) else {})

    hooks = [each.register_forward_hook(remember(name)) for name, each in layers.items()]
    network(image)
    for hook in hooks:
        hook.remove()
    return [names[size] for size in sorted(names, key=torch.Size.numel, reverse=True)] or [BACKBONE]


@contextmanager
def watched(network: nn.Module, names: Sequence[str]) -> Iterator[Callable[[], torch.Tensor]]:
    """Yield a function that returns the features of the last batch: float32, (batch, n_features).

    The means of a layer are scaled to a vector of length 1, and so are its standard deviations.
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
    """Return a hash of the weights of the last layer, which identifies a trained network."""
    return hashlib.sha256(network.head[-1].weight.detach().cpu().numpy().tobytes()).hexdigest()[:16]


def _summarise(maps: torch.Tensor) -> list[torch.Tensor]:
    maps = maps.detach().float()
    if maps.ndim != 4 or maps.shape[2:].numel() == 1:  # one pixel has no deviation
        return [functional.normalize(maps.flatten(1))]
    mean = maps.mean(dim=(2, 3))
    variance = maps.square().mean(dim=(2, 3)) - mean.square()  # ten times as fast as torch.std on channels_last
    return [functional.normalize(mean), functional.normalize(variance.clamp(min=0).sqrt())]
