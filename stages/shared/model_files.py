"""A trained network in, one safetensors file with all that is needed to use it out; and the way back."""

import importlib
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from stages.shared.batches import MEAN, STD
from stages.shared.errors import UserError
from stages.shared.files import written_whole


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

    Source: safetensors; one metadata key, since the order of several is not fixed.
    """
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata={"quintet": json.dumps(card, ensure_ascii=False)})


def load_model(path: Path) -> tuple[nn.Module, ModelCard]:
    """Rebuild a network with its weights, in evaluation mode, on the CPU.

    Raises:
        UserError: the file is missing, damaged, or not a model of this pipeline.
    """
    try:
        with safe_open(path, framework="pt") as file:
            card = ModelCard(**json.loads(file.metadata()["quintet"]))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        network = build_network(card)
        network.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, ImportError, RuntimeError) as error:
        raise UserError(f"{path}: not a model of this pipeline ({error}); run `dvc repro`") from None
    return network.to(memory_format=torch.channels_last).eval(), card
