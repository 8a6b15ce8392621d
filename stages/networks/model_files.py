"""A trained network in one safetensors file, with everything needed to use it: architecture, classes, normalisation."""

import json
import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from stages.models import load_architecture
from stages.networks.cards import KEY, ModelCard, read_card
from stages.networks.convolutions import spare_strides
from stages.runtime.errors import UserError
from stages.runtime.files import written_whole


def build_network(card: ModelCard) -> nn.Module:
    """Build the network that `stages/models/<architecture>.py` describes, with fresh weights."""
    build_model = load_architecture(card.architecture).build_model
    return spare_strides(build_model(len(card.class_names), card.image_size_px, **card.arguments))


def save_weights(path: Path, state: dict[str, torch.Tensor], card: dict[str, Any]) -> None:
    """Write a state dict and its metadata; the same content gives the same bytes.

    Args:
        card: fields of a ModelCard; fields that are None are left out.
    Raises:
        OSError: the disk is full or read-only.
    Source: safetensors; one metadata key, because the order of several is not fixed.
    """
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    says = json.dumps({key: value for key, value in card.items() if value is not None}, ensure_ascii=False)
    try:
        with written_whole(path) as temporary:
            save_file(tensors, temporary, metadata={KEY: says})
    except SafetensorError as error:
        if found := re.search(r"os error (\d+)", str(error)):  # the only trace of the system error
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None
        raise


def load_model(path: Path) -> tuple[nn.Module, ModelCard]:
    """Rebuild a network with its weights, in evaluation mode, on the CPU.

    Raises:
        UserError: the file is missing, truncated or not a model, or this version cannot build its network.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such model file; run `dvc repro train@{path.stem}`")
    path.open("rb").close()  # raises OSError with a number, unlike safetensors
    try:
        with safe_open(path, framework="pt") as file:
            card = read_card(path, file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise UserError(
            f"{path}: expected a complete safetensors file, found {path.stat().st_size:,} bytes that cannot be read "
            f"({error}); get it again (`dvc pull`, `dvc artifacts get`), or run `dvc repro train@{path.stem}`"
        ) from None
    network = _build(path, card, state)
    return network.to(memory_format=torch.channels_last).eval(), card


def _build(path: Path, card: ModelCard, state: dict[str, torch.Tensor]) -> nn.Module:
    """Build a network that fits the weights; other versions of Quintet, torchvision or timm may build another."""
    try:
        network = build_network(card)
        wanted = network.state_dict()
        fault = find_misfit(wanted, state) or find_infinite(wanted, state)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        fault = str(error).partition("\n")[0] or type(error).__name__
    if fault:
        versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "torchvision", "timm"))
        raise UserError(
            f"{path}: expected weights for {card.architecture} {card.arguments} with {len(card.class_names)} classes, "
            f"as this version of Quintet builds it ({versions}), found {fault}; check out the revision that trained "
            "it, and install its packages (`make .venv/installed`)"
        )
    network.load_state_dict(state)
    return network


def find_infinite(new: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> str:
    """Describe the first weight with values that are infinite or not a number; "" if all are finite.

    Args:
        new: weights of the new network; its own infinite values (limits that are off, in some networks) are right.
        found: weights with the same names and shapes.
    """
    for key, tensor in found.items():
        if tensor.is_floating_point() and not (tensor.float().isfinite() | (tensor == new[key])).all():
            return f"values in {key} that are not finite"
    return ""


def find_misfit(wanted: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> str:
    """Describe the first weight that is missing, has another shape or is unknown; "" if all fit."""
    for key in [*wanted, *found]:
        if key not in found:
            return f"no {key}"
        if key not in wanted:
            return f"{key}, which this network does not have"
        if found[key].shape != wanted[key].shape:
            return f"{key} of shape {tuple(found[key].shape)} instead of {tuple(wanted[key].shape)}"
    return ""
