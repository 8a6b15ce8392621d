"""Walk through an image folder: find the files of each class, and count or reject all others.

Links to files are followed anywhere, because DVC may link files into its cache; links to folders only inside the
folder. No file is opened.
"""

import os
from pathlib import Path
from typing import NamedTuple

from stages.dataset.rejections import UNPRINTABLE, Rejection, printable

SYSTEM_NAMES = {  # files and folders of operating systems, in lower case
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "icon\r"),
    *("__macosx", "$recycle.bin", "system volume information", "lost+found", "__pycache__"),
    *("@eadir", "#recycle", "@recycle", "network trash folder", "temporary items"),  # network storage
}
ZONE = "zone.identifier"  # suffix of the files in which Windows records the origin of downloads


class ListedFile(NamedTuple):
    """A file that may be an image: path in the folder, class folder or label, split and group if given."""

    path: str
    label: str
    split: str | None
    group: str = ""


class Walk:
    """The files listed, rejected and ignored (counts by kind) so far; paths are relative to the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = os.path.realpath(folder)
        self.files: list[ListedFile] = []
        self.rejections: list[Rejection] = []
        self.passed_over = {"hidden": 0, "outside a class": 0, "not in labels.csv": 0}

    def reject(self, path: str, reason: str, detail: str) -> None:
        """Record that a file, or everything in a folder, is left out."""
        self.rejections.append(Rejection(printable(path), reason, printable(detail)))

    def look(self, path: str) -> tuple[list[str], list[str]]:
        """Return the paths of the files and of the folders directly in a folder, each list sorted."""
        files, folders = [], []
        try:
            entries = sorted(os.scandir(self.folder / path), key=lambda entry: entry.name)
        except OSError as error:
            self.reject(path, "unreadable", error.strerror)
            return [], []
        for entry in entries:
            its_path = f"{path}/{entry.name}" if path else entry.name
            if is_hidden(entry.name):
                self.passed_over["hidden"] += 1
            elif UNPRINTABLE.search(entry.name):
                self.reject(its_path, "name", "rename it")
            elif entry.is_symlink() and not (os.path.isfile(entry.path) or self.holds(its_path)):  # noqa: PTH113
                self.reject(its_path, "link", f"its target is {os.readlink(entry.path)}")  # noqa: PTH115
            elif entry.name.endswith(".dvc") and entry.is_file():
                if os.path.exists(entry.path.removesuffix(".dvc")):  # noqa: PTH110
                    self.passed_over["hidden"] += 1
                else:
                    self.reject(its_path.removesuffix(".dvc"), "missing", f"only {entry.name} is there; run `dvc pull`")
            elif entry.is_dir():
                folders.append(its_path)
            elif entry.is_file():
                files.append(its_path)
            else:
                self.reject(its_path, "unreadable", "not a regular file")
        return files, folders

    def holds(self, path: str) -> bool:
        """Return whether a path, with links followed, exists inside the folder."""
        real = os.path.realpath(self.folder / path)
        return f"{real}/".startswith(f"{self.root.rstrip('/')}/") and os.path.exists(real)  # noqa: PTH110

    def list_class(self, path: str, split: str | None) -> None:
        """List all files below a class folder; a folder that is reached twice through links is listed once."""
        parent, _, label = path.rpartition("/")
        seen, waiting = {self.root, os.path.realpath(self.folder / parent)}, [path]
        while waiting:
            path = waiting.pop()
            real = os.path.realpath(self.folder / path)
            if real in seen:
                self.reject(path, "link", f"its target is {real}")
                continue
            seen.add(real)
            files, folders = self.look(path)
            self.files += (ListedFile(file, label, split) for file in files)
            links = [folder for folder in folders if (self.folder / folder).is_symlink()]
            waiting = (
                links + waiting + sorted(set(folders) - set(links))
            )  # links come after everything else of the class

    def list_names(self, path: str) -> set[str]:
        """Return the names of the sub-folders of a folder; empty if it contains files or does not exist."""
        if not (self.folder / path).is_dir():
            return set()
        entries = [entry for entry in os.scandir(self.folder / path) if not is_hidden(entry.name)]
        return {entry.name for entry in entries} if all(entry.is_dir() for entry in entries) else set()


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden or made by an operating system, by its name."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES or name.casefold().endswith(ZONE)
