"""Decoded images of one split as a memory map on disk: opened without reading it.

A pack is a folder with `images.npy`, uint8 (n_images, size, size, 3), and `labels.npy`, int64 (n_images,).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.runtime.errors import UserError


@dataclass(frozen=True)
class Pack:
    """Images, uint8 (n_images, size, size, 3), as a read-only memory map; labels, int64 (n_images,)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def open_pack(folder: Path, n_classes: int) -> Pack:
    """Open a pack; the images are read from disk as they are used.

    Raises:
        UserError: the pack is not there, its two files do not belong together, or it is of other classes.
    """
    # read-only: nothing can write through a hard link into DVC's cache, and no memory is set aside for copies
    pack = Pack(_load(folder / "images.npy", mmap_mode="r"), _load(folder / "labels.npy"))
    images, labels = pack.images, pack.labels
    fault = None
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (images.shape[1], images.shape[1], 3):
        fault = f"images.npy: expected uint8 (n, size, size, 3), found {images.dtype} {images.shape}"
    elif not len(images):
        fault = "images.npy: expected images, found none"
    elif labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        fault = f"labels.npy: expected int64 {images.shape[:1]}, one an image, found {labels.dtype} {labels.shape}"
    elif labels.min() < 0 or labels.max() >= n_classes:
        fault = f"labels.npy: expected labels 0 to {n_classes - 1}, found {labels.min()} to {labels.max()}"
    if fault:
        raise UserError(f"{folder}/{fault}; run `dvc repro pack`")
    return pack


def _load(path: Path, **options: str) -> np.ndarray:
    try:
        return np.load(path, **options)
    except PermissionError:  # it may be whole: run_stage says what to do
        raise
    except (OSError, EOFError, ValueError) as error:
        fault = f"expected an array, found none that can be read ({error})"
        raise UserError(f"{path}: {fault}; run `dvc repro pack`") from None


def read_classes(packed: Path) -> list[str]:
    """Return the class names in label order; `packed` is the folder that holds the packs of all splits.

    Raises:
        UserError: the file is not there, or no list of different names.
    """
    path = packed / "classes.json"
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except PermissionError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        found = f"found none that can be read ({error})"
        raise UserError(f"{path}: expected a list of class names, {found}; run `dvc repro pack`") from None
    is_right = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_right or len(set(names)) < max(2, len(names)):
        raise UserError(f"{path}: expected two or more different names, found {names!r:.80}; run `dvc repro pack`")
    return names
