"""Pretrained weights in, a network whose backbone starts from them out."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from stages.reporting.stage_names import training_stage
from stages.runtime.errors import UserError


def load_backbone(network: nn.Module, path: Path, name: str) -> str:
    """Copy the weights of `path` into `network.backbone`; a classifier in the file is left out.

    Args:
        path: safetensors with timm's (and torchvision's) parameter names, in any floating-point type.
        name: of the model, for the message.
    Returns:
        What the model starts from: the path and the beginning of the file's sha256.
    Raises:
        UserError: the network has no backbone; the file is missing or damaged, or lacks a weight of the backbone, or
            has it in another shape or with numbers that are not finite.
    """
    if not hasattr(network, "backbone"):
        raise UserError(
            f"stages/models/{name}.py: expected a network with a child `backbone`, to start from {path}, found none; "
            "give it one, or leave out --backbone"
        )
    state = _read_weights(path, name)
    # a count that nothing reads, and that older files lack
    wanted = {key: old for key, old in network.backbone.state_dict().items() if "num_batches_tracked" not in key}
    needs, has = (any("running_mean" in key for key in tensors) for tensors in (wanted, state))
    if needs != has and any(key in state for key in wanted):
        remedy = f"set models.{name}.batch_norm to {str(has).lower()}, or " if name.startswith("vgg") else ""
        expected, found = ("batch normalisation" if each else "no batch normalisation" for each in (needs, has))
        raise UserError(f"{path}: expected {expected}, found {found}; {remedy}choose other weights")
    if fault := _find_fault(wanted, state):
        raise UserError(f"{path}: expected a backbone of {name}, found {fault}; {_remedy(path, name)}")
    network.backbone.load_state_dict({key: state[key] for key in wanted}, strict=False)
    return f"{path.as_posix()} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"


def _read_weights(path: Path, name: str) -> dict[str, torch.Tensor]:
    try:
        path.open("rb").close()  # safetensors would not say with a number what the machine refuses
        return load_file(path)
    except PermissionError:  # it may be whole: run_stage says what to do
        raise
    except (OSError, SafetensorError) as error:
        fault = f"expected weights, found none that can be read ({error})"
        raise UserError(f"{path}: {fault}; {_remedy(path, name)}") from None


def _find_fault(wanted: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> str:
    for key, tensor in wanted.items():
        if key not in state:
            return f"no {key}"
        if state[key].shape != tensor.shape:
            return f"{key} of shape {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        if not state[key].is_floating_point() or not state[key].float().isfinite().all():
            return f"numbers in {key} that are not finite"
    return ""


def _remedy(path: Path, name: str) -> str:
    if path.with_name("dvc.yaml").is_file():  # the weights are made here
        return f"run `dvc repro {training_stage(name)}`"
    return (
        "choose other weights: the parameter `weights` names a folder with vgg19.safetensors and "
        "resnet50.safetensors: data/weights/drawn, data/weights/imagenet, or yours"
    )
