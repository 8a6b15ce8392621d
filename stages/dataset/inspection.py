"""Decode every file once, on all cores, and return facts about its picture, or the reason for rejecting it."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from stages.dataset.perceptual_hashes import hash_likeness
from stages.dataset.rejections import Rejection
from stages.pixels.decoding import UnusableImageError, decode, hash_pixels, read_content
from stages.runtime.workers import spread

FILES_PER_TASK = 64


class Facts(NamedTuple):
    """Facts about an image: hashes of file and pixels, size (upright), perceptual hashes."""

    path: str
    sha256: str
    pixels: str  # sha256 of the decoded pixels
    width: int
    height: int
    n_bytes: int
    n_frames: int
    grey_bits: int  # as in stages.pixels.decoding.Picture
    likeness: np.ndarray | None  # from hash_likeness


def inspect_files(
    folder: Path, paths: Sequence[str], max_pixels: int, likeness: bool, grey_bits: int | None = None
) -> Iterator[Facts | Rejection]:
    """Inspect the files of a folder, in their order.

    Args:
        paths: paths of the files in the folder.
        max_pixels: largest width x height of an image; larger ones are rejected.
        likeness: compute perceptual hashes, to find near copies.
        grey_bits: as in stages.pixels.decoding.decode.
    """
    inspect = partial(inspect_file, folder, max_pixels=max_pixels, likeness=likeness, grey_bits=grey_bits)
    inspected = spread(inspect, paths, FILES_PER_TASK)
    yield from tqdm(inspected, total=len(paths), unit="file", disable=None, leave=False)


def inspect_file(
    folder: Path, path: str, max_pixels: int, likeness: bool, grey_bits: int | None = None
) -> Facts | Rejection:
    """Read and decode one file."""
    try:
        content = read_content(folder / path)
        image, n_frames, its_bits = decode(content, max_pixels, grey_bits=grey_bits)
    except UnusableImageError as error:
        return Rejection(path, error.reason, error.detail)
    size = (image.width, image.height, len(content), n_frames, its_bits)
    looks = hash_likeness(image) if likeness else None
    return Facts(path, hashlib.sha256(content).hexdigest(), hash_pixels(image), *size, looks)
