"""Where a network starts from: nothing, or a file of weights for its backbone.

The file may be timm's or torchvision's weights, a model that Quintet trained, or the user's own safetensors.
"""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from stages.runtime.errors import UserError

SCRATCH = "scratch"  # the name of the committed file that stands for no weights


def load_start_weights(network: nn.Module, path: Path) -> str:
    """Copy a file's weights into `network.backbone`; the head starts anew, and a classifier in the file is left out.

    Args:
        path: safetensors in any floating-point type, whose names are the backbone's (as timm's and torchvision's are),
            or `backbone.` and those; or a file called `scratch`.
    Returns:
        What the model starts from: "scratch", or the path and the beginning of the file's sha256.
    Raises:
        UserError: the file is missing or no safetensors, or lacks a weight of the backbone, or has it in another shape
            or with numbers that are not finite.
    """
    if path.name == SCRATCH:
        return SCRATCH
    state = _read(path)
    # a count that nothing reads, and that older files lack
    wanted = {key: old for key, old in network.backbone.state_dict().items() if "num_batches_tracked" not in key}
    if fault := _find_fault(wanted, state):
        raise UserError(f"{path}: expected weights of this network's backbone, found {fault}; choose others")
    network.backbone.load_state_dict({key: state[key] for key in wanted}, strict=False)
    return f"{path.as_posix()} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        path.open("rb").close()  # safetensors would not say with a number what the machine refuses
        with safe_open(path, framework="pt") as file:
            return {name.removeprefix("backbone."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: expected a safetensors file, found none") from None
    except SafetensorError as error:
        raise UserError(f"{path}: expected a safetensors file, found none that can be read ({error})") from None


def _find_fault(wanted: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> str:
    needs, has = (any("running_mean" in key for key in tensors) for tensors in (wanted, state))
    if needs != has and any(key in state for key in wanted):
        return f"{'' if has else 'no '}batch normalisation (the block's `batch_norm` has to be {str(has).lower()})"
    for key, tensor in wanted.items():
        if key not in state:
            return f"no {key}"
        if state[key].shape != tensor.shape:
            return f"{key} of shape {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        if tensor.is_floating_point() and not state[key].float().isfinite().all():
            return f"numbers in {key} that are not finite"
    return ""
