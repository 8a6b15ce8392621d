"""A network, packed training and validation images and settings in; the best weights and the history out."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stages.shared.batches import draw_changes, evaluation_batches, iterate_batches
from stages.shared.config import Augment, FineTuneSettings, ModelSettings
from stages.shared.errors import UserError
from stages.shared.optimizers import build_optimizer, learning_rate, set_learning_rate
from stages.shared.packs import Pack
from stages.shared.progress import EpochProgress, print_epoch

EVALUATION_BATCH = 128


@dataclass(frozen=True)
class Task:
    """What is trained on what: everything that stays the same from the first step to the last."""

    name: str
    train: Pack
    val: Pack
    n_classes: int
    image_size_px: int
    settings: ModelSettings
    augment: Augment
    seed: int
    device: torch.device

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def class_weights(self) -> torch.Tensor | None:
        """Weights (n_classes,) in inverse proportion to the class counts, with a mean of 1 over the images."""
        if self.settings.class_weights == "none":
            return None
        counts = np.bincount(self.train.labels, minlength=self.n_classes)
        weights = len(self.train) / (self.n_classes * np.maximum(counts, 1))
        return torch.tensor(weights, dtype=torch.float32, device=self.device)


def fit(network: nn.Module, task: Task, on_epoch: Callable[[list[dict]], None]) -> dict[str, torch.Tensor]:
    """Train the network, and leave it with the weights of the epoch with the best validation accuracy.

    Each round is a fit of its own: it starts from the best weights so far with a new optimizer, schedule and patience.
    Patience counts the epochs since the best one of the round.

    Args:
        on_epoch: called with the history (a row an epoch) whenever an epoch has ended.
    Returns:
        The best weights, on the CPU, as a state dict.
    """
    network.to(task.device, memory_format=torch.channels_last)
    history: list[dict] = []
    best: dict[str, torch.Tensor] = {}
    for round_number in range(task.settings.rounds):
        if best:
            network.load_state_dict(best)
        optimizer = build_optimizer(network, task.settings)
        best_of_round, stale = -1.0, 0
        for epoch in range(task.settings.epochs):
            row = run_epoch(network, optimizer, task, round_number, epoch)
            improved = row["val_accuracy"] > max((old["val_accuracy"] for old in history), default=-1.0)
            history.append(row)
            if improved:
                best = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
                for old in history:
                    old["best"] = int(old is row)
            on_epoch(history)
            stale = 0 if row["val_accuracy"] > best_of_round else stale + 1
            best_of_round = max(best_of_round, row["val_accuracy"])
            if task.settings.patience and stale >= task.settings.patience:
                break
    network.load_state_dict(best)
    return best


def run_epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, task: Task, round_number: int, epoch: int
) -> dict[str, float]:
    """Train for one epoch and validate; return the row of the history."""
    started = time.perf_counter()
    number = round_number * task.settings.epochs + epoch
    n_digits = len(str(task.settings.rounds * task.settings.epochs))
    title = f"{task.name} epoch {number + 1:{n_digits}}/{task.settings.rounds * task.settings.epochs}"
    progress = EpochProgress(title, len(task.train), task.device)
    try:
        train_one_epoch(network, optimizer, task, number, epoch, progress)
    except torch.OutOfMemoryError:
        raise UserError(
            f"{task.name}: a batch of {task.settings.batch_size} images of {task.image_size_px} px does not fit into "
            f"the memory of {task.device}; lower its batch_size, or image_size_px"
        ) from None
    train_loss, train_accuracy = progress.scores()
    if not math.isfinite(train_loss):
        raise UserError(
            f"{task.name}: the loss is {train_loss} in epoch {number + 1}, at lr {optimizer.param_groups[0]['lr']:g}; "
            "try a smaller lr, a warm-up, gradient_clip, or precision fp32"
        )
    speed = progress.images_per_s()
    val_loss, val_accuracy = validate(network, task)
    row = {
        "round": round_number + 1,
        "epoch": number + 1,
        "lr": learning_rate(task.settings, epoch, 0.0),
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "best": 0,
    }
    remaining = task.settings.rounds * task.settings.epochs - number - 1
    print_epoch(title, row, speed, remaining * (time.perf_counter() - started))
    return row


def train_one_epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, task: Task, number: int, epoch: int, progress: EpochProgress
) -> None:
    """Show the network every training image once; `number` counts epochs through the rounds, `epoch` within one."""
    settings = task.settings
    generator = torch.Generator().manual_seed(task.seed * 1_000_003 + number)
    torch.manual_seed(generator.initial_seed())  # dropout
    order = torch.randperm(len(task.train), generator=generator)
    changes = draw_changes(len(order), task.train.images.shape[1] - task.image_size_px, task.augment, generator)
    weights = task.class_weights()
    set_training_mode(network, settings, epoch)
    batches = iterate_batches(task.train, order, changes, settings.batch_size, task.image_size_px, task.device)
    for images, labels in progress.follow(batches):
        set_learning_rate(optimizer, learning_rate(settings, epoch, progress.n_seen / len(order)))
        with task.autocast():
            logits = network(images)  # (batch, n_classes)
            loss = functional.cross_entropy(logits.float(), labels, weights, label_smoothing=settings.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.gradient_clip:
            nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        optimizer.step()
        progress.add(loss, logits, labels)


def set_training_mode(network: nn.Module, settings: ModelSettings, epoch: int) -> None:
    """Set layers to training; in the frozen epochs the backbone neither learns nor moves its batch statistics."""
    network.train()
    if isinstance(settings, FineTuneSettings):
        frozen = epoch < settings.frozen_epochs
        network.backbone.train(not frozen)
        network.backbone.requires_grad_(not frozen)


@torch.no_grad()
def validate(network: nn.Module, task: Task) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy on the validation images."""
    network.eval()
    progress = EpochProgress(f"{task.name} validation", len(task.val), task.device)
    for images, labels in evaluation_batches(task.val, EVALUATION_BATCH, task.image_size_px, task.device):
        with task.autocast():
            logits = network(images)  # (batch, n_classes)
        progress.add(functional.cross_entropy(logits.float(), labels), logits, labels)
    return progress.scores()
