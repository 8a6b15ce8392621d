"""Recognise the layout of an image folder, and list the files of each class, without guessing or dropping files.

The folder has one folder per class; or one folder per split, with class folders in it; or a labels.csv that lists the
files. Only labels.csv is opened; `inspection` reads the other files.
"""

import os
import posixpath
import re
from collections import defaultdict
from pathlib import Path

from stages.dataset.class_names import NAMES_FILE, find_alike, fold
from stages.dataset.label_table import LABELS_FILE, SPLIT_NAMES, read_label_table
from stages.dataset.rejections import list_rejections
from stages.dataset.walk import ListedFile, Walk
from stages.runtime.errors import UserError

Classes = set[tuple[str | None, str]]  # split (None if not given) and label


def list_folder(folder: Path) -> Walk:
    """List the files of an image folder, with any extension.

    Returns:
        A finished walk, with files and rejections sorted by path.
    Raises:
        UserError: the folder is missing, or its classes are unusable; one line per problem.
    """
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise UserError(
            f"images: {folder}: expected a folder with one sub-folder per class, with train/, val/ and test/, or with "
            f"a labels.csv; the folder cannot be opened ({error.strerror}); correct the path `images` in params.yaml"
        ) from None
    walk = Walk(folder)
    classes = _list_rows(walk) if (folder / LABELS_FILE).is_file() else _list_class_folders(walk)
    walk.files.sort()
    walk.rejections.sort()
    if problems := _find_problems(walk, classes):
        raise UserError(*problems, *list_rejections(folder, walk.rejections))
    return walk


def _list_rows(walk: Walk) -> Classes:
    """List the files in labels.csv, and return its classes."""
    rows = read_label_table(walk.folder / LABELS_FILE)
    found = [os.path.relpath(f"{top}/{name}", walk.root) for top, _, names in os.walk(walk.root) for name in names]
    alike = defaultdict(list)
    for path in found:
        stem, ending = posixpath.splitext(path)
        for name in {path, path if ending == ".dvc" else stem}:
            alike[fold(name)].append(path)
    named, above = {NAMES_FILE, LABELS_FILE}, f"{fold(posixpath.basename(walk.root))}/"
    for row in rows:
        is_there = os.path.isfile(walk.folder / row.path)  # noqa: PTH113 (pathlib raises if a folder cannot be read)
        name = fold(row.path)
        its = alike.get(name) or alike.get(name.removeprefix(above)) or [row.path]
        path, *others = [row.path] if is_there else its
        where = f"line {row.line} of {LABELS_FILE}"
        if others or not os.path.isfile(walk.folder / path):  # noqa: PTH113
            is_pointer = os.path.isfile(walk.folder / f"{row.path}.dvc")  # noqa: PTH113
            advice = f"; there are {', '.join(sorted([path, *others]))}" if others else "; run `dvc pull`" * is_pointer
            walk.reject(row.path, "missing", f"{where}{advice}")
        elif path in named or not walk.holds(posixpath.dirname(path)):
            walk.reject(row.path, "link", where)
        else:
            walk.files.append(ListedFile(path, row.label, row.split, row.group))
            named.add(path)
    walk.passed_over["not in labels.csv"] = len(set(found) - named)
    return {(row.split, row.label) for row in rows}


def _list_class_folders(walk: Walk) -> Classes:
    """List the files in class folders, count the files outside, and return the classes.

    Raises:
        UserError: it is not clear which folders are the classes, or the splits.
    """
    loose, tops = walk.look("")
    splits = [SPLIT_NAMES.get(top.casefold()) for top in tops]
    _refuse_unclear_splits(walk, tops, splits)
    if tops and all(splits):
        parents = [(split, *_look_into_split(walk, top, split)) for top, split in zip(tops, splits, strict=True)]
    else:
        parents = [(None, "", [], tops)]
    classes: Classes = set()
    for split, parent, files, folders in parents:
        _refuse_unclear_classes(walk, parent, folders)
        loose += files
        for path in folders:
            classes.add((split, path.rpartition("/")[2]))
            walk.list_class(path, split)
    walk.passed_over["outside a class"] = len(set(loose) - {NAMES_FILE})
    return classes


def _look_into_split(walk: Walk, path: str, split: str) -> tuple[str, list[str], list[str]]:
    """Return the folder of a split, its files and folders; archives may contain a second folder of the same name."""
    files, folders = walk.look(path)
    inner = folders[0] if len(folders) == 1 and not files else ""
    if SPLIT_NAMES.get(inner.rpartition("/")[2].casefold()) == split:
        return _look_into_split(walk, inner, split)
    return path, files, folders


def _refuse_unclear_splits(walk: Walk, tops: list[str], splits: list[str | None]) -> None:
    """Refuse two folders for one split, and folders with names like splits (train2017) that are not splits."""
    if all(splits) and len(set(splits)) == len(splits):
        return
    suspects = [top for top in tops if set(re.split("[^a-z]+", top.casefold())) & SPLIT_NAMES.keys()]
    if suspects and (suspects == tops or any(map(walk.list_names, suspects))):
        raise UserError(
            f"images: {walk.folder}: expected either only class folders or only one folder each for train, val and "
            f"test, found {', '.join(tops)}; rename, merge or move folders, or write a labels.csv"
        )


def _refuse_unclear_classes(walk: Walk, parent: str, folders: list[str]) -> None:
    """Refuse folders that all contain the same folders: either level may be the classes."""
    below = {frozenset(walk.list_names(folder)) for folder in folders}
    if len(folders) > 1 and len(below) == 1 and len(names := sorted(*below)) > 1:
        raise UserError(
            f"images: {walk.folder / parent}: expected one folder per class, but each of {', '.join(folders)} contains "
            f"the same folders ({', '.join(names)}); if these are splits, name them train, val and test; otherwise "
            "move the files of each class directly into its folder, or write a labels.csv"
        )


def _find_problems(walk: Walk, classes: Classes) -> list[str]:
    """Return the problems of the classes: too few, similar names, empty, or missing in a given split."""
    where = f"images: {walk.folder}"
    labels: dict[str | None, set[str]] = {split: set() for split, _ in classes}
    for split, label in classes:
        labels[split].add(label)
    all_labels = set().union(*labels.values())
    problems = []
    if len(all_labels) < 2:
        problems.append(
            f"{where}: expected two classes or more, found {', '.join(all_labels) or '0'}; make one folder per class, "
            f"set `images` to the folder that contains them, or write a {LABELS_FILE} with the columns path and label"
        )
    problems += [
        f"{where}: expected classes with different names, found {' and '.join(map(repr, group))}, which differ only in "
        "case, spaces, leading zeros, invisible characters or the spelling of accents; merge or rename these classes"
        for group in find_alike(all_labels)
    ]
    problems += [
        f"{where}: class {label}{f' of {split}' if split else ''}: no usable image; add images, or remove the class"
        for split, label in sorted(classes - {(file.split, file.label) for file in walk.files})
    ]
    of_train = labels.pop("train", labels.pop(None, None))
    if labels and not of_train:
        problems.append(
            f"{where}: expected a split train, found only {' and '.join(sorted(labels))}; add a folder train"
        )
    for split, names in sorted(labels.items()) if of_train else ():
        differing = [("missing", of_train - names), ("additional", names - of_train)]
        if found := [f"{what} {', '.join(sorted(some))}" for what, some in differing if some]:
            problems.append(
                f"{where}: split {split}: expected the same classes as in train, found {', and '.join(found)}; add "
                f"images of each class, or remove {split} so that Quintet cuts it from train"
            )
    return problems
