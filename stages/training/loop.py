"""The training loop: rounds of epochs, patience, the best weights kept, and on from where a killed one stopped."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stages.networks.batches import View, iterate_batches, predict_batches
from stages.networks.devices import prepare_for_training
from stages.pixels.packed_splits import PackedSplit
from stages.runtime.errors import UserError
from stages.settings.types import Augment, ModelSettings
from stages.training.augmentations import build_mixer, build_policy, draw_changes
from stages.training.checkpoints import Checkpoint, fingerprint
from stages.training.learner import Learner, copy_weights
from stages.training.optimizers import learning_rate
from stages.training.processes import ALONE, Processes
from stages.training.progress import EpochProgress, NotFiniteError, describe_epoch

EVALUATION_BATCH = 128


@dataclass(frozen=True)
class Task:
    """What is trained on what: everything that stays the same from the first step to the last."""

    name: str
    train: PackedSplit
    val: PackedSplit
    n_classes: int
    view: View
    settings: ModelSettings
    augment: Augment
    seed: int
    processes: Processes = ALONE

    @property
    def device(self) -> torch.device:
        return self.view.device

    def class_weights(self) -> torch.Tensor | None:
        """Weights (n_classes,) in inverse proportion to the class counts, with a mean of 1 over the images."""
        if self.settings.class_weights == "none":
            return None
        counts = np.bincount(self.train.labels, minlength=self.n_classes)
        weights = len(self.train) / (self.n_classes * np.maximum(counts, 1))
        return torch.tensor(weights, dtype=torch.float32, device=self.device)


@dataclass
class Position:
    """How far a training has come: with the learner's state and the best weights, all that it goes on from."""

    round: int = 0
    epoch: int = 0  # of the round: the one that comes next
    best_of_round: float = -1.0
    stale: int = 0  # epochs since the round's best one
    history: list[dict] = field(default_factory=list)

    def move_on(self, row: dict, settings: ModelSettings) -> bool:
        """Take in a finished epoch; return whether it is the best so far, and count rounds and patience."""
        improved = row["val_accuracy"] > max((old["val_accuracy"] for old in self.history), default=-1.0)
        self.history.append(row)
        if improved:
            for old in self.history:
                old["best"] = int(old is row)
        self.epoch += 1
        self.stale = 0 if row["val_accuracy"] > self.best_of_round else self.stale + 1
        self.best_of_round = max(self.best_of_round, row["val_accuracy"])
        if self.epoch == settings.epochs or (settings.patience and self.stale >= settings.patience):
            self.round, self.epoch, self.best_of_round, self.stale = self.round + 1, 0, -1.0, 0
        return improved


def open_checkpoint(folder: Path, network: nn.Module, task: Task, code: str) -> Checkpoint:
    """Return the checkpoint of exactly this training; wait where another process is at it.

    Args:
        folder: of all checkpoints.
        network: with its initial weights.
        code: the text that says what the training is made of (runtime/sources.py).
    """
    values = (code, task.settings, task.augment, task.seed, task.n_classes, task.view.size_px)
    return Checkpoint(folder, fingerprint(values, (task.train, task.val), network))


def fit(
    network: nn.Module, task: Task, on_epoch: Callable[[list[dict]], None], checkpoint: Checkpoint | None = None
) -> dict[str, torch.Tensor]:
    """Train the network, and leave it with the weights of the epoch with the best validation accuracy.

    Each round is a fit of its own: it starts from the best weights so far with a new optimizer, schedule and patience.
    Patience counts the epochs since the best one of the round. A training that was killed goes on after its last
    finished epoch and ends with the same bits: an epoch depends on the checkpoint, the seed and its own number alone.

    Args:
        on_epoch: called with the history (a row an epoch) whenever an epoch has ended.
    Returns:
        The best weights, on the CPU, as a state dict.
    """
    settings = task.settings
    check_processes(task)
    network = place_network(network, task)
    position, best = Position(), {}
    learner = Learner(network, settings, task.class_weights(), task.processes, task.device)
    if settings.precision == "bf16" and not learner.in_bf16 and task.processes.is_first:
        print(f"{task.name}: no instructions for bf16 here: training in fp32", flush=True)
    if state := task.processes.tell_all(read_checkpoint(checkpoint, task)):
        position = Position(**state["position"])
        if state["learner"]:
            learner.load_state_dict(state["learner"])
        best = state["best"] or copy_weights(learner.best_network())
    if position.history and task.processes.is_first:
        on_epoch(position.history)  # DVC has deleted what the killed process wrote
    while position.round < settings.rounds:
        round_before = position.round
        row, line = run_epoch(learner, task, position)
        improved = position.move_on(row, settings)
        if improved:
            best = copy_weights(learner.best_network(), into=best)
        if round_before < position.round < settings.rounds:
            network.load_state_dict(best)
            learner = Learner(network, settings, task.class_weights(), task.processes, task.device)
        if task.processes.is_first:
            on_epoch(position.history)
        if checkpoint:
            is_over = position.round == settings.rounds
            # the best weights are those of the learner if the epoch was the best; half a gigabyte is not written twice
            rest = None if improved and position.epoch else best
            state = None if is_over else learner.state_dict()
            checkpoint.write({"position": asdict(position), "learner": state, "best": rest})
            if is_over:
                checkpoint.wait()  # before it says so: whatever happens from here on, the last epoch is not run again
        if task.processes.is_first:
            print(line, flush=True)
    network.load_state_dict(best)
    return best


def place_network(network: nn.Module, task: Task) -> nn.Module:
    """Bring the network to the device, and both into the state in which it is to learn."""
    prepare_for_training(task.device)
    network.to(task.device, memory_format=torch.channels_last)
    if task.settings.sync_batch_norm and task.processes.count > 1:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    if task.settings.compile != "none":
        # a graph for each size of batch: one graph for all sizes would depend on which came first
        network.compile(dynamic=False)
    return network


def check_processes(task: Task) -> None:
    """Refuse more processes than a batch can be shared among, and what they cannot do on this device."""
    count, settings = task.processes.count, task.settings
    if count > 1 and min(settings.batch_size, len(task.train)) < 2 * count:
        raise UserError(
            f"{task.name}: {count} processes need two images each of every batch, found batch_size "
            f"{settings.batch_size} and {len(task.train)} images; start fewer processes"
        )
    if count > 1 and settings.sync_batch_norm and task.device.type != "cuda":
        raise UserError(f"{task.name}: sync_batch_norm works on GPUs only, found {task.device}; set it to false")


def read_checkpoint(checkpoint: Checkpoint | None, task: Task) -> dict | None:
    """Return what a killed training left, and say so."""
    state = checkpoint.read() if checkpoint else None
    if state:
        epoch = len(state["position"]["history"])
        how = "goes on from" if state["learner"] else "was trained before: takes over"
        print(f"{task.name}: {how} {checkpoint.path}, after epoch {epoch}", flush=True)
    return state


def run_epoch(learner: Learner, task: Task, position: Position) -> tuple[dict[str, float], str]:
    """Train for one epoch and validate; return the row of the history, and the line to print."""
    started = time.perf_counter()
    settings, epoch = task.settings, position.epoch
    n_epochs = settings.rounds * settings.epochs  # at most: patience may end a round early
    number = len(position.history)
    title = f"{task.name} epoch {number + 1:{len(str(n_epochs))}}/{n_epochs}"
    progress = EpochProgress(title, len(task.train), settings.batch_size, task.device, task.processes)
    try:
        train_one_epoch(learner, task, number, epoch, progress)
        train_loss, train_accuracy = progress.scores()
    except NotFiniteError as error:
        rate = learning_rate(settings, epoch, (error.batch - 1) * settings.batch_size / len(task.train))
        raise UserError(
            f"{task.name}: the loss is not finite in epoch {number + 1}, batch {error.batch}, at lr {rate:g}; "
            "try a smaller lr, a warm-up, gradient_clip, or precision fp32"
        ) from None
    speed = progress.images_per_s()
    val_loss, val_accuracy = validate(learner, task)
    if not math.isfinite(val_loss):
        raise UserError(
            f"{task.name}: the validation loss is {val_loss} after epoch {number + 1}, at lr "
            f"{learning_rate(settings, epoch, 0.0):g}; try a smaller lr, a warm-up, gradient_clip, or precision fp32"
        )
    row = {
        "round": position.round + 1,
        "epoch": number + 1,
        "lr": learning_rate(settings, epoch, 0.0),
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "best": 0,
    }
    n_left = (settings.rounds - position.round) * settings.epochs - epoch - 1
    return row, describe_epoch(title, row, speed, n_left * (time.perf_counter() - started))


def train_one_epoch(learner: Learner, task: Task, number: int, epoch: int, progress: EpochProgress) -> None:
    """Show the network every training image once; `number` counts all epochs from 0, `epoch` those of the round."""
    batches = iterate_training(task, number)
    learner.start_epoch(epoch)
    for images, targets, labels in progress.follow(batches):
        rate = learning_rate(task.settings, epoch, progress.n_seen / progress.n_images)
        loss, logits = learner.step(images, targets, rate)
        progress.add(loss, logits, labels)
    learner.end_epoch()


def iterate_training(task: Task, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield an epoch's batches of images, their targets (mixed, where the settings say so) and their labels."""
    settings, view = task.settings, task.view
    generator = torch.Generator().manual_seed(derive_seed(task.seed, number, 0))
    torch.manual_seed(derive_seed(task.seed, number, 1 + task.processes.rank))  # dropout, policies and mixing
    order = torch.randperm(len(task.train), generator=generator)
    changes = draw_changes(len(order), task.train.images.shape[1] - view.size_px, task.augment, generator)
    policy, mix = build_policy(task.augment), build_mixer(settings, task.n_classes)
    batches = iterate_batches(task.train, order, changes, settings.batch_size, view, task.processes.share, policy)
    for images, labels in batches:
        mixed, targets = mix(images, labels) if mix else (images, labels)
        # on a GPU, MixUp leaves another layout: slower, and compiled once more
        yield mixed.contiguous(memory_format=torch.channels_last), targets, labels


def derive_seed(*numbers: int) -> int:
    """Return a seed that is another, and unrelated, for other numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


@torch.no_grad()
def validate(learner: Learner, task: Task) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy on the validation images."""
    network = learner.best_network().eval()
    # of each process; no more images than it learns from at a time
    batch_size = min(EVALUATION_BATCH, task.settings.batch_size // task.processes.count)
    progress = EpochProgress(f"{task.name} validation", len(task.val), batch_size, task.device, task.processes)

    def predict(images: torch.Tensor) -> torch.Tensor:
        with learner.autocast():
            return network(images)  # (batch, n_classes)

    for logits, labels in predict_batches(predict, task.val, batch_size, task.view, task.processes.share):
        progress.add(functional.cross_entropy(logits.float(), labels, reduction="sum"), logits, labels)
    return progress.scores()
