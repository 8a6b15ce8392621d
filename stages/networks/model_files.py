"""A trained network in one safetensors file, with all that is needed to use it: architecture, class names, pixels."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from stages.models import load_architecture
from stages.networks.batches import MEAN, STD, View
from stages.networks.convolutions import spare_strides
from stages.runtime.errors import UserError
from stages.runtime.files import written_whole


@dataclass(frozen=True)
class ModelCard:
    """What a file of weights says of itself."""

    architecture: str  # the name of the file in stages/models
    arguments: dict[str, Any]  # of its build_model
    class_names: list[str]
    stored_size_px: int  # side of the square that an image is resized to
    image_size_px: int  # side of the centre of it that the network sees
    start: str  # "scratch", or what the weights started from
    mean: tuple[float, ...]  # of the pixels in 0..1, subtracted before the network
    std: tuple[float, ...]

    def view(self, device: torch.device) -> View:
        """Return how the network looks at images that were stored for it."""
        return View(self.stored_size_px, self.image_size_px, tuple(self.mean), tuple(self.std), device)


def write_card(
    architecture: str, arguments: dict[str, Any], class_names: list[str], sizes_px: tuple[int, int], start: str
) -> ModelCard:
    """Return a new network's card; the pixels are normalised as ImageNet's, unless its architecture says otherwise.

    Args:
        sizes_px: of the stored image, and of its centre that the network sees.
    """
    module = load_architecture(architecture)
    mean, std = module.normalisation(**arguments) if hasattr(module, "normalisation") else (MEAN, STD)
    return ModelCard(architecture, arguments, class_names, *sizes_px, start, mean, std)


def build_network(card: ModelCard) -> nn.Module:
    """Build the network that `stages/models/<architecture>.py` describes, with fresh weights."""
    build_model = load_architecture(card.architecture).build_model
    return spare_strides(build_model(len(card.class_names), card.image_size_px, **card.arguments))


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
        UserError: there is no such file, or it is another one.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such model; run `dvc repro train@{path.stem}`")
    try:
        with safe_open(path, framework="pt") as file:
            card = ModelCard(**json.loads(file.metadata()["quintet"]))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, KeyError, TypeError):
        raise UserError(
            f"{path}: expected a model that this version of Quintet has trained, found another file; name that one, or "
            f"run `dvc repro train@{path.stem}`"
        ) from None
    network = build_network(card)
    network.load_state_dict(state)
    return network.to(memory_format=torch.channels_last).eval(), card
