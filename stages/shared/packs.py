"""Decoded images of one split as a memory map on disk: written once, opened without reading it.

A pack is a folder with `images.npy`, uint8 (n_images, size, size, 3), and `labels.npy`, int64 (n_images,).
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from stages.shared.errors import UserError
from stages.shared.files import written_whole
from stages.shared.images import read_image
from stages.shared.running import count_cores, open_pool

ROWS_PER_TASK = 64


@dataclass(frozen=True)
class Pack:
    """Images, uint8 (n_images, size, size, 3), as a read-only memory map; labels, int64 (n_images,)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def write_pack(folder: Path, paths: Sequence[Path], labels: Sequence[int], size_px: int) -> None:
    """Decode and resize every image once, over all cores; memory stays bounded however many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / "images.npy") as temporary:
        shape = (len(paths), size_px, size_px, 3)
        np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape).flush()
        take_room(temporary)
        starts = range(0, len(paths), ROWS_PER_TASK)
        chunks = [paths[start : start + ROWS_PER_TASK] for start in starts]
        with open_pool(count_cores()) as pool:
            for _ in pool.map(partial(_fill_rows, temporary, size_px), starts, chunks):
                pass
    with written_whole(folder / "labels.npy") as temporary:
        np.save(temporary, np.asarray(labels, dtype=np.int64))


def take_room(path: Path) -> None:
    """Give a sparse file all of its blocks: a disk that fills up later would kill whoever writes through a memory map.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _fill_rows(file: Path, size_px: int, start: int, paths: Sequence[Path]) -> None:
    images = np.load(file, mmap_mode="r+")
    for row, path in enumerate(paths, start):
        images[row] = read_image(path, size_px)


def open_pack(folder: Path) -> Pack:
    """Open a pack; the images are read from disk as they are used.

    Raises:
        UserError: the pack is not there, or its two files do not belong together.
    """
    try:
        # read-only: nothing can write through a hard link into DVC's cache, and no memory is set aside for copies
        pack = Pack(np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "labels.npy"))
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{folder}: not a readable pack ({error}); run `dvc repro pack`") from None
    if pack.images.ndim != 4 or len(pack.images) != len(pack.labels):
        raise UserError(
            f"{folder}: images {pack.images.shape} and labels {pack.labels.shape} differ; run `dvc repro pack`"
        )
    return pack


def read_classes(packed: Path) -> list[str]:
    """Return the class names in label order; `packed` is the folder that holds the packs of all splits."""
    path = packed / "classes.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no readable list of classes ({error}); run `dvc repro pack`") from None
