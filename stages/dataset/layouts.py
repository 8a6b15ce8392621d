"""Finds out how an image folder gives its classes, and lists the files of each: nothing is guessed, nothing dropped.

The folder holds a folder for each class; or a folder for each split, with such folders in it; or a labels.csv that
names its files. No file but labels.csv is opened: what a file holds is for `inspection` to see.
"""

import os
import re
from pathlib import Path

from stages.dataset.class_names import NAMES_FILE, find_alike
from stages.dataset.label_table import LABELS_FILE, SPLIT_NAMES, read_label_table
from stages.dataset.walk import ListedFile, Walk
from stages.runtime.errors import UserError

USUAL_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # for advice: content decides

Places = dict[tuple[str | None, str], str]  # {(split, label): where messages say that the class stands}


def list_folder(folder: Path) -> Walk:
    """List the files of an image folder, whatever their endings.

    Returns:
        a walk that is done: its files and rejections are sorted by path.
    Raises:
        UserError: the folder is none, or its classes are not fit to learn from; all that is wrong, a line each.
    """
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise UserError(
            f"images: {folder}: no such folder ({error.strerror}); expected one folder a class, train/, val/ and test/ "
            "of such, or a labels.csv; set `images` to the path of the folder"
        ) from None
    walk = Walk(folder)
    places, loose = _list_rows(walk) if (folder / LABELS_FILE).is_file() else _list_class_folders(walk)
    walk.files.sort()
    walk.rejections.sort()
    if problems := _find_problems(walk, places, loose):
        raise UserError(*problems, *(f"{folder}/{each.in_words()}" for each in walk.rejections))
    return walk


def _list_rows(walk: Walk) -> tuple[Places, list[str]]:
    """List what labels.csv names, and return its classes."""
    rows = read_label_table(walk.folder / LABELS_FILE)
    places: Places = {}
    for row in rows:
        of_split = f" of {row.split}" if row.split else ""
        places[row.split, row.label] = f"images: {walk.folder}/{LABELS_FILE}: class {row.label}{of_split}"
        if not (walk.folder / row.path).is_file():
            walk.reject(row.path, "missing", f"line {row.line} of {LABELS_FILE}")
        elif not walk.holds(row.path):
            walk.reject(row.path, "link", f"line {row.line} of {LABELS_FILE}")
        else:
            walk.files.append(ListedFile(row.path, row.label, row.split))
    walk.count_all_but({NAMES_FILE, LABELS_FILE, *(row.path for row in rows)})
    return places, []


def _list_class_folders(walk: Walk) -> tuple[Places, list[str]]:
    """List what the class folders hold; return the classes, and the files that stand outside of them.

    Raises:
        UserError: it is not clear which folders are the classes, or the splits.
    """
    loose, tops = walk.look("")
    splits = [SPLIT_NAMES.get(top.casefold()) for top in tops]
    _refuse_unclear_splits(walk, tops, splits)
    if tops and all(splits):
        parents = [(top, split, *walk.look(top)) for top, split in zip(tops, splits, strict=True)]
    else:
        parents = [("", None, [], tops)]
    places: Places = {}
    for parent, split, files, folders in parents:
        _refuse_unclear_classes(walk, parent, folders)
        loose += files
        for path in folders:
            places[split, path.rpartition("/")[2]] = f"images: {walk.folder}/{path}"
            walk.list_class(path, split)
    loose = [path for path in loose if path != NAMES_FILE]
    walk.passed_over["outside a class"] += len(loose)
    return places, loose


def _refuse_unclear_splits(walk: Walk, tops: list[str], splits: list[str | None]) -> None:
    """Refuse two folders of one split, and folders that are called like splits (train2017), but are none."""
    if all(splits) and len(set(splits)) == len(splits):
        return
    suspects = [top for top in tops if set(re.split("[^a-z]+", top.casefold())) & SPLIT_NAMES.keys()]
    if suspects and (suspects == tops or any(map(walk.list_names, suspects))):
        raise UserError(
            f"images: {walk.folder}: expected one folder each for train, val and test at the top and nothing beside "
            f"them, or only class folders, found {', '.join(tops)}; rename, join or move them, or write a labels.csv"
        )


def _refuse_unclear_classes(walk: Walk, parent: str, folders: list[str]) -> None:
    """Refuse folders that all hold the same folders: the ones or the others may be the classes."""
    below = {frozenset(walk.list_names(folder)) for folder in folders}
    if len(folders) > 1 and len(below) == 1 and len(names := sorted(*below)) > 1:
        raise UserError(
            f"images: {walk.folder / parent}: expected one folder a class, found the same folders ({', '.join(names)}) "
            f"in each of {', '.join(folders)}; put the classes into train/, val/ and test/ if these are splits, or the "
            "files of a class directly into its folder, or write a labels.csv"
        )


def _find_problems(walk: Walk, places: Places, loose: list[str]) -> list[str]:
    """Say what is wrong with the classes: too few, too much alike, empty, or not in each of the given splits."""
    labels: dict[str | None, set[str]] = {split: set() for split, _ in places}
    for split, label in places:
        labels[split].add(label)
    all_labels, where = set().union(*labels.values()), f"images: {walk.folder}"
    problems = [f"{where}: {_say_too_few(walk, all_labels, loose)}"] if len(all_labels) < 2 else []
    problems += [
        f"{where}: expected classes of different names, found {' and '.join(group)}, which differ only in case or in "
        "how accents are written; join or rename them"
        for group in find_alike(all_labels)
    ]
    empty = places.keys() - {(file.split, file.label) for file in walk.files}
    problems += [f"{its}: no image; add some, or remove the class" for key, its in places.items() if key in empty]
    if labels and not labels.keys() & {None, "train"}:
        problems.append(f"{where}: expected the split train, found only {' and '.join(map(str, labels))}; add it")
    for split in sorted(labels.keys() - {None, "train"}) if "train" in labels else ():
        differing = [("no", labels["train"] - labels[split]), ("of its own", labels[split] - labels["train"])]
        if found := [f"{what} {', '.join(sorted(names))}" for what, names in differing if names]:
            problems.append(
                f"{where}: split {split}: expected the classes of train, found {', and '.join(found)}; add images of "
                f"each, or leave {split} out altogether, to have it taken from train"
            )
    return problems


def _say_too_few(walk: Walk, labels: set[str], loose: list[str]) -> str:
    found = f"{len(labels)} ({', '.join(labels)})" if labels else "none"
    tables = [path for path in loose if "/" not in path and path.lower().endswith(".csv")]
    images = [path for path in loose if path.lower().endswith(USUAL_ENDINGS)]
    advice = []
    if tables:
        advice.append(f"call {tables[0]} {LABELS_FILE} if it has the columns path and label")
    if images:
        advice.append(f"move the {len(images)} images outside a class, such as {images[0]}, into a folder for each")
    advice += [
        f"set `images` to {walk.folder}/{label} if its folders are the classes or splits"
        for label in labels
        if walk.list_names(label)
    ]
    advice = advice or ["make a folder for each class, or write a labels.csv"]
    return f"expected two classes or more, found {found}; {', or '.join(advice)}"
