"""Paths become pictures: files, folders and lists of them, decoded as `pack` does it, a few at a time."""

import codecs
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from stages.dataset.walk import is_hidden
from stages.pixels.decoding import UnusableImageError, fit_square, read_content
from stages.runtime.errors import UserError
from stages.runtime.workers import spread

MAX_PIXELS = 100_000_000  # a larger one is taken for a decompression bomb, as by images_max_pixels
FILES_PER_TASK = 8
FEW = 64  # of which the processes would take longer to start than the work takes
MARKS = {  # of encodings, before a text, as PowerShell and editors on Windows write them; the longest first
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: None,  # the file system's
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def list_files(names: Iterable[str]) -> Iterator[str]:
    """Yield files as they are named, those of a folder and all below it sorted; `-` stands for the lines of stdin.

    Hidden files, and those that a system leaves behind, are passed over in folders; what cannot be listed is yielded.

    Raises:
        UserError: stdin has no lines.
    """
    for name in names:
        for path in read_list(sys.stdin.buffer.read()) if name == "-" else (name,):
            yield from _list_folder(path)


def read_list(content: bytes) -> list[str]:
    """Return the paths of a list, a path a line, in the file system's encoding or in that of a byte order mark.

    Lines may end as on Windows, unless a file's name does end in a carriage return.

    Raises:
        UserError: there are NUL characters between the paths.
    """
    mark, encoding = next((each for each in MARKS.items() if content.startswith(each[0])), (b"", None))
    content = content.removeprefix(mark)
    text = content.decode(encoding, "replace") if encoding else os.fsdecode(content)
    if "\0" in text:
        raise UserError(
            "-: expected one path per line, found NUL characters; do not use -print0, and save the list as UTF-8"
        )
    lines = (line if os.path.lexists(line) else line.removesuffix("\r") for line in text.split("\n"))
    return [line for line in lines if line]


def _list_folder(name: str) -> Iterator[str]:
    if not os.path.isdir(name):  # noqa: PTH112 (pathlib's raises where a folder above is closed)
        yield name
        return
    seen: set[str] = set()
    closed: list[str] = []
    for folder, folders, files in os.walk(name, onerror=lambda error: closed.append(error.filename), followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = sorted(each for each in folders if not is_hidden(each)) if real not in seen else ()
        yield from (str(Path(folder, each)) for each in sorted(files) if real not in seen and not is_hidden(each))
        seen.add(real)
    yield from closed


def read_pictures(
    paths: Sequence[str], sizes_px: Sequence[int], grey_bits: int | None = None
) -> Iterator[tuple[str, dict[int, np.ndarray] | str]]:
    """Yield each path with its picture in each size, uint8 (size_px, size_px, 3), or with why there is none.

    A file is read once, and decoded for each size as `pack` does it; over all cores.

    Args:
        grey_bits: as of stages.pixels.decoding.decode.
    """
    read = partial(_read, sizes_px=sizes_px, grey_bits=grey_bits)
    yield from zip(paths, map(read, paths) if len(paths) <= FEW else spread(read, paths, FILES_PER_TASK), strict=True)


def _read(path: str, sizes_px: Sequence[int], grey_bits: int | None) -> dict[int, np.ndarray] | str:
    try:
        content = read_content(Path(path))
        return {size_px: fit_square(content, size_px, MAX_PIXELS, grey_bits) for size_px in sizes_px}
    except UnusableImageError as error:
        return error.detail
