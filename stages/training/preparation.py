"""A training made ready from the parameters: the network with the weights that it starts from, and its task."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from stages.networks.batches import View
from stages.networks.model_files import ModelCard, build_network, write_card
from stages.networks.start_weights import SCRATCH, load_start_weights
from stages.pixels.packed_splits import PackedSplit
from stages.runtime.errors import UserError
from stages.settings.reading import read_params
from stages.settings.types import Recipe
from stages.training.loop import Task
from stages.training.processes import ALONE, Processes


def read_recipe(path: Path, model: str) -> Recipe:
    """Read the parameters of a training.

    Raises:
        UserError: they have no such model, or a mistake.
    """
    recipe = read_params(path)
    if model not in recipe.models:
        raise UserError(f"{path}: models: expected one of {', '.join(recipe.models)}, found no {model!r}")
    return recipe


def prepare(
    recipe: Recipe,
    model: str,
    class_names: list[str],
    splits: tuple[PackedSplit, PackedSplit],
    device: torch.device,
    processes: Processes = ALONE,
) -> tuple[nn.Module, ModelCard, Task]:
    """Build a model's network, as the seed and its start weights have it, and say what it is trained on.

    Args:
        splits: train and val.
    """
    settings, (train, val) = recipe.models[model], splits
    sizes_px = train.images.shape[1], recipe.image_size_px
    card = write_card(settings.architecture, settings.arguments(), class_names, sizes_px, SCRATCH)
    torch.manual_seed(recipe.seed)
    network = build_network(card)
    card = replace(card, start=load_start_weights(network, Path(settings.weights)))
    view = View(card.image_size_px, card.mean, card.std, device)
    task = Task(
        model, train, val, len(class_names), view, settings, recipe.augment, seed=recipe.seed, processes=processes
    )
    return network, card, task
