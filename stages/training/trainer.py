"""The trainer: rounds of epochs, patience, the best weights, and the state from which a killed training resumes."""

import itertools
import math
import time
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from stages.networks.batches import predict_batches, send
from stages.runtime.errors import UserError
from stages.training.augmentations import derive_seed, iterate_epoch, iterate_features
from stages.training.checkpoint_folder import FEATURES
from stages.training.checkpoints import Checkpoint
from stages.training.features import read_features
from stages.training.heads import fit_head
from stages.training.job import Job
from stages.training.optimizers import build_average, build_optimizer
from stages.training.progress import NotFiniteError, add_batch, describe_epoch, follow, new_sums

DDP_NAMES = signature(DistributedDataParallel).parameters  # since torch 2.13, the second name is deprecated
SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in DDP_NAMES else "broadcast_buffers"
EVALUATION_BATCH = 128
REMEDIES = "try a smaller lr, a warm-up, gradient_clip, or precision fp32"


def fit(
    network: nn.Module, job: Job, on_epoch: Callable[[list[dict]], None], checkpoint: Checkpoint | None = None
) -> dict[str, torch.Tensor]:
    """Train the network and load the weights of its best epoch (by `keep`: accuracy or loss on val, or the last epoch).

    A killed training resumes after its last finished epoch and ends with the same bits, because an epoch depends only
    on the checkpoint, the seed and its number.

    Args:
        network: as from `prepare`.
        on_epoch: called after each epoch with the history (one row per epoch).
    Returns:
        The best weights, on the CPU, as a state dict.
    """
    folder, is_first = checkpoint.path.parent / FEATURES if checkpoint else None, job.processes.is_first
    trainer = Trainer(network, job, folder)
    if state := job.processes.tell_all(checkpoint.read() if checkpoint else None):
        trainer.load_state_dict(state)
        if is_first:
            print(f"{job.name}: resumes after epoch {trainer.number}, from {checkpoint.path}", flush=True)
            on_epoch(trainer.history)  # DVC has deleted the history of the killed process
    while not trainer.is_over:
        line = trainer.start_head() if trainer.needs_head else trainer.run_epoch()
        if is_first:
            on_epoch(trainer.history)
        if checkpoint:
            checkpoint.write(trainer.state_dict())
            if trainer.is_over:
                checkpoint.wait()  # before the line is printed, so that the last epoch is never run again
        if is_first:
            print(line, flush=True)
    network.load_state_dict(trainer.best)
    return trainer.best


class Trainer:
    """A network in training, and all state that changes during the training.

    Each round starts from the best weights so far with a new optimizer, schedule and patience. Patience counts the
    epochs since the best epoch of the round.

    Args:
        folder: folder of feature files that trainings share, or None.
    """

    def __init__(self, network: nn.Module, job: Job, folder: Path | None = None):
        self.network, self.job, self.folder = network, job, folder
        self.still = freeze_layers(network.backbone, job.settings.frozen_layers)
        self.learning = [each for each in network.backbone.parameters() if each.requires_grad]  # while not frozen
        self.class_weights = weigh_classes(job)
        self.optimizer, self.schedule = build_optimizer(network, job.settings, job.n_batches)
        self.average = build_average(network, job.settings)
        self.fresh = self.optimizer.state_dict(), self.schedule.state_dict()
        self.round, self.epoch, self.stale, self.best_of_round = 0, 0, 0, [-math.inf]
        self.history: list[dict] = []
        self.best: dict[str, torch.Tensor] = {}  # weights, on the CPU
        self.features: dict[str, np.ndarray] = {}  # features of a frozen backbone, by split

    def begin_round(self) -> None:
        self.epoch, self.stale, self.best_of_round = 0, 0, [-math.inf]
        self.features = {}  # the first round has changed the backbone
        self.optimizer.load_state_dict(self.fresh[0])
        self.schedule.load_state_dict(self.fresh[1])
        for network in (self.network, *([self.average.module] if self.average else [])):
            network.load_state_dict(self.best)

    @property
    def is_over(self) -> bool:
        return self.round == self.job.settings.rounds

    @property
    def best_network(self) -> nn.Module:
        """The network to validate and to keep: the averaged weights, if there are any."""
        return self.average.module if self.average else self.network

    @property
    def number(self) -> int:
        """Number of finished epochs in all rounds."""
        return self.history[-1]["epoch"] if self.history else 0

    @property
    def needs_head(self) -> bool:
        return self.job.settings.head_start == "logistic_regression" and not self.history

    def start_head(self) -> str:
        """Fit the head to the features of the initial backbone, as epoch 0; return the line that describes it."""
        job, head, started = self.job, self.network.head, time.perf_counter()
        if job.processes.is_first:
            groups = np.arange(len(job.train)) if job.groups is None else job.groups
            fit_head(head, self.read_features("train"), job.train.labels, groups)
        head.load_state_dict(job.processes.tell_all(head.state_dict()))
        if self.average:
            self.average.module.load_state_dict(self.network.state_dict())
        row, line = self.describe(0, 0.0, self.score("train", on_features=True), self.score("val", on_features=True))
        self.keep_best(row)
        if not job.settings.epochs:
            self.round += 1
        return f"{line}  {time.perf_counter() - started:6.0f} s"

    def run_epoch(self) -> str:
        """Train for one epoch, validate, and add a row to the history; return the line that describes the epoch."""
        settings, started = self.job.settings, time.perf_counter()
        lr = self.schedule.get_last_lr()[0]
        scores = self.train_one_epoch()
        images_per_s = self.job.n_images / (time.perf_counter() - started)
        row, line = self.describe(self.number + 1, lr, scores, self.score("val", self.on_features))
        n_left = (settings.rounds - self.round) * settings.epochs - self.epoch - 1
        self.keep_best(row)
        self.advance(row)
        left_s = n_left * (time.perf_counter() - started)
        return f"{line}  {images_per_s:6.0f} images/s  {left_s:5.0f} s left"

    def describe(
        self, epoch: int, lr: float, train: tuple[float, float], val: tuple[float, float]
    ) -> tuple[dict[str, Any], str]:
        """Return the history row of an epoch with these (loss, accuracy) pairs, and the line to print.

        Raises:
            UserError: the validation loss is not finite.
        """
        if not math.isfinite(val[0]):
            where = f"after epoch {epoch} (it began at lr {lr:g})"
            raise UserError(f"{self.job.name}: the validation loss is {val[0]} {where}; {REMEDIES}")
        row = {"round": self.round + 1, "epoch": epoch, "lr": lr, "train_loss": train[0], "train_accuracy": train[1]}
        row |= {"val_loss": val[0], "val_accuracy": val[1], "best": 0}
        return row, describe_epoch(self.title(epoch), row)

    def title(self, epoch: int) -> str:
        n_epochs = self.job.settings.rounds * self.job.settings.epochs  # at most: patience may end a round early
        return f"{self.job.name} epoch {epoch:{len(str(n_epochs))}}/{n_epochs}"

    def train_one_epoch(self) -> tuple[float, float]:
        """Train on all images of an epoch, or on their features; return the mean loss and the accuracy."""
        job, settings, sums = self.job, self.job.settings, new_sums(self.job.device)
        lr = self.schedule.get_last_lr()[0]
        self.begin_epoch()
        if self.on_features:
            batches = iterate_features(job, self.number, self.read_features("train"))
        else:
            batches = iterate_epoch(job, self.number)
        title = self.title(self.number + 1)
        try:
            for images, targets, labels in follow(batches, job.n_batches, job.n_images, title, sums, job.processes):
                loss, logits = self.step(images, targets)
                add_batch(sums, loss, logits, labels)
        except NotFiniteError as error:
            where = f"epoch {self.number + 1}, batch {error.batch} (the epoch began at lr {lr:g})"
            raise UserError(f"{job.name}: the loss is not finite in {where}; {REMEDIES}") from None
        except torch.OutOfMemoryError:
            size = f"batch_size {settings.batch_size} at {job.view.size_px} x {job.view.size_px} px"
            raise UserError(
                f"{job.name}: {size} needs more memory than {job.device} has; lower batch_size or image_size_px"
            ) from None
        self.end_epoch()
        loss, accuracy, _ = (job.processes.add_up(sums) / job.n_images).tolist()
        return loss, accuracy

    @property
    def on_features(self) -> bool:
        """Whether the backbone is frozen and the head learns from features of fixed views."""
        return bool(self.job.settings.frozen_views) and self.epoch < self.job.settings.frozen_epochs

    def read_features(self, split: str) -> np.ndarray:
        if split not in self.features:
            self.features[split] = read_features(self.network.backbone, self.job, split, self.folder)
        return self.features[split]

    def begin_epoch(self) -> None:
        """Set the layers to training mode; in frozen epochs, the backbone's weights and batch statistics stay fixed."""
        self.network.train()
        self.freeze(self.epoch < self.job.settings.frozen_epochs)
        self.parallel = self.network.head if self.on_features else self.network
        if self.job.processes.count > 1:  # wrap again, because other weights may learn now
            self.parallel = DistributedDataParallel(self.parallel, **{SYNC_BUFFERS: False})

    def freeze(self, frozen: bool) -> None:
        self.network.backbone.train(not frozen)
        for part in self.still:
            part.eval()
        if self.job.settings.frozen_batch_norm:
            for module in self.network.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        for parameter in self.learning:
            parameter.requires_grad_(not frozen)

    def step(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Train on one batch.

        Args:
            images: (batch, 3, size, size): this process's share of the batch.
            targets: int64 labels (batch,), or soft labels (batch, n_classes).
        Returns:
            The batch's mean loss times its number of images (this process's part of the sum), and logits (batch,
            n_classes).
        """
        job, settings = self.job, self.job.settings
        step = self.schedule.last_epoch % job.n_batches
        # for dropout, independent of other random numbers and of batches that are made in advance
        torch.manual_seed(derive_seed(job.seed, self.number, 1 + job.processes.rank, step, 2))
        self.optimizer.zero_grad()
        weight, n_images = self._size_of_batch(targets)
        with self._autocast():
            logits = self.parallel(images)  # (batch, n_classes)
            smoothing = {"reduction": "sum", "label_smoothing": settings.label_smoothing}
            loss = functional.cross_entropy(logits.float(), targets, self.class_weights, **smoothing) / weight
        (loss * job.processes.count).backward()  # DistributedDataParallel averages gradients
        if settings.gradient_clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_clip)
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            self.average.update(self.network, step=self.schedule.last_epoch)
        return loss.detach() * n_images, logits.detach()

    def _autocast(self) -> torch.autocast:
        enabled = self.job.in_bf16 and not self.on_features  # features and head use float32, as in evaluation
        return torch.autocast(self.job.device.type, torch.bfloat16, enabled=enabled)

    def _size_of_batch(self, targets: torch.Tensor) -> tuple[Any, Any]:
        """Return the total weight and the number of the batch's images, over all processes."""
        n_images = weight = len(targets)
        if self.class_weights is not None and not targets.is_floating_point():
            weight = self.class_weights[targets].sum()
        if self.job.processes.count == 1:
            return weight, n_images
        sizes = torch.tensor([float(weight), float(n_images)], device=self.job.device)
        return tuple(self.job.processes.add_up(sizes))

    def end_epoch(self) -> None:
        """Copy the first process's batch statistics to all processes, so that they validate the same network."""
        if self.job.processes.count > 1:
            self.parallel = self.network
            modules = [self.network, self.average.module] if self.average else [self.network]
            for buffer in itertools.chain(*(module.buffers() for module in modules)):
                torch.distributed.broadcast(buffer, src=0)

    @torch.no_grad()
    def score(self, split: str, on_features: bool = False) -> tuple[float, float]:
        """Return the mean cross-entropy and the accuracy on the images of a split, `train` or `val`."""
        job, network = self.job, self.best_network.eval()
        pack = job.train if split == "train" else job.val
        # per process, at most as many images as in a training batch
        batch_size = min(EVALUATION_BATCH, job.settings.batch_size // job.processes.count)
        mine = job.processes.share_of(0, len(pack))

        def predict(images: torch.Tensor) -> torch.Tensor:
            with self._autocast():
                return network(images)  # (batch, n_classes)

        if on_features:
            features = torch.from_numpy(self.read_features(split)[0][mine])
            predictions = (network.head(send(part, job.device)) for part in features.split(EVALUATION_BATCH))
        else:
            predictions = predict_batches(predict, pack.images[mine], batch_size, job.view)
        labels, sums = send(torch.from_numpy(pack.labels[mine]), job.device), new_sums(job.device)
        for logits in predictions:
            some, labels = labels.tensor_split([len(logits)])
            add_batch(sums, functional.cross_entropy(logits.float(), some, reduction="sum"), logits, some)
        loss, accuracy, _ = (job.processes.add_up(sums) / len(pack)).tolist()
        return loss, accuracy

    def keep_best(self, row: dict) -> None:
        """Add an epoch to the history; if it is the best so far, keep its weights."""
        keep = self.job.settings.keep
        if merit_of(row, keep) > max((merit_of(old, keep) for old in self.history), default=[-math.inf]):
            for old in self.history:
                old["best"] = 0
            row["best"] = 1
            self.best = copy_weights(self.best_network, into=self.best)
        self.history.append(row)

    def advance(self, row: dict) -> None:
        """Update the counters of epochs, patience and rounds."""
        settings, merit = self.job.settings, merit_of(row, self.job.settings.keep)
        self.epoch += 1
        self.stale = 0 if merit > self.best_of_round else self.stale + 1
        self.best_of_round = max(self.best_of_round, merit)
        if self.epoch == settings.epochs or (settings.patience and self.stale >= settings.patience):
            self.round += 1
            if not self.is_over:
                self.begin_round()

    def state_dict(self) -> dict[str, Any]:
        """Return the content of a checkpoint: everything a killed training needs to resume."""
        names = ("round", "epoch", "stale", "best_of_round", "history")
        state: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.is_over:
            return {**state, "best": self.best}
        return {
            **state,
            # None if they equal the network's weights: half a gigabyte is not written twice
            "best": None if self.history[-1]["best"] or not self.epoch else self.best,
            "network": self.network.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("round", "epoch", "stale", "best_of_round", "history"):
            setattr(self, name, state[name])
        if not self.is_over:
            for name in ("network", "optimizer", "schedule"):
                getattr(self, name).load_state_dict(state[name])
            if self.average:
                self.average.module.load_state_dict(state["average"])
        self.best = state["best"] or copy_weights(self.best_network)


def freeze_layers(backbone: nn.Module, names: list[str]) -> list[nn.Module]:
    """Freeze the weights of these parts of a backbone, and return the parts; the caller freezes batch statistics."""
    parts = [backbone.get_submodule(name) for name in names]
    for part in parts:
        part.requires_grad_(False)
    return parts


def merit_of(row: dict, keep: str) -> list[float]:
    """Return the score of an epoch, larger is better; equal accuracies are ranked by the loss."""
    by = {"accuracy": [row["val_accuracy"], -row["val_loss"]], "loss": [-row["val_loss"]], "last": [row["epoch"]]}
    return by[keep]


def weigh_classes(job: Job) -> torch.Tensor | None:
    """Return class weights (n_classes,), inversely proportional to the class counts; their mean over images is 1."""
    if job.settings.class_weights == "none":
        return None
    counts = np.bincount(job.train.labels, minlength=job.n_classes)
    weights = len(job.train) / (job.n_classes * np.maximum(counts, 1))
    return torch.tensor(weights, dtype=torch.float32, device=job.device)


def copy_weights(network: nn.Module, into: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """Copy the weights to the CPU; `into` reuses memory, which is faster."""
    state = network.state_dict()
    if not into:
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
    for name, tensor in state.items():
        into[name].copy_(tensor)
    return into
