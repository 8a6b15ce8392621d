"""Whole batches of packed images, ready for a network: cropped, flipped, changed and normalised on the device.

What changes is drawn elsewhere (training/augmentations.py), before an epoch and for all of its images.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from stages.pixels.packed_splits import PackedSplit

# the mean and deviation of ImageNet's pixels, which most of timm's and torchvision's weights expect
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class View:
    """How a network looks at packed images: at what size, normalised how, on which device."""

    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device


@dataclass(frozen=True)
class Changes:
    """The random changes of n images; every field has shape (n,), or (n, k)."""

    top: torch.Tensor  # int64, rows
    left: torch.Tensor  # int64, columns
    flip: torch.Tensor  # bool
    affine: torch.Tensor | None  # float, (n, 2, 3): output to input coordinates
    colour: torch.Tensor | None  # float, (n, 3): factors of brightness, contrast and saturation

    def of(self, rows: slice) -> "Changes":
        parts = (self.top, self.left, self.flip, self.affine, self.colour)
        return Changes(*(None if part is None else part[rows] for part in parts))


def no_changes(n: int, margin_px: int) -> Changes:
    """Return the changes of an evaluation: the centre crop and nothing else."""
    centre = torch.full((n,), margin_px // 2)
    return Changes(centre, centre, torch.zeros(n, dtype=torch.bool), None, None)


def make_batch(
    images: np.ndarray,
    indices: torch.Tensor,
    changes: Changes,
    view: View,
    policy: Callable | None = None,
) -> torch.Tensor:
    """Crop, flip, change and normalise the chosen images.

    Args:
        images: uint8, shape (n_images, stored, stored, 3).
        indices: int64, shape (batch,).
        changes: of these images, each field with `batch` rows.
        view: the pixels go to its device as uint8.
        policy: changes one image, uint8 (3, size_px, size_px), between crop and flip.
    Returns:
        float32, shape (batch, 3, size_px, size_px), in channels_last memory format, on the device.
    """
    size_px = view.size_px
    batch = _crop(images, indices, changes, size_px)  # (batch, size_px, size_px, 3)
    if policy:
        batch = torch.stack([policy(image) for image in batch.permute(0, 3, 1, 2)]).permute(0, 2, 3, 1).contiguous()
    batch = _send(batch, view.device)
    if changes.flip.any():
        flipped = _send(changes.flip.nonzero().flatten(), view.device)
        batch[flipped] = batch[flipped].flip(2)  # on a GPU in no time; the host is slow at it
    batch = batch.float()
    if changes.colour is not None:
        batch = _change_colour(batch, _send(changes.colour, batch.device))
    # in rows of pixels: broadcasting over channels_last is several times slower
    scale, offset = _normalisation(view)
    batch = torch.addcmul(offset, batch.view(len(indices), size_px, -1), scale)
    batch = batch.view(len(indices), size_px, size_px, 3).permute(0, 3, 1, 2)
    if changes.affine is not None:
        grid = functional.affine_grid(_send(changes.affine, batch.device), list(batch.shape), align_corners=False)
        batch = functional.grid_sample(batch, grid, padding_mode="reflection", align_corners=False)
    return batch.contiguous(memory_format=torch.channels_last)


def _crop(images: np.ndarray, indices: torch.Tensor, changes: Changes, size_px: int) -> torch.Tensor:
    """Take slices: they copy whole rows, where an index copies one pixel at a time."""
    batch = np.empty((len(indices), size_px, size_px, 3), np.uint8)
    places = zip(*(each.tolist() for each in (indices, changes.top, changes.left)), strict=True)
    for image, (i, top, left) in zip(batch, places, strict=True):
        image[:] = images[i, top : top + size_px, left : left + size_px]
    return torch.from_numpy(batch)


@functools.lru_cache(maxsize=4)
def _normalisation(view: View) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = torch.tensor(view.mean, device=view.device), torch.tensor(view.std, device=view.device)
    return (1 / (255 * std)).repeat(view.size_px), (-mean / std).repeat(view.size_px)


def _change_colour(batch: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Change brightness, contrast and saturation of (batch, height, width, 3) in 0..255 by factors (batch, 3)."""
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
    batch = batch * brightness
    mean = batch.mean(dim=(1, 2, 3), keepdim=True)
    batch = mean + (batch - mean) * contrast
    grey = batch.mean(dim=3, keepdim=True)
    return (grey + (batch - grey) * saturation).clamp(0, 255)


def _send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Send a tensor without waiting for it: pinned memory is kept until it has arrived."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def iterate_batches(
    pack: PackedSplit,
    order: torch.Tensor,
    changes: Changes,
    batch_size: int,
    view: View,
    share: tuple[int, int] = (0, 1),
    policy: Callable | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield normalised images (batch, 3, size_px, size_px) and labels (batch,) in the given order.

    Args:
        order: int64, indices into the pack; `changes` has a row for each.
        batch_size: over all processes; each takes its share of every batch.
        share: which of how many processes this one is.
        policy: changes one image, uint8 (3, size_px, size_px).
    """
    images, labels = np.asarray(pack.images), torch.from_numpy(pack.labels)  # a memory map itself is slow to slice
    starts = list(range(0, len(order), batch_size))
    if len(starts) > 1 and len(order) - starts[-1] < 2 * share[1]:
        starts.pop()  # batch normalisation cannot learn from one image alone: the rest joins the batch before
    for start, end in zip(starts, [*starts[1:], len(order)], strict=False):
        rows = share_rows(start, end, share)
        batch = make_batch(images, order[rows], changes.of(rows), view, policy)
        yield batch, _send(labels[order[rows]], view.device)


def share_rows(start: int, end: int, share: tuple[int, int]) -> slice:
    """Return the part of the rows start..end of one of several processes; the parts differ by one row at most."""
    (rank, count), n = share, end - start
    return slice(start + n * rank // count, start + n * (rank + 1) // count)


def predict_batches(
    predict: Callable[[torch.Tensor], torch.Tensor],
    pack: PackedSplit,
    batch_size: int,
    view: View,
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield predictions (batch, ...) and labels (batch,) of a whole pack, or of this process's share of it, in order.

    Batches that do not fit into the device's memory are halved.

    Args:
        predict: maps normalised images, each a centre crop, to predictions.
    Raises:
        torch.OutOfMemoryError: not even one image at a time fits.
    """
    rows = torch.arange(len(pack))[share_rows(0, len(pack), share)]
    margin_px = pack.images.shape[1] - view.size_px
    while len(rows):
        try:
            for images, labels in iterate_batches(pack, rows, no_changes(len(rows), margin_px), batch_size, view):
                yield predict(images), labels
                rows = rows[len(labels) :]
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise
            batch_size //= 2
