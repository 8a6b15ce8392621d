"""Pretrained weights in, a network whose backbone starts from them out."""

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from stages.shared.errors import UserError


def load_backbone(network: nn.Module, path: Path, name: str) -> str:
    """Copy the weights of `path` into `network.backbone`; a classifier in the file is left out.

    Args:
        path: safetensors with timm's (and torchvision's) parameter names.
        name: of the model, for the message.
    Returns:
        What the model starts from: the path and the beginning of the file's sha256.
    Raises:
        UserError: the file is missing or damaged, or lacks a weight of the backbone, or has it in another shape.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: no readable weights ({error}); the parameter `weights` names a folder with "
            "vgg19.safetensors and resnet50.safetensors: data/weights/drawn, data/weights/imagenet, or yours"
        ) from None
    # a count that nothing reads, and that older files lack
    wanted = {key: old for key, old in network.backbone.state_dict().items() if "num_batches_tracked" not in key}
    if any("running_mean" in key for key in wanted) != any("running_mean" in key for key in state):
        has = any("running_mean" in key for key in state)
        remedy = f"set models.{name}.batch_norm to {str(has).lower()}, or " if name.startswith("vgg") else ""
        raise UserError(f"{path}: has {'' if has else 'no '}batch normalisation; {remedy}choose other weights")
    if wrong := [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]:
        raise UserError(
            f"{path}: no backbone of {name}: {wrong[0]} is missing or has another shape; choose other weights"
        )
    network.backbone.load_state_dict({key: state[key] for key in wanted}, strict=False)
    return f"{path.as_posix()} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"
