"""Start weights of a network: random weights, or a file of weights for its backbone.

The file may have weights of timm or torchvision, a model that Quintet trained, or the user's own weights.
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

from stages.networks.model_files import find_infinite, find_misfit
from stages.runtime.errors import UserError
from stages.runtime.files import written_whole
from stages.settings.types import SCRATCH


@dataclass(frozen=True)
class Origin:
    """Metadata of a file of start weights: their origin, and the normalisation of pixels that they expect."""

    source: str  # ends with the licence in brackets, if known
    mean: tuple[float, ...]  # mean of the pixels in 0..1
    std: tuple[float, ...]


def write_start_weights(path: Path, state: dict[str, torch.Tensor], origin: Origin) -> None:
    """Write weights and their origin; the same content gives the same bytes.

    Raises:
        OSError: the disk is full or read-only.
    Source: safetensors; one metadata key, because the order of several is not fixed.
    """
    # copies, because safetensors refuses tensors that share memory
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    with written_whole(path) as temporary:
        # save_file hides the error of a full disk
        temporary.write_bytes(save(tensors, metadata={"quintet": json.dumps(asdict(origin))}))


def load_start_weights(network: nn.Module, path: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """Copy the weights of a file into `network.backbone`; the head stays new, and a classifier in the file is ignored.

    Args:
        path: a safetensors file of any floating-point type. Its names are those of the backbone (as in timm and
            torchvision), perhaps after `backbone.` or other prefixes that all names share. Or a file named `scratch`.
        mean, std: normalisation of the network's pixels.
    Returns:
        The origin of the weights: "scratch"; or the source in the metadata (by default the path), with the beginning of
        the file's sha256.
    Raises:
        UserError: the file is missing or not safetensors; a weight of the backbone is missing, has another shape or is
            not finite; or the metadata name another normalisation.
    """
    if path.name == SCRATCH:
        return SCRATCH
    # a counter that nothing reads, and that older files lack
    wanted = {key: old for key, old in network.backbone.state_dict().items() if "num_batches_tracked" not in key}
    state, says = _read(path)
    state = _strip_prefixes(path, state, wanted)
    if fault := _find_fault(wanted, state):
        has = _describe(state, says)
        raise UserError(
            f"{path}: expected weights that fit this network's backbone, found {fault} ({has}); choose other weights"
        )
    theirs = {"mean": tuple(says.get("mean", mean)), "std": tuple(says.get("std", std))}
    if theirs != (ours := {"mean": tuple(mean), "std": tuple(std)}):
        raise UserError(
            f"{path}: expected weights trained with this network's normalisation {ours}, found {theirs}; add the tag "
            "of the weights to `network` in params.yaml (for example resnet18.a1_in1k), or choose other weights"
        )
    network.backbone.load_state_dict({key: state[key] for key in wanted}, strict=False)
    source = says.get("source", path.as_posix())
    return f"{source} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the weights and the metadata: the fields of an Origin or of a ModelCard, or an empty dict."""
    try:
        path.open("rb").close()  # raises OSError with a number, unlike safetensors
        with safe_open(path, framework="pt") as file:
            says = file.metadata() or {}
            state = {name.removeprefix("backbone."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(
            f"{path}: expected a safetensors file, but there is no such file; correct `weights` in params.yaml"
        ) from None
    except SafetensorError as error:
        raise UserError(
            f"{path}: expected a safetensors file, but it cannot be read ({error}); save the weights again, or choose "
            "other weights"
        ) from None
    try:
        return state, dict(json.loads(says.get("quintet", "{}")))
    except (ValueError, TypeError):
        raise UserError(
            f"{path}: expected JSON in the metadata key `quintet`, found {says['quintet']!r:.60}; choose other weights"
        ) from None


def _strip_prefixes(path: Path, state: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]):
    """Remove prefixes that all names share (wrappers of a network add `module.`, `model.`) if the rest fits."""
    removed, rest = "", state
    while not wanted.keys() & rest.keys():
        prefix = f"{min(rest, default='').partition('.')[0]}."
        if not rest or not all(name.startswith(prefix) for name in rest):
            return state
        removed += prefix
        rest = {name.removeprefix(prefix).removeprefix("backbone."): tensor for name, tensor in rest.items()}
    if removed:
        print(f"{path}: every name starts with `{removed}`; the prefix is ignored", flush=True)
    return rest


def _describe(state: dict[str, torch.Tensor], says: dict[str, Any]) -> str:
    """Summarise the content of a file in a few words."""
    of = says.get("source") or (f"a model of architecture {says['architecture']}" if "architecture" in says else "")
    names = ", ".join([*state][:3])
    return f"the file has {len(state)} tensors{f' of {of}' if of else ''}: {names}{', …' if len(state) > 3 else ''}"


def _find_fault(wanted: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> str:
    needs, has = (any("running_mean" in key for key in tensors) for tensors in (wanted, state))
    if needs != has and any(key in state for key in wanted):
        return f"{'' if has else 'no '}batch normalisation (set `batch_norm: {str(has).lower()}` in params.yaml)"
    its = {key: state[key] for key in wanted if key in state}
    return find_misfit(wanted, its) or find_infinite(wanted, its)
