"""Write a packed split: decode and resize every image once, on all cores; their number does not change the result."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.pixels.decoding import read_square
from stages.pixels.packed_splits import GREY_BITS_FILE
from stages.runtime.files import write_json, written_whole
from stages.runtime.workers import spread

ROWS_PER_TASK = 64


def write_packed_split(
    folder: Path,
    paths: Sequence[Path | str],
    labels: Sequence[int],
    sha256: Sequence[str],
    size_px: int,
    grey_bits: int | None = None,
) -> None:
    """Decode and resize the images, and write images and labels; memory holds only a few images at a time.

    Args:
        grey_bits: as in stages.pixels.decoding.decode.
    Raises:
        UserError: a file does not have its sha256, or is not an image.
        OSError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / "images.npy") as temporary:
        shape = (len(paths), size_px, size_px, 3)
        if paths:
            np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape).flush()
            take_room(temporary)
        else:
            np.save(temporary, np.empty(shape, np.uint8))
        tasks = [
            (start, paths[start : start + ROWS_PER_TASK], sha256[start : start + ROWS_PER_TASK])
            for start in range(0, len(paths), ROWS_PER_TASK)
        ]
        fill = partial(_fill_rows, temporary, size_px, grey_bits)
        for _ in tqdm(spread(fill, tasks), total=len(tasks), unit=f"x{ROWS_PER_TASK}", disable=None, leave=False):
            pass
    with written_whole(folder / "labels.npy") as temporary:
        np.save(temporary, np.asarray(labels, dtype=np.int64))
    if grey_bits:
        write_json(folder / GREY_BITS_FILE, grey_bits)
    else:
        (folder / GREY_BITS_FILE).unlink(missing_ok=True)


def number_groups(groups: Iterable[str]) -> np.ndarray:
    """Return a number for each image, made from the name of its group only: the same in every split and run."""
    digests = b"".join(hashlib.sha256(group.encode()).digest()[:8] for group in groups)
    return np.frombuffer(digests, dtype="<i8")


def write_groups(folder: Path, groups: Sequence[str]) -> None:
    """Write the group number of each image."""
    with written_whole(folder / "groups.npy") as temporary:
        np.save(temporary, number_groups(groups))


def take_room(path: Path) -> None:
    """Allocate all blocks of a sparse file: if the disk filled up later, writing through a memory map would kill us.

    Raises:
        OSError: the disk is full.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _fill_rows(
    file: Path, size_px: int, grey_bits: int | None, task: tuple[int, Sequence[Path | str], Sequence[str]]
) -> None:
    start, paths, sha256 = task
    images = np.load(file, mmap_mode="r+")
    for row, (path, digest) in enumerate(zip(paths, sha256, strict=True), start):
        images[row] = read_square(path, size_px, digest, grey_bits)
