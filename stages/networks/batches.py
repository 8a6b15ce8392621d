"""Whole batches of packed images, ready for a network: cropped, flipped, changed and normalised on the device.

What changes is drawn elsewhere (training/augmentations.py), before an epoch and for all of its images.
"""

import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from stages.pixels.packed_splits import PackedSplit

# the mean and deviation of ImageNet's pixels, which most of timm's and torchvision's weights expect
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
RESIDENT_SHARE = 0.5  # of a GPU's free memory; the rest is for the network


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
        return self._each(lambda part: part[rows])

    def to(self, device: torch.device) -> "Changes":
        return self._each(lambda part: part.to(device))

    def _each(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Changes":
        parts = (self.top, self.left, self.flip, self.affine, self.colour)
        return Changes(*(None if part is None else function(part) for part in parts))


def no_changes(n: int, margin_px: int) -> Changes:
    """Return the changes of an evaluation: the centre crop and nothing else."""
    centre = torch.full((n,), margin_px // 2)
    return Changes(centre, centre, torch.zeros(n, dtype=torch.bool), None, None)


def make_batch(
    images: torch.Tensor,
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
        policy: changes one image, uint8 (3, size_px, size_px), after crop and flip.
    Returns:
        float32, shape (batch, 3, size_px, size_px), in channels_last memory format, on the device.
    """
    size_px = view.size_px
    crop = _crop_on_host if images.device.type == "cpu" else _crop_on_device
    batch = crop(images, indices, changes, size_px)  # (batch, size_px, size_px, 3)
    if policy:
        batch = torch.stack([policy(image) for image in batch.permute(0, 3, 1, 2)]).permute(0, 2, 3, 1).contiguous()
    batch = _send(batch, view.device).float()
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


def _crop_on_device(images: torch.Tensor, indices: torch.Tensor, changes: Changes, size_px: int) -> torch.Tensor:
    steps = torch.arange(size_px, device=images.device)
    rows = changes.top[:, None] + steps  # (batch, size_px)
    columns = changes.left[:, None] + torch.where(changes.flip[:, None], size_px - 1 - steps, steps)
    return images[indices[:, None, None], rows[:, :, None], columns[:, None, :]]


def _crop_on_host(images: torch.Tensor, indices: torch.Tensor, changes: Changes, size_px: int) -> torch.Tensor:
    """Do the same with slices: they copy whole rows, where an index copies one pixel at a time."""
    pixels = images.numpy()
    batch = np.empty((len(indices), size_px, size_px, 3), np.uint8)
    places = zip(*(each.tolist() for each in (indices, changes.top, changes.left, changes.flip)), strict=True)
    for image, (i, top, left, flip) in zip(batch, places, strict=True):
        crop = pixels[i, top : top + size_px, left : left + size_px]
        image[:] = crop[:, ::-1] if flip else crop
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


def place_pack(pack: PackedSplit, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images and labels as tensors: on the device where there is room, else on the host's memory map.

    On a GPU, a pack may take half of the memory that is free now.
    """
    with warnings.catch_warnings():  # nothing here writes to the read-only map
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        images, labels = torch.from_numpy(pack.images), torch.from_numpy(pack.labels)
    if device.type != "cuda":
        return images, labels
    free = torch.cuda.mem_get_info(device)[0]
    resident = images.nbytes < free * RESIDENT_SHARE
    place = f"lie on {device}" if resident else f"stay on the host, and go to {device} batch by batch"
    print(f"{len(pack)} images of {images.nbytes / 2**20:.0f} MiB {place} ({free / 2**20:.0f} MiB free)", flush=True)
    return (images.to(device), labels.to(device)) if resident else (images, labels)


def _send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Send a tensor without waiting for it: pinned memory is kept until it has arrived."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def iterate_batches(
    placed: tuple[torch.Tensor, torch.Tensor],
    order: torch.Tensor,
    changes: Changes,
    batch_size: int,
    view: View,
    share: tuple[int, int] = (0, 1),
    policy: Callable | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield normalised images (batch, 3, size_px, size_px) and labels (batch,) in the given order.

    Args:
        placed: images and labels, as from `place_pack`.
        order: int64, indices into the pack; `changes` has a row for each.
        batch_size: over all processes; each takes its share of every batch.
        share: which of how many processes this one is.
        policy: changes one image, uint8 (3, size_px, size_px).
    """
    images, labels = placed
    order, changes = order.to(images.device), changes.to(images.device)
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


def evaluation_batches(
    placed: tuple[torch.Tensor, torch.Tensor], batch_size: int, view: View, share: tuple[int, int] = (0, 1)
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield a whole pack, or this process's share of it, in its own order, each image as its centre crop."""
    images, labels = placed
    mine = torch.arange(len(labels))[share_rows(0, len(labels), share)]
    changes = no_changes(len(mine), images.shape[1] - view.size_px)
    return iterate_batches(placed, mine, changes, batch_size, view)
