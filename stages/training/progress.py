"""Progress of an epoch: running sums, a progress bar on a terminal, and one line per epoch."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from tqdm import tqdm

from stages.training.processes import Processes

LOOK_S = 0.5  # not more often, because reading the sums waits for the device

Batch = TypeVar("Batch")


class NotFiniteError(ArithmeticError):
    """The loss of a batch was infinite or not a number."""

    def __init__(self, batch: int):
        super().__init__(f"batch {batch}")
        self.batch = batch


def new_sums(device: torch.device) -> torch.Tensor:
    """Return zeros (3,) on the device, for the sum of losses, the number of right answers and of finite batches."""
    return torch.zeros(3, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)


def add_batch(sums: torch.Tensor, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
    """Add a batch to the sums: its summed loss (), logits (batch, n_classes), labels (batch,)."""
    right = (logits.argmax(dim=1) == labels).sum()
    # a sum that is not finite stays not finite
    sums += torch.stack([loss, right, (sums[0] + loss).isfinite()])


def follow(
    batches: Iterable[Batch], n_batches: int, n_images: int, title: str, sums: torch.Tensor, processes: Processes
) -> Iterator[Batch]:
    """Yield an epoch's batches, show a progress bar on a terminal, and stop at a loss that is not finite.

    Args:
        n_images: number of images in all batches, over all processes.
        sums: the caller adds each batch to them (`add_batch`).
    Raises:
        NotFiniteError: the loss of a batch was not finite.
    """
    looked = time.perf_counter()
    hidden = None if sys.stderr.isatty() and processes.is_first else True
    with tqdm(total=n_images, desc=title, unit="img", leave=False, disable=hidden) as bar:
        for number, batch in enumerate(batches, 1):
            yield batch
            n_seen = n_images * number // n_batches
            bar.update(n_seen - bar.n)
            if number < n_batches and time.perf_counter() - looked < LOOK_S:
                continue
            looked = time.perf_counter()
            loss, right, n_finite = sums.tolist()
            if n_finite < number:
                raise NotFiniteError(int(n_finite) + 1)
            mine = processes.count / n_seen
            bar.set_postfix(loss=f"{loss * mine:.4f}", accuracy=f"{right * mine:.4f}", refresh=False)


def describe_epoch(title: str, row: dict[str, float]) -> str:
    """Return one aligned line for a finished epoch."""
    return (
        f"{title}  train loss {row['train_loss']:7.4f} accuracy {row['train_accuracy']:.4f}"
        f"  val loss {row['val_loss']:7.4f} accuracy {row['val_accuracy']:.4f}"
        f"  lr {row['lr']:.2e}"
    )
