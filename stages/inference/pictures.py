"""Read pictures from files, folders and lists of paths, decoded as in `pack`, a few at a time."""

import codecs
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from stages.dataset.walk import is_hidden
from stages.pixels.decoding import UnusableImageError, fit_square, read_content
from stages.runtime.errors import UserError
from stages.runtime.workers import spread

MAX_PIXELS = 100_000_000  # larger pictures may be decompression bombs, as for images_max_pixels
FILES_PER_TASK = 8
FEW = 64  # for so few files, starting processes takes longer than the work
QUOTED = re.compile(r"^(['\"])(.+)\1$")
MARKS = {  # byte order marks, as PowerShell and editors on Windows write them; the longest first
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: None,  # the file system's
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def list_files(names: Iterable[str]) -> Iterator[str]:
    """Yield the named files, and all files below named folders, sorted; `-` means the lines of stdin.

    In folders, hidden files and files of the operating system are ignored; a folder that cannot be listed is yielded.

    Raises:
        UserError: stdin is not a list of lines.
    """
    for name in names:
        for path in read_list(sys.stdin.buffer.read()) if name == "-" else (find_spelling(name),):
            yield from _list_folder(path)


def read_list(content: bytes) -> list[str]:
    """Return the paths of a list with one path per line, in the file system's encoding or that of a byte order mark.

    Paths may be in quotes, and lines may end with spaces or as on Windows, unless a file really has this name.

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
    lines = (line if os.path.lexists(line) else QUOTED.sub(r"\2", line.strip()) for line in text.split("\n"))
    return [find_spelling(line) for line in lines if line]


def find_spelling(path: str) -> str:
    """Return a path with its accents as the file has them: composed, as on Linux and Windows, or not, as on a Mac."""
    spellings = (path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD")))
    return next(filter(os.path.lexists, spellings), path)


def _list_folder(name: str) -> Iterator[str]:
    if not os.path.isdir(name):  # noqa: PTH112 (pathlib raises if a parent folder cannot be read)
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
    """Yield each path with its picture in each size, uint8 (size_px, size_px, 3), or with the reason for a failure.

    Each file is read once and decoded for each size as in `pack`, on all cores.

    Args:
        grey_bits: as in stages.pixels.decoding.decode.
    """
    read = partial(_read, sizes_px=sizes_px, grey_bits=grey_bits)
    yield from zip(paths, map(read, paths) if len(paths) <= FEW else spread(read, paths, FILES_PER_TASK), strict=True)


def _read(path: str, sizes_px: Sequence[int], grey_bits: int | None) -> dict[int, np.ndarray] | str:
    try:
        content = read_content(Path(path))
        return {size_px: fit_square(content, size_px, MAX_PIXELS, grey_bits) for size_px in sizes_px}
    except UnusableImageError as error:
        return error.detail
