"""Batches in, the same batches out, with a bar on a terminal; and one plain aligned line an epoch elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator

import torch
from tqdm import tqdm

LOOK_S = 0.5  # seldom, since each look waits for the device


class EpochProgress:
    """Loss, accuracy and images/s of an epoch; the running sums stay on the device."""

    def __init__(self, title: str, n_images: int, device: torch.device):
        self.title, self.n_images, self.n_seen = title, n_images, 0
        self.sums = torch.zeros(2, device=device)  # of loss, and of right answers
        self.on_terminal = sys.stderr.isatty()
        self.started = time.perf_counter()

    def follow(self, batches: Iterable) -> Iterator:
        """Pass the batches on and keep the bar up to date."""
        looked = self.started
        hidden = None if self.on_terminal else True
        with tqdm(total=self.n_images, desc=self.title, unit="img", leave=False, disable=hidden) as bar:
            for batch in batches:
                yield batch
                bar.update(len(batch[1]))
                if self.on_terminal and time.perf_counter() - looked > LOOK_S:
                    loss, accuracy = self.scores()
                    bar.set_postfix(loss=f"{loss:.4f}", accuracy=f"{accuracy:.4f}", refresh=False)
                    looked = time.perf_counter()

    def add(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch: mean loss (), logits (batch, n_classes), labels (batch,)."""
        right = (logits.argmax(dim=1) == labels).sum()
        self.sums += torch.stack([loss.detach() * len(labels), right])
        self.n_seen += len(labels)

    def scores(self) -> tuple[float, float]:
        """Return the mean loss and the accuracy so far."""
        loss, accuracy = (self.sums / max(1, self.n_seen)).tolist()
        return loss, accuracy

    def images_per_s(self) -> float:
        return self.n_seen / (time.perf_counter() - self.started)


def print_epoch(title: str, row: dict[str, float], images_per_s: float, remaining_s: float) -> None:
    """Print one aligned line for a finished epoch."""
    print(
        f"{title}  train loss {row['train_loss']:7.4f} accuracy {row['train_accuracy']:.4f}"
        f"  val loss {row['val_loss']:7.4f} accuracy {row['val_accuracy']:.4f}"
        f"  lr {row['lr']:.2e}  {images_per_s:6.0f} images/s  {remaining_s:5.0f} s left",
        flush=True,
    )
