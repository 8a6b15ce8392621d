"""Content in, whole files out: each is written under a temporary name, and renamed when it is complete and on the disk.

Whenever a process or the machine dies, a file is the old one or the new one.
"""

import errno
import fcntl
import io
import json
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path with the same ending to write to; it becomes `path` if the block succeeds.

    The name is the same each time, so that what a killed process left is overwritten by the next.

    Raises:
        OSError: it could not be written, and is what it was before; the error names `path`.
    """
    if path.exists() and not path.is_file():  # a folder, or a pipe
        kind = errno.EISDIR if path.is_dir() else errno.EEXIST
        raise OSError(kind, os.strerror(kind), os.fspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(path)
    try:
        yield temporary
        _force_to_disk(temporary)
        temporary.replace(path)
        _force_to_disk(path.parent)
    except OSError as error:
        if error.filename in (None, os.fspath(temporary)):  # a full disk does not say whose file it refused
            error.filename = os.fspath(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(path: Path) -> Path:
    """Return the name under which `path` is written."""
    return path.with_name(f".{path.stem}.unfinished{path.suffix}")


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DirectFile(io.RawIOBase):
    """A new file that is written past the system's cache of files, in large blocks.

    The cache's fresh pages can cost ten times what the disk does (on a virtual machine, 400 MB: 1.0 s and 0.2 s), and
    processor time that training needs. Where a file system does not offer it, the file is an ordinary one.
    """

    BLOCK = 2**22  # bytes; addresses and sizes have to be multiples of the disk's sectors

    def __init__(self, path: Path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            self.descriptor = os.open(path, flags | getattr(os, "O_DIRECT", 0), 0o666)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self.descriptor = os.open(path, flags, 0o666)
        self.block = memoryview(mmap.mmap(-1, self.BLOCK))  # a map starts at a page
        self.n_waiting, self.n_bytes = 0, 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        rest = memoryview(content).cast("B")
        n_bytes = len(rest)
        while rest:
            n = min(len(rest), self.BLOCK - self.n_waiting)
            self.block[self.n_waiting : self.n_waiting + n] = rest[:n]
            self.n_waiting, rest = self.n_waiting + n, rest[n:]
            if self.n_waiting == self.BLOCK:
                self._write_block()
        self.n_bytes += n_bytes
        return n_bytes

    def _write_block(self) -> None:
        start, end = 0, -(-self.n_waiting // mmap.PAGESIZE) * mmap.PAGESIZE
        while start < end:
            try:
                start += os.write(self.descriptor, self.block[start:end])
            except OSError as error:
                if error.errno != errno.EINVAL or not self._go_through_the_cache():
                    raise
        self.n_waiting = 0

    def _go_through_the_cache(self) -> bool:
        """Make the file an ordinary one, where blocks of this size cannot be written directly; say if it was none."""
        flags = fcntl.fcntl(self.descriptor, fcntl.F_GETFL)
        was_direct = bool(flags & getattr(os, "O_DIRECT", 0))
        if was_direct:
            fcntl.fcntl(self.descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        return was_direct

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        try:
            self._write_block()
            os.ftruncate(self.descriptor, self.n_bytes)  # the last block was filled up
        finally:
            os.close(self.descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with `\\n` line ends."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON; NaN is refused, since `dvc metrics diff` would always show it as changed."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
