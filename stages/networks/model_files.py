"""A trained network in, one safetensors file with all that is needed to use it out; and the way back."""

import importlib
import inspect
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from stages.networks.batches import MEAN, STD
from stages.pixels.packed_splits import Pack, open_pack
from stages.reporting.stage_names import training_stage
from stages.runtime.errors import UserError
from stages.runtime.files import written_whole

# what reading a file that is no model, and building a network from a card that is none, can end with
UNREADABLE = (OSError, SafetensorError, LookupError, TypeError, ValueError, ImportError, AttributeError, RuntimeError)


@dataclass(frozen=True)
class ModelCard:
    """What a file of weights says of itself."""

    model: str  # the name of the file in stages/models
    network: dict[str, Any]  # the keyword arguments of its build_model
    class_names: list[str]
    image_size_px: int
    start: str  # "scratch", or what the weights started from
    mean: tuple[float, ...] = MEAN  # of the pixels in 0..1, subtracted before the network
    std: tuple[float, ...] = STD


def build_network(card: ModelCard) -> nn.Module:
    """Build the network that `stages/models/<model>.py` describes, with fresh weights."""
    module = importlib.import_module(f"stages.models.{card.model}")
    try:
        inspect.signature(module.build_model).bind(0, 0, **card.network)
    except TypeError as error:
        raise UserError(f"models.{card.model}: {error}, which stages/models/{card.model}.py says") from None
    return module.build_model(len(card.class_names), card.image_size_px, **card.network)


def save_weights(path: Path, state: dict[str, torch.Tensor], card: dict[str, Any]) -> None:
    """Write a state dict with what the file says of itself; the same content gives the same bytes.

    Raises:
        OSError: the disk is full, or not to be written to.
    Source: safetensors; one metadata key, since the order of several is not fixed.
    """
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    try:
        with written_whole(path) as temporary:
            save_file(tensors, temporary, metadata={"quintet": json.dumps(card, ensure_ascii=False)})
    except SafetensorError as error:
        if found := re.search(r"os error (\d+)", str(error)):  # all that it tells of what the system refused
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None
        raise


def load_model(path: Path) -> tuple[nn.Module, ModelCard]:
    """Rebuild a network with its weights, in evaluation mode, on the CPU.

    Raises:
        UserError: the file is missing, damaged, or not a model of this pipeline.
    """
    remedy = f"run `dvc repro {training_stage(path.stem)}`"
    try:
        path.open("rb").close()  # safetensors would not say with a number what the machine refuses
        with safe_open(path, framework="pt") as file:
            card = ModelCard(**json.loads(file.metadata()["quintet"]))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        check_card(card)
        network = build_network(card)
    except PermissionError:  # it may be whole: run_stage says what to do
        raise
    except UNREADABLE as error:
        raise UserError(f"{path}: expected a model of this pipeline, found none ({error}); {remedy}") from None
    if fault := find_fault(network.state_dict(), state):
        raise UserError(f"{path}: {fault}; {remedy}")
    network.load_state_dict(state)
    return network.to(memory_format=torch.channels_last).eval(), card


def check_card(card: ModelCard) -> None:
    """Refuse a card that no training has written.

    Raises:
        ValueError: a field is of another type, or the network would see pixels that are scaled in another way.
    """
    names = card.class_names
    if not isinstance(card.model, str) or not card.model.isidentifier() or not isinstance(card.network, dict):
        raise ValueError(f"model {card.model!r} of {card.network!r}")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise ValueError(f"class_names {names!r}")
    if type(card.image_size_px) is not int or card.image_size_px < 1 or not isinstance(card.start, str):
        raise ValueError(f"image_size_px {card.image_size_px!r}, start {card.start!r}")
    if (tuple(card.mean), tuple(card.std)) != (MEAN, STD):
        raise ValueError(f"mean {card.mean} and std {card.std} instead of {MEAN} and {STD}")


def find_fault(wanted: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> str:
    """Say which weight was expected and what was found if the state is not the network's; an empty text if it is."""
    for name in [*wanted, *state]:
        expected, found = (_describe(tensors.get(name)) for tensors in (wanted, state))
        if expected != found:
            return f"expected {name} as {expected}, found {found}"
        if not state[name].isfinite().all():
            return f"expected finite weights, found others in {name}"
    return ""


def _describe(tensor: torch.Tensor | None) -> str:
    return "none" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def open_packs(packed: Path, splits: Sequence[str], card: ModelCard) -> dict[str, Pack]:
    """Open the packs of some splits, whose images the card's network is to look at.

    Raises:
        UserError: a pack is missing, damaged or of other classes, or its images are smaller than the network's.
    """
    packs = {split: open_pack(packed / split, len(card.class_names)) for split in splits}
    for split, pack in packs.items():
        if pack.images.shape[1] < card.image_size_px:
            raise UserError(
                f"{packed / split / 'images.npy'}: expected images of {card.image_size_px} px or more, "
                f"found {pack.images.shape[1]} px; run `dvc repro pack`"
            )
    return packs
