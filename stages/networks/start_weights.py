"""Where a network starts from: nothing, or a file of weights for its backbone.

The file may be timm's or torchvision's weights, a model that Quintet trained, or the user's own safetensors.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from stages.networks.lineage import SCRATCH
from stages.networks.model_files import find_misfit
from stages.runtime.errors import UserError
from stages.runtime.files import written_whole

PREFIXES = ("module.", "_orig_mod.", "model.")  # what wraps a network while it learns puts one before every name


@dataclass(frozen=True)
class Origin:
    """What a file of weights says of itself: where they are from, and how the pixels before them are normalised."""

    source: str  # ends with the licence in brackets, where it is known
    mean: tuple[float, ...]  # of the pixels in 0..1
    std: tuple[float, ...]


def write_start_weights(path: Path, state: dict[str, torch.Tensor], origin: Origin) -> None:
    """Write weights, and where they are from; the same content gives the same bytes.

    Raises:
        OSError: the disk is full, or not to be written to.
    Source: safetensors; one metadata key, since the order of several is not fixed.
    """
    # copies, since tensors that share their memory are refused
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    with written_whole(path) as temporary:
        # save_file would hide whether the disk is full
        temporary.write_bytes(save(tensors, metadata={"quintet": json.dumps(asdict(origin))}))


def load_start_weights(network: nn.Module, path: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """Copy a file's weights into `network.backbone`; the head starts anew, and a classifier in the file is left out.

    Args:
        path: safetensors in any floating-point type, whose names are the backbone's (as timm's and torchvision's are),
            or those after `backbone.`, or after one of PREFIXES before all; or a file called `scratch`.
        mean, std: how the network's pixels are normalised.
    Returns:
        What the model starts from: "scratch", or what the file says of its source, else its path; with the beginning of
        the file's sha256.
    Raises:
        UserError: the file is missing or no safetensors, or lacks a weight of the backbone, or has it in another shape
            or with numbers that are not finite, or it says that its pixels were normalised in another way.
    """
    if path.name == SCRATCH:
        return SCRATCH
    # a count that nothing reads, and that older files lack
    wanted = {key: old for key, old in network.backbone.state_dict().items() if "num_batches_tracked" not in key}
    state, says = _read(path)
    state = _strip_prefixes(path, state, wanted)
    if fault := _find_fault(wanted, state):
        has = _describe(state, says)
        raise UserError(f"{path}: expected weights of this network's backbone, found {fault} ({has}); choose others")
    theirs = {"mean": tuple(says.get("mean", mean)), "std": tuple(says.get("std", std))}
    if theirs != (ours := {"mean": tuple(mean), "std": tuple(std)}):
        raise UserError(
            f"{path}: expected weights for pixels normalised as this network's, {ours}, found {theirs}; let the "
            "block's `network` carry the tag of these weights, as timm lists it, or choose others"
        )
    network.backbone.load_state_dict({key: state[key] for key in wanted}, strict=False)
    source = says.get("source", path.as_posix())
    return f"{source} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the weights, and what the file says of itself: an Origin's fields, a ModelCard's, or nothing."""
    try:
        path.open("rb").close()  # safetensors would not say with a number what the machine refuses
        with safe_open(path, framework="pt") as file:
            says = file.metadata() or {}
            state = {name.removeprefix("backbone."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: expected a safetensors file, found none") from None
    except SafetensorError as error:
        raise UserError(f"{path}: expected a safetensors file, found none that can be read ({error})") from None
    try:
        return state, dict(json.loads(says.get("quintet", "{}")))
    except (ValueError, TypeError):
        raise UserError(f"{path}: expected JSON in its metadata `quintet`, found {says['quintet']!r:.60}") from None


def _strip_prefixes(path: Path, state: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]):
    """Take off what stands before every name, unless it stands before the network's own names, too."""
    for prefix in (*PREFIXES, *PREFIXES):  # one may stand before another, in either order
        if state and all(name.startswith(prefix) for name in state) and not wanted.keys() & state.keys():
            print(f"{path}: every name begins with `{prefix}`, which is left out", flush=True)
            state = {name.removeprefix(prefix).removeprefix("backbone."): tensor for name, tensor in state.items()}
    return state


def _describe(state: dict[str, torch.Tensor], says: dict[str, Any]) -> str:
    """Say in a few words what a file contains."""
    of = says.get("source") or (f"a model of architecture {says['architecture']}" if "architecture" in says else "")
    names = ", ".join([*state][:3])
    return f"the file has {len(state)} tensors{f' of {of}' if of else ''}: {names}{', …' if len(state) > 3 else ''}"


def _find_fault(wanted: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> str:
    needs, has = (any("running_mean" in key for key in tensors) for tensors in (wanted, state))
    if needs != has and any(key in state for key in wanted):
        return f"{'' if has else 'no '}batch normalisation (the block's `batch_norm` has to be {str(has).lower()})"
    if misfit := find_misfit(wanted, {key: state[key] for key in wanted if key in state}):
        return misfit
    for key, tensor in wanted.items():
        if tensor.is_floating_point() and not state[key].float().isfinite().all():
            return f"numbers in {key} that are not finite"
    return ""
