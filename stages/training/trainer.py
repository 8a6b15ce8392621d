"""The trainer: rounds of epochs, patience, the best weights, and the state that a killed training resumes from."""

import itertools
import math
import time
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from stages.networks.batches import predict_batches, send
from stages.runtime.errors import UserError
from stages.training.augmentations import derive_seed, iterate_epoch
from stages.training.checkpoints import Checkpoint
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
    """Train the network, and leave it with the weights of its best epoch (`keep`: by accuracy or loss on val).

    A training that was killed resumes after its last finished epoch and ends with the same bits: an epoch depends on
    the checkpoint, the seed and its own number alone.

    Args:
        network: as `prepare` returns it.
        on_epoch: called with the history (a row an epoch) whenever an epoch has ended.
    Returns:
        The best weights, on the CPU, as a state dict.
    """
    trainer, is_first = Trainer(network, job), job.processes.is_first
    if state := job.processes.tell_all(checkpoint.read() if checkpoint else None):
        trainer.load_state_dict(state)
        if is_first:
            print(f"{job.name}: resumes after epoch {len(trainer.history)}, from {checkpoint.path}", flush=True)
            on_epoch(trainer.history)  # DVC has deleted what the killed process wrote
    while not trainer.is_over:
        line = trainer.run_epoch()
        if is_first:
            on_epoch(trainer.history)
        if checkpoint:
            checkpoint.write(trainer.state_dict())
            if trainer.is_over:
                checkpoint.wait()  # before it says so: whatever happens from here on, the last epoch is not run again
        if is_first:
            print(line, flush=True)
    network.load_state_dict(trainer.best)
    return trainer.best


class Trainer:
    """A network that learns, and everything that changes while it does.

    Each round starts from the best weights so far with a new optimizer, schedule and patience. Patience counts the
    epochs since the best one of the round.
    """

    def __init__(self, network: nn.Module, job: Job):
        self.network, self.job = network, job
        self.learning = [each for each in network.backbone.parameters() if each.requires_grad]  # while not frozen
        self.class_weights = weigh_classes(job)
        self.optimizer, self.schedule = build_optimizer(network, job.settings, job.n_batches)
        self.average = build_average(network, job.settings)
        self.fresh = self.optimizer.state_dict(), self.schedule.state_dict()
        self.round, self.epoch, self.stale, self.best_of_round = 0, 0, 0, [-math.inf]
        self.history: list[dict] = []
        self.best: dict[str, torch.Tensor] = {}  # weights, on the CPU

    def begin_round(self) -> None:
        self.epoch, self.stale, self.best_of_round = 0, 0, [-math.inf]
        self.optimizer.load_state_dict(self.fresh[0])
        self.schedule.load_state_dict(self.fresh[1])
        for network in (self.network, *([self.average.module] if self.average else [])):
            network.load_state_dict(self.best)

    @property
    def is_over(self) -> bool:
        return self.round == self.job.settings.rounds

    @property
    def best_network(self) -> nn.Module:
        """The network to validate and to keep: the average of the weights where there is one."""
        return self.average.module if self.average else self.network

    def run_epoch(self) -> str:
        """Train for one epoch and validate; add a row to the history, and return the line that describes it."""
        settings, started = self.job.settings, time.perf_counter()
        number, lr = len(self.history) + 1, self.schedule.get_last_lr()[0]
        train_loss, train_accuracy, images_per_s = self.train_one_epoch()
        val_loss, val_accuracy = self.validate()
        if not math.isfinite(val_loss):
            where = f"after epoch {number} (it began at lr {lr:g})"
            raise UserError(f"{self.job.name}: the validation loss is {val_loss} {where}; {REMEDIES}")
        row = {
            "round": self.round + 1,
            "epoch": number,
            "lr": lr,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "best": 0,
        }
        line = describe_epoch(self.title, row, images_per_s)
        n_left = (settings.rounds - self.round) * settings.epochs - self.epoch - 1
        self.take_in(row)
        return f"{line}  {n_left * (time.perf_counter() - started):5.0f} s left"

    @property
    def title(self) -> str:
        n_epochs = self.job.settings.rounds * self.job.settings.epochs  # at most: patience may end a round early
        return f"{self.job.name} epoch {len(self.history) + 1:{len(str(n_epochs))}}/{n_epochs}"

    def train_one_epoch(self) -> tuple[float, float, float]:
        """Learn from all images of an epoch; return the mean loss, the accuracy, and the images per second."""
        job, settings = self.job, self.job.settings
        started, lr = time.perf_counter(), self.schedule.get_last_lr()[0]
        self.begin_epoch()
        sums, batches = new_sums(job.device), iterate_epoch(job, len(self.history))
        try:
            for images, targets, labels in follow(
                batches, job.n_batches, job.n_images, self.title, sums, job.processes
            ):
                loss, logits = self.step(images, targets)
                add_batch(sums, loss, logits, labels)
        except NotFiniteError as error:
            where = f"epoch {len(self.history) + 1}, batch {error.batch} (the epoch began at lr {lr:g})"
            raise UserError(f"{job.name}: the loss is not finite in {where}; {REMEDIES}") from None
        except torch.OutOfMemoryError:
            size = f"batch_size {settings.batch_size} at {job.view.size_px} x {job.view.size_px} px"
            raise UserError(f"{job.name}: {size} needs more memory than {job.device} has; lower either") from None
        speed = job.n_images / (time.perf_counter() - started)
        self.end_epoch()
        loss, accuracy, _ = (job.processes.add_up(sums) / job.n_images).tolist()
        return loss, accuracy, speed

    def begin_epoch(self) -> None:
        """Set layers to training; in the frozen epochs the backbone neither learns nor moves its batch statistics."""
        self.network.train()
        self.freeze(self.epoch < self.job.settings.frozen_epochs)
        self.parallel = self.network
        if self.job.processes.count > 1:  # anew, since what learns may have changed
            self.parallel = DistributedDataParallel(self.network, **{SYNC_BUFFERS: False})

    def freeze(self, frozen: bool) -> None:
        self.network.backbone.train(not frozen)
        for parameter in self.learning:
            parameter.requires_grad_(not frozen)

    def step(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Learn from one batch.

        Args:
            images: (batch, 3, size, size); of several processes, this one's share.
            targets: int64 labels (batch,), or shares of the classes (batch, n_classes).
        Returns:
            The batch's mean loss times its images, of this process's share, and logits (batch, n_classes).
        """
        job, settings = self.job, self.job.settings
        step = self.schedule.last_epoch % job.n_batches
        # dropout: whatever else draws numbers, and however far ahead batches are made
        torch.manual_seed(derive_seed(job.seed, len(self.history), 1 + job.processes.rank, step, 2))
        self.optimizer.zero_grad(set_to_none=True)
        weight, n_images = self._size_of_batch(targets)
        with self._autocast():
            logits = self.parallel(images)  # (batch, n_classes)
            smoothing = {"reduction": "sum", "label_smoothing": settings.label_smoothing}
            loss = functional.cross_entropy(logits.float(), targets, self.class_weights, **smoothing) / weight
        (loss * job.processes.count).backward()  # of several processes, the mean of gradients is taken
        if settings.gradient_clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_clip)
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            self.average.update(self.network, step=self.schedule.last_epoch)
        return loss.detach() * n_images, logits.detach()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.job.device.type, torch.bfloat16, enabled=self.job.in_bf16)

    def _size_of_batch(self, targets: torch.Tensor) -> tuple[Any, Any]:
        """Return the weight and the number of the batch's images, over all processes."""
        n_images = weight = len(targets)
        if self.class_weights is not None and not targets.is_floating_point():
            weight = self.class_weights[targets].sum()
        if self.job.processes.count == 1:
            return weight, n_images
        sizes = torch.tensor([float(weight), float(n_images)], device=self.job.device)
        return tuple(self.job.processes.add_up(sizes))

    def end_epoch(self) -> None:
        """Give all processes the first one's batch statistics, so that they validate the same network."""
        if self.job.processes.count > 1:
            self.parallel = self.network
            modules = [self.network, self.average.module] if self.average else [self.network]
            for buffer in itertools.chain(*(module.buffers() for module in modules)):
                torch.distributed.broadcast(buffer, src=0)

    @torch.no_grad()
    def validate(self) -> tuple[float, float]:
        """Return the mean cross-entropy and the accuracy on the validation images."""
        job, network = self.job, self.best_network.eval()
        # of each process; no more images than it learns from at a time
        batch_size = min(EVALUATION_BATCH, job.settings.batch_size // job.processes.count)
        mine = job.processes.share_of(0, len(job.val))
        labels = send(torch.from_numpy(job.val.labels[mine]), job.device)
        sums = new_sums(job.device)

        def predict(images: torch.Tensor) -> torch.Tensor:
            with self._autocast():
                return network(images)  # (batch, n_classes)

        for logits in predict_batches(predict, job.val.images[mine], batch_size, job.view):
            some, labels = labels.tensor_split([len(logits)])
            add_batch(sums, functional.cross_entropy(logits.float(), some, reduction="sum"), logits, some)
        loss, accuracy, _ = (job.processes.add_up(sums) / len(job.val)).tolist()
        return loss, accuracy

    def take_in(self, row: dict) -> None:
        """Take in a finished epoch: keep its weights if it is the best so far, and count rounds and patience."""
        settings, merit = self.job.settings, merit_of(row, self.job.settings.keep)
        if merit > max((merit_of(old, settings.keep) for old in self.history), default=[-math.inf]):
            for old in self.history:
                old["best"] = 0
            row["best"] = 1
            self.best = copy_weights(self.best_network, into=self.best)
        self.history.append(row)
        self.epoch += 1
        self.stale = 0 if merit > self.best_of_round else self.stale + 1
        self.best_of_round = max(self.best_of_round, merit)
        if self.epoch == settings.epochs or (settings.patience and self.stale >= settings.patience):
            self.round += 1
            if not self.is_over:
                self.begin_round()

    def state_dict(self) -> dict[str, Any]:
        """Return all that a killed training resumes from: the whole checkpoint."""
        names = ("round", "epoch", "stale", "best_of_round", "history")
        state: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.is_over:
            return {**state, "best": self.best}
        return {
            **state,
            # where they are those of the network itself, half a gigabyte is not written twice
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


def merit_of(row: dict, keep: str) -> list[float]:
    """Return what an epoch is judged by, the more the better; equal accuracies are told apart by the loss."""
    by = {"accuracy": [row["val_accuracy"], -row["val_loss"]], "loss": [-row["val_loss"]], "last": [row["epoch"]]}
    return by[keep]


def weigh_classes(job: Job) -> torch.Tensor | None:
    """Return weights (n_classes,) in inverse proportion to the class counts, with a mean of 1 over the images."""
    if job.settings.class_weights == "none":
        return None
    counts = np.bincount(job.train.labels, minlength=job.n_classes)
    weights = len(job.train) / (job.n_classes * np.maximum(counts, 1))
    return torch.tensor(weights, dtype=torch.float32, device=job.device)


def copy_weights(network: nn.Module, into: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """Return the weights on the CPU, in `into` where it is given: memory that is already there is faster."""
    state = network.state_dict()
    if not into:
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
    for name, tensor in state.items():
        into[name].copy_(tensor)
    return into
