"""Prepare a training from the parameters: its constant inputs (a `Job`) and the initial network."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.networks.batches import View
from stages.networks.cards import ModelCard, write_card
from stages.networks.devices import computes_bf16, prepare_for_training
from stages.networks.model_files import build_network
from stages.networks.start_weights import SCRATCH, load_start_weights
from stages.pixels.packed_splits import PackedSplit
from stages.runtime.errors import UserError
from stages.settings.reading import read_params
from stages.settings.types import Augment, ModelSettings, Recipe
from stages.training.processes import ALONE, Processes


@dataclass(frozen=True)
class Job:
    """The inputs of a training, which stay the same from the first step to the last."""

    name: str
    train: PackedSplit
    val: PackedSplit
    n_classes: int
    view: View
    settings: ModelSettings
    augment: Augment
    seed: int
    in_bf16: bool  # whether the settings ask for bf16 and the device has instructions for it
    groups: np.ndarray | None = None  # int64, one per training image: copies share a number; None: no copies
    code: str = ""  # hashes of the code that the training uses (runtime/sources.py)
    processes: Processes = ALONE

    @property
    def device(self) -> torch.device:
        return self.view.device

    @property
    def n_images(self) -> int:
        """Number of images per epoch: the training split, repeated as often as `min_steps` needs."""
        settings, n_batches = self.settings, -(-len(self.train) // self.settings.batch_size)
        return len(self.train) * max(1, -(-settings.min_steps // (max(1, settings.epochs) * n_batches)))

    @property
    def n_batches(self) -> int:
        """Number of batches per epoch; batches exceed `batch_size` only if a process would get a single image."""
        return max(1, min(-(-self.n_images // self.settings.batch_size), self.n_images // (2 * self.processes.count)))


def read_recipe(path: Path, model: str) -> Recipe:
    """Read the parameters of a training.

    Raises:
        UserError: the file has no such model, or contains a mistake.
    """
    recipe = read_params(path)
    if model not in recipe.models:
        raise UserError(
            f"{path}: models: expected one of {', '.join(recipe.models)}, found {model!r}; correct the name"
        )
    return recipe


def prepare(
    recipe: Recipe,
    model: str,
    class_names: list[str],
    splits: tuple[PackedSplit, PackedSplit],
    device: torch.device,
    *,
    groups: np.ndarray | None = None,
    code: str = "",
    processes: Processes = ALONE,
) -> tuple[nn.Module, ModelCard, Job]:
    """Build a model's network with its start weights, on the device, and the job that trains it.

    Args:
        splits: train and val.
        groups, code: as in Job.
    Returns:
        The network, its card and the job.
    Raises:
        UserError: the start weights do not fit, or there are more processes than this training can use.
    """
    settings, (train, val) = recipe.models[model], splits
    sizes_px = train.images.shape[1], settings.image_size_px
    card = write_card(settings.architecture, settings.arguments(), class_names, sizes_px, SCRATCH, train.grey_bits)
    torch.manual_seed(recipe.seed)
    network = build_network(card)
    card = replace(card, start=load_start_weights(network, Path(settings.weights), card.mean, card.std))
    in_bf16 = settings.precision == "bf16" and computes_bf16(device)
    if settings.precision == "bf16" and not in_bf16 and processes.is_first:
        print(f"{model}: {device} has no bf16 instructions; training in fp32", flush=True)
    job = Job(
        name=model,
        train=train,
        val=val,
        n_classes=len(class_names),
        view=card.view(device),
        settings=settings,
        augment=recipe.augment,
        seed=recipe.seed,
        in_bf16=in_bf16,
        groups=groups,
        code=code,
        processes=processes,
    )
    check_processes(job)
    return place_network(network, job), card, job


def check_processes(job: Job) -> None:
    """Refuse more processes than a batch has images for, and settings that several CPU processes do not support."""
    count, settings = job.processes.count, job.settings
    if count > 1 and min(settings.batch_size, len(job.train)) < 2 * count:
        raise UserError(
            f"{job.name}: {count} processes need at least two images each per batch, found batch_size "
            f"{settings.batch_size} and {len(job.train)} images; start fewer processes"
        )
    if count > 1 and settings.sync_batch_norm and job.device.type != "cuda":
        raise UserError(
            f"{job.name}: sync_batch_norm works on GPUs only, found {job.device}; set sync_batch_norm: false"
        )


def place_network(network: nn.Module, job: Job) -> nn.Module:
    """Move the network to the device, and prepare both for training."""
    prepare_for_training(job.device)
    network.to(job.device, memory_format=torch.channels_last)
    if job.settings.sync_batch_norm and job.processes.count > 1:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    if job.settings.compile != "none":
        # one graph per batch size: a graph for all sizes would depend on which size comes first
        network.compile(dynamic=False)
    return network
