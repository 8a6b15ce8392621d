"""A folder in; its files, each with what kind it is, out: links are followed within the folder, and circles are not.

No file is opened: what one holds is for others to see.
"""

import errno
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.dataset.class_names import NAMES_FILE
from stages.dataset.label_files import (
    LABELS_FILE,
    UNPRINTABLE,
    printable,
)
from stages.dataset.rejections import Rejection

PASSED_OVER = ("hidden", "system", "outside a class", "not in labels.csv")
SYSTEM_NAMES = {  # of files and folders that a machine leaves behind, in lower case
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    *("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"),
}
MAX_VISITS = 20  # of links in a class to the same folder: links to folders of links multiply


@dataclass(frozen=True)
class ListedFile:
    """A file that claims to be an image: its path in the folder, its class folder's name or label, any given split."""

    path: str
    label: str
    split: str | None


@dataclass
class Place:
    """A class in a split, or in the whole folder: where it stands, and what was found of it."""

    label: str
    split: str | None
    where: str
    files: list[ListedFile] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)


class Walk:
    """A walk through an image folder: what it has passed over and rejected so far.

    Paths are relative to the folder. A chain is how a folder was reached: its real path, after the real paths of the
    folders whose links led to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = os.fspath(folder)
        self.where = printable(folder)
        self.root = os.path.realpath(folder)
        self.rejections: list[Rejection] = []
        self.passed_over = dict.fromkeys(PASSED_OVER, 0)
        self.tops: list[str] = []  # the folders at the top
        self.loose: list[str] = []  # the files outside a class
        self._real: dict[str, str] = {}

    def name(self, path: str) -> str:
        """Return a path as messages give it."""
        return printable(_join(self.folder, path))

    def reject(self, place: Place | None, path: str, reason: str, detail: str) -> None:
        """Note that a file, or all that is in a folder, is left out."""
        rejection = Rejection(printable(path), reason, printable(detail))
        self.rejections.append(rejection)
        if place:
            place.rejections.append(rejection)

    def list_folders(self, path: str, chain: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Return the folders directly in a folder above the classes, sorted by name, each with its chain.

        Raises:
            OSError: the folder cannot be read.
        """
        folders = {}
        for name, kind, detail in self._look(path, chain):
            its_path = _join(path, name)
            if kind == "folder":
                folders[name] = detail
            elif its_path in (NAMES_FILE, LABELS_FILE):
                continue
            elif kind in ("link", "unreadable") and not os.path.isfile(_join(self.folder, its_path)):  # noqa: PTH113
                self.reject(None, its_path, kind, detail)  # it may have been meant as a class
            else:
                self.passed_over["outside a class"] += 1
                self.loose.append(its_path)
        self.tops = self.tops if path else sorted(folders)
        return dict(sorted(folders.items()))

    def holds_only_folders(self, path: str) -> bool:
        """Say whether a folder has folders directly in it and no file, hidden and system ones apart."""
        kinds = set()
        with suppress(OSError), os.scandir(_join(self.folder, path)) as entries:
            kinds = {entry.is_dir() for entry in entries if not _kind_by_name(entry.name)}
        return kinds == {True}

    def fill(self, place: Place, path: str, chain: tuple[str, ...]) -> None:
        """Add all files below a class folder to the place."""
        n_visits: Counter[str] = Counter()
        waiting = [(path, chain)]
        while waiting:
            path, chain = waiting.pop()
            try:
                entries = list(self._look(path, chain))
            except OSError as error:
                self.reject(place, path, "unreadable", error.strerror)
                continue
            for name, kind, detail in entries:
                its_path = f"{path}/{name}"
                if kind in ("file", "folder") and UNPRINTABLE.search(name):
                    self.reject(place, its_path, "name", f"the name of a {kind}; rename it")
                elif kind == "file":
                    place.files.append(ListedFile(its_path, place.label, place.split))
                elif kind != "folder":
                    self.reject(place, its_path, kind, detail)
                elif n_visits[detail[-1]] == MAX_VISITS:
                    self.reject(place, its_path, "link", f"{MAX_VISITS} links of the class lead to this folder already")
                else:
                    n_visits[detail[-1]] += 1
                    waiting.append((its_path, detail))

    def count(self, path: str, kind: str = "", named: Collection[str] = ()) -> set[str]:
        """Count the files below a folder that are passed over; links are not followed.

        Args:
            kind: of all of them; without it their names tell, and the rest are not in labels.csv.
            named: the files that labels.csv names.
        Returns:
            those of the named files that need no further look: regular ones, with a name that can be printed.
        """
        plain, waiting = set(), [(path, kind)]
        while waiting:
            path, kind = waiting.pop()
            with suppress(OSError), os.scandir(_join(self.folder, path)) as entries:
                for entry in entries:
                    its_path, its_kind = _join(path, entry.name), kind or _kind_by_name(entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((its_path, its_kind))
                    elif its_path in named:
                        if entry.is_file(follow_symlinks=False) and not UNPRINTABLE.search(its_path):
                            plain.add(its_path)
                    elif not (entry.is_symlink() and os.path.isdir(entry.path)):  # noqa: PTH112
                        self.passed_over[its_kind or "not in labels.csv"] += 1
        return plain

    def look_up(self, path: str) -> tuple[str, str]:
        """Return what a path of labels.csv leads to: "file", or the reason to reject it, and the detail."""
        full = _join(self.folder, path)
        try:
            mode = os.lstat(full).st_mode
        except OSError as error:
            reason = {errno.EACCES: "unreadable", errno.ELOOP: "link"}.get(error.errno, "missing")
            return reason, error.strerror
        except ValueError:  # a NUL byte, which no name has
            return "missing", "no such file"
        parent = path.rpartition("/")[0]
        if parent not in self._real:
            self._real[parent] = os.path.realpath(_join(self.folder, parent))
        if not _is_within(self._real[parent], self.root):
            return "link", f"leads out of the folder, into {self._real[parent]}"
        kind, detail = self._follow(full, ()) if stat.S_ISLNK(mode) else _kind_by_mode(mode)
        if kind == "file" and UNPRINTABLE.search(path):
            return "name", "the name of a file; rename it"
        return ("missing", "a folder, no file") if kind == "folder" else (kind, detail)

    def _look(self, path: str, chain: tuple[str, ...]) -> Iterator[tuple[str, str, Any]]:
        """Give what stands directly in a folder, and count what is hidden or of the system.

        Yields:
            the name; "file", "folder", or the reason to reject it; and for a folder its chain, else the detail.
        """
        with os.scandir(_join(self.folder, path)) as entries:
            for entry in entries:
                name = entry.name
                try:
                    if kind := _kind_by_name(name):
                        if entry.is_dir(follow_symlinks=False):
                            self.count(_join(path, name), kind)
                        else:
                            self.passed_over[kind] += 1
                    elif entry.is_symlink():
                        yield name, *self._follow(entry.path, chain)
                    elif entry.is_file(follow_symlinks=False):
                        yield name, "file", ""
                    elif entry.is_dir(follow_symlinks=False):
                        yield name, "folder", (*chain[:-1], _join(chain[-1], name))
                    else:
                        yield name, *_kind_by_mode(entry.stat(follow_symlinks=False).st_mode)
                except OSError as error:
                    yield name, "unreadable", error.strerror

    def _follow(self, link: str, chain: tuple[str, ...]) -> tuple[str, Any]:
        """Return what _look gives of a link, except its name."""
        target = "?"
        try:
            target = os.readlink(link)  # noqa: PTH115
            mode = os.stat(link).st_mode  # noqa: PTH116 - before realpath, which a long row of links would exhaust
            real = os.path.realpath(link, strict=True)
        except OSError as error:
            if error.errno == errno.EACCES:
                return "unreadable", f"{error.strerror}: {target}"
            where = "in a circle, or through too many links" if error.errno == errno.ELOOP else "nowhere"
            return "link", f"leads {where}: {target}"
        if not _is_within(real, self.root):
            return "link", f"leads out of the folder: {target}"
        if not stat.S_ISDIR(mode):
            return _kind_by_mode(mode)
        if any(_is_within(each, real) for each in chain):
            return "link", f"leads back to a folder that it stands in: {target}"
        return "folder", (*chain, real)


def _kind_by_name(name: str) -> str:
    """Return "hidden" or "system", or nothing for all other names."""
    if name.startswith("."):
        return "hidden"
    return "system" if name.casefold() in SYSTEM_NAMES else ""


def _kind_by_mode(mode: int) -> tuple[str, str]:
    if stat.S_ISREG(mode):
        return "file", ""
    if stat.S_ISDIR(mode):
        return "folder", ""
    return "special", {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}.get(stat.S_IFMT(mode), "a device")


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if folder and name else folder or name


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")
