"""Replace convolutions that oneDNN, PyTorch's library on x86 processors, computes wrongly.

oneDNN writes the gradient of a 1 x 1 convolution with a stride and few channels, in the memory format channels_last,
past the end of its memory: the process dies, or the gradient is wrong. RepVGG and MobileOne start with such a layer.

Source: https://github.com/uxlfoundation/oneDNN/issues/6035
"""

from torch import nn

BLOCK = 16  # channels that AVX-512 computes at a time (AVX2: 8); with as many channels, the result is right


def spare_strides(network: nn.Module) -> nn.Module:
    """Drop the pixels that these convolutions skip, and set their stride to 1; the result is the same."""
    for layer in network.modules():
        is_point = isinstance(layer, nn.Conv2d) and (layer.kernel_size, layer.padding) == ((1, 1), (0, 0))
        if is_point and max(layer.stride) > 1 and layer.in_channels < BLOCK and layer.groups == 1:
            layer.skipped, layer.stride = layer.stride, (1, 1)
            layer.register_forward_pre_hook(_skip)
    return network


def _skip(layer: nn.Conv2d, inputs: tuple) -> tuple:
    rows, columns = layer.skipped
    return (inputs[0][:, :, ::rows, ::columns],)
