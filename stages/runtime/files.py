"""Write files so that a crash leaves either the old file or the new one, never a part.

Each file is written under a temporary name, and renamed when it is complete and on the disk.
"""

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the same extension; it replaces `path` if the block succeeds.

    The temporary name is always the same, so that the next process overwrites what a killed process left.

    Raises:
        OSError: the file could not be written and is unchanged; the error names `path`.
    """
    if path.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(path)
    try:
        yield temporary
        _force_to_disk(temporary)
        temporary.replace(path)
        _force_to_disk(path.parent)
    except OSError as error:
        if error.filename in (None, os.fspath(temporary)):  # the error of a full disk names no file
            error.filename = os.fspath(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def written_together(path: Path) -> Iterator[Path]:
    """Yield a temporary folder for a file with the name of `path` and for files that it refers to; then move all.

    `path` itself moves last, so that it never refers to a missing file. It may refer to an older file, so the other
    files need names that depend on their content.

    Raises:
        OSError: the files could not be written and `path` is unchanged; the error names `path`.
    """
    if path.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    folder = unfinished(path)
    try:
        _remove(folder)  # what a killed process left
        folder.mkdir(parents=True)
        yield folder
        for part in sorted(folder.iterdir(), key=lambda part: part.name == path.name):
            _force_to_disk(part)
            part.replace(path.with_name(part.name))
        _force_to_disk(path.parent)
    except OSError as error:
        if error.filename is None or Path(error.filename).is_relative_to(folder):
            error.filename = os.fspath(path)
        raise
    finally:
        _remove(folder)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def unfinished(path: Path) -> Path:
    """Return the temporary name of a file or folder; .dvcignore and .gitignore ignore such names."""
    return path.with_name(f".{path.stem}.unfinished{path.suffix}")


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with `\\n` line ends."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write rows of cells, the header first."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON; NaN is refused, because `dvc metrics diff` would always show it as changed."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def remove_leftovers(folder: Path, ending: str, models: Collection[str]) -> None:
    """Remove the files MODEL + ending of all models that are not in `models`, because they left the parameters.

    DVC hashes whole folders. With leftovers in a folder, a fresh clone, which has no leftovers, would rerun the stage.
    """
    for path in folder.glob(f"*{ending}"):
        if path.name.removesuffix(ending) not in models:
            path.unlink()
