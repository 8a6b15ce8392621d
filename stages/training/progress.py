"""How far an epoch has come: running loss and accuracy, a bar on a terminal, a plain line an epoch elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator

import torch
from tqdm import tqdm

from stages.training.processes import Processes

LOOK_S = 0.5  # seldom, since each look waits for the device


class NotFiniteError(ArithmeticError):
    """The loss of a batch was infinite or not a number."""

    def __init__(self, batch: int):
        super().__init__(f"batch {batch}")
        self.batch = batch


class EpochProgress:
    """Loss, accuracy and images/s of an epoch; the running sums stay on the device.

    Args:
        n_images: of all processes together, as `n_seen` is.
    """

    def __init__(self, title: str, n_images: int, batch_size: int, device: torch.device, processes: Processes):
        self.title, self.n_images, self.batch_size, self.processes = title, n_images, batch_size, processes
        self.n_batches, self.is_over = 0, False
        # of the loss, of right answers, and of batches before the first whose loss is not finite
        self.sums = torch.zeros(3, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        self.on_terminal = sys.stderr.isatty() and processes.is_first
        self.started = time.perf_counter()

    @property
    def n_seen(self) -> int:
        return self.n_images if self.is_over else min(self.n_batches * self.batch_size, self.n_images)

    def follow(self, batches: Iterable) -> Iterator:
        """Pass the batches on, keep the bar up to date, and stop at a loss that is not finite.

        Raises:
            NotFiniteError: the loss of a batch was not finite.
        """
        looked = self.started
        hidden = None if self.on_terminal else True
        with tqdm(total=self.n_images, desc=self.title, unit="img", leave=False, disable=hidden) as bar:
            for batch in batches:
                yield batch
                bar.update(self.n_seen - bar.n)
                if time.perf_counter() - looked > LOOK_S:
                    self._look(bar)
                    looked = time.perf_counter()
        self.is_over = True  # the last batch may have been smaller, or larger
        self._look(bar)

    def _look(self, bar: tqdm) -> None:
        loss, right, n_finite = self.sums.tolist()
        if n_finite < self.n_batches:
            raise NotFiniteError(int(n_finite) + 1)
        mine = self.processes.count / max(1, self.n_seen)
        bar.set_postfix(loss=f"{loss * mine:.4f}", accuracy=f"{right * mine:.4f}", refresh=False)

    def add(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch: its summed loss (), logits (batch, n_classes), labels (batch,)."""
        right = (logits.argmax(dim=1) == labels).sum()
        # a sum that is not finite stays so
        self.sums += torch.stack([loss, right, (self.sums[0] + loss).isfinite()])
        self.n_batches += 1

    def scores(self) -> tuple[float, float]:
        """Return the mean loss and the accuracy of all images, the other processes' among them."""
        loss, right, _ = (self.processes.add_up(self.sums) / self.n_images).tolist()
        return loss, right

    def images_per_s(self) -> float:
        return self.n_seen / (time.perf_counter() - self.started)


def describe_epoch(title: str, row: dict[str, float], images_per_s: float, remaining_s: float) -> str:
    """Return one aligned line for a finished epoch."""
    return (
        f"{title}  train loss {row['train_loss']:7.4f} accuracy {row['train_accuracy']:.4f}"
        f"  val loss {row['val_loss']:7.4f} accuracy {row['val_accuracy']:.4f}"
        f"  lr {row['lr']:.2e}  {images_per_s:6.0f} images/s  {remaining_s:5.0f} s left"
    )
