"""The decoded images of one split, as a memory map on disk that opens without reading the pixels.

A packed split is a folder with `images.npy`, uint8 (n_images, size, size, 3), and `labels.npy`, int64 (n_images,);
`groups.npy`, int64 (n_images,), has the same number for copies of a picture. `grey_bits.json` exists if the image
folder has grey pictures of more than 8 bits; it contains the number of bits that were used.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.runtime.errors import UserError

SPLITS = ("train", "val", "test")
GREY_BITS_FILE = "grey_bits.json"


@dataclass(frozen=True)
class PackedSplit:
    """Images, uint8 (n_images, size, size, 3), as a read-only memory map; labels, int64 (n_images,)."""

    images: np.ndarray
    labels: np.ndarray
    grey_bits: int | None = None  # as in stages.pixels.decoding.decode, for the whole image folder

    def __len__(self) -> int:
        return len(self.labels)


def open_splits(packed: Path, splits: Sequence[str]) -> tuple[list[str], list[PackedSplit]]:
    """Return the classes in label order, and some splits; images are read from disk when they are used.

    A class has the name of its folder or label; readable names are in another file (networks/class_names.py).

    Args:
        packed: folder written by `pack`.
    Raises:
        UserError: the folder is missing.
    """
    try:
        names = json.loads((packed / "classes.json").read_text(encoding="utf-8"))
        return names, [_open_split(packed / split) for split in splits]
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run `dvc repro pack`") from None


def _open_split(folder: Path) -> PackedSplit:
    # read-only: nothing can write through a hard link into DVC's cache
    images, labels = np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "labels.npy")
    grey_bits = folder / GREY_BITS_FILE
    return PackedSplit(images, labels, json.loads(grey_bits.read_text("utf-8")) if grey_bits.is_file() else None)


def read_groups(packed: Path, split: str) -> np.ndarray:
    """Return the group of each image of a split, int64 (n_images,); copies share a number."""
    return np.load(packed / split / "groups.npy")
