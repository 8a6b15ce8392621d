"""Make batches of packed images for a network: cropped, flipped, changed and normalised, on the device.

training/augmentations.py draws the random changes, before an epoch and for all of its images.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

# mean and deviation of ImageNet's pixels, which most weights of timm and torchvision expect
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class View:
    """How a network sees stored images: which square, which normalisation, on which device."""

    stored_size_px: int
    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device

    @property
    def margin_px(self) -> int:
        """Number of pixels by which a stored image is larger than the part that the network sees."""
        return self.stored_size_px - self.size_px


@dataclass(frozen=True)
class Changes:
    """Random changes of n images; every field has shape (n,) or (n, k)."""

    top: torch.Tensor | None  # int64, rows; None: no crop, the affine map sees the whole stored picture
    left: torch.Tensor | None  # int64, columns
    flip: torch.Tensor  # bool
    affine: torch.Tensor | None = None  # float, (n, 2, 3): output to input coordinates
    colour: torch.Tensor | None = None  # float, (n, 3): factors of brightness, contrast and saturation
    erase: torch.Tensor | None = None  # float, (n, 4): left, top, width, height, as shares of the view

    def of(self, rows: slice) -> "Changes":
        parts = (self.top, self.left, self.flip, self.affine, self.colour, self.erase)
        return Changes(*(None if part is None else part[rows] for part in parts))


def centre_crops(n: int, view: View) -> Changes:
    """Return the changes for evaluation: the centre of each of n images, and no other change."""
    centre = torch.full((n,), view.margin_px // 2)
    return Changes(centre, centre, torch.zeros(n, dtype=torch.bool))


def make_batch(
    images: np.ndarray,
    indices: torch.Tensor,
    view: View,
    changes: Changes | None = None,
    policy: Callable | None = None,
) -> torch.Tensor:
    """Crop, flip, change and normalise the chosen images.

    Args:
        images: uint8, shape (n_images, stored, stored, 3).
        indices: int64, shape (batch,).
        view: the pixels go to its device as uint8.
        changes: changes of these images, each field with `batch` rows; None: centre crops.
        policy: changes one image, uint8 (3, height, width), between crop and flip.
    Returns:
        float32, shape (batch, 3, size_px, size_px), in channels_last memory format, on the device.
    """
    changes = changes or centre_crops(len(indices), view)
    batch = _crop(images, indices, changes, view.size_px)  # (batch, side, side, 3)
    if policy:
        batch = torch.stack([policy(image) for image in batch.permute(0, 3, 1, 2)]).permute(0, 2, 3, 1).contiguous()
    batch = send(batch, view.device)
    if changes.flip.any():
        flipped = send(changes.flip.nonzero().flatten(), view.device)
        batch[flipped] = batch[flipped].flip(2)  # fast on a GPU, slow on the host
    batch = batch.float()
    if changes.colour is not None:
        batch = _change_colour(batch, send(changes.colour, batch.device))
    # on rows of pixels: broadcasting over channels_last is several times slower
    shape, (scale, offset) = batch.shape, _normalisation(view, batch.shape[2])
    batch = torch.addcmul(offset, batch.flatten(2), scale).view(shape).permute(0, 3, 1, 2)
    if changes.affine is not None:
        size = [len(batch), 3, view.size_px, view.size_px]
        grid = functional.affine_grid(send(changes.affine, batch.device), size, align_corners=False)
        batch = functional.grid_sample(batch, grid, padding_mode="reflection", align_corners=False)
    if changes.erase is not None:
        batch = _erase(batch, send(changes.erase, batch.device))
    return batch.contiguous(memory_format=torch.channels_last)


def _crop(images: np.ndarray, indices: torch.Tensor, changes: Changes, size_px: int) -> torch.Tensor:
    """Crop with slices, which copy whole rows; an index would copy one pixel at a time."""
    if changes.top is None:
        return torch.from_numpy(np.asarray(images)[indices.numpy()])
    batch = np.empty((len(indices), size_px, size_px, 3), np.uint8)
    images = np.asarray(images)  # a memory map itself is slow to slice
    places = zip(*(each.tolist() for each in (indices, changes.top, changes.left)), strict=True)
    for image, (i, top, left) in zip(batch, places, strict=True):
        image[:] = images[i, top : top + size_px, left : left + size_px]
    return torch.from_numpy(batch)


@functools.lru_cache(maxsize=4)
def _normalisation(view: View, width_px: int) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = torch.tensor(view.mean, device=view.device), torch.tensor(view.std, device=view.device)
    return (1 / (255 * std)).repeat(width_px), (-mean / std).repeat(width_px)


def _change_colour(batch: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Change brightness, contrast and saturation of (batch, height, width, 3) in 0..255 by factors (batch, 3)."""
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
    batch = batch * brightness
    mean = batch.mean(dim=(1, 2, 3), keepdim=True)
    batch = mean + (batch - mean) * contrast
    grey = batch.mean(dim=3, keepdim=True)
    return (grey + (batch - grey) * saturation).clamp(0, 255)


def _erase(batch: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Set the pixels of (batch, 3, side, side) whose centres are in their image's box (batch, 4) to 0, the mean."""
    centres = (torch.arange(batch.shape[3], device=batch.device) + 0.5) / batch.shape[3]
    start, length = boxes[:, :, None].split(2, dim=1)
    inside = (centres >= start) & (centres < start + length)  # (batch, 2, side): of its columns, and of its rows
    return batch.masked_fill_(inside[:, None, 0, None] & inside[:, None, 1, :, None], 0)


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Send a tensor to a device without waiting: pinned memory is kept until the tensor has arrived."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def predict_batches(
    predict: Callable[[torch.Tensor], torch.Tensor],
    images: np.ndarray,
    batch_size: int,
    view: View,
    changes: Changes | None = None,
    policy: Callable | None = None,
) -> Iterator[torch.Tensor]:
    """Yield predictions (batch, ...) for all images, in order.

    A batch that does not fit in the device's memory is halved, and so are all following batches.

    Args:
        predict: maps normalised images to predictions; in evaluation mode, so that a batch may have any size.
        images: uint8, shape (n_images, stored, stored, 3).
        changes: changes of each image; None: centre crops.
        policy: as in `make_batch`.
    Raises:
        torch.OutOfMemoryError: not even one image fits.
    """
    start = 0
    while start < len(images):
        rows = slice(start, start + batch_size)
        its_changes = changes.of(rows) if changes else None
        try:
            predictions = predict(make_batch(images, torch.arange(len(images))[rows], view, its_changes, policy))
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise
            batch_size //= 2
        else:
            yield predictions
            start += batch_size
