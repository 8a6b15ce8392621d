"""An image folder in; the files that claim to be an image of a class, and what is not among them, out.

No file is opened but labels.csv: what a file holds is for the stage `split` to see. The folder holds a folder for each
class, or train/, val/ and test/ of such folders, or a labels.csv that names its files.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from stages.dataset.class_names import NAMES_FILE, find_alike, name_key
from stages.dataset.label_files import (
    LABELS_FILE,
    SPLIT_NAMES,
    find_name_fault,
    printable,
    quote,
    read_labels,
)
from stages.dataset.links import ListedFile, Place, Walk
from stages.dataset.rejections import Rejection
from stages.runtime.errors import UserError

USUAL_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # for advice: content decides


@dataclass(frozen=True)
class Listing:
    """What a folder holds: files and rejections, sorted by path, and how many files of each kind of PASSED_OVER."""

    files: list[ListedFile]
    rejections: list[Rejection]
    passed_over: dict[str, int]


def list_folder(folder: Path) -> Listing:
    """List the files of an image folder, whatever their endings.

    Raises:
        UserError: the folder is none, or its classes are not fit to learn from; all that is wrong, a line each.
    """
    try:
        os.scandir(folder).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"images: {printable(folder)}: no such folder ({getattr(error, 'strerror', error)}); expected one folder a "
            "class, train/, val/ and test/ of such, or a labels.csv; set `images` to the path of the folder"
        ) from None
    walk = Walk(folder)
    labels_file = f"{walk.folder}/{LABELS_FILE}"
    has_labels = os.path.lexists(labels_file) and not os.path.isdir(labels_file)  # noqa: PTH112
    places, problems = _list_rows(walk) if has_labels else _list_class_folders(walk)
    if problems:
        raise UserError(*problems)
    return Listing(
        files=sorted((file for place in places for file in place.files), key=lambda file: file.path),
        rejections=sorted(walk.rejections),
        passed_over=walk.passed_over,
    )


def _list_class_folders(walk: Walk) -> tuple[list[Place], list[str]]:
    """Return the classes of a folder that has no labels.csv, and what is wrong with them."""
    tops = walk.list_folders("", (walk.root,))
    splits = {name: SPLIT_NAMES.get(name.casefold()) for name in tops}
    if tops and all(splits.values()):
        return _list_split_folders(walk, tops, splits)
    if mixed := [name for name in tops if splits[name] and walk.holds_only_folders(name)]:
        others = ", ".join(quote(name) for name in tops if name not in mixed)
        return [], [
            f"images: {walk.where}: expected only train/, val/ and test/ at the top, or only class folders, found "
            f"{', '.join(mixed)} with folders in them, and beside them {others}; move the others away or into the "
            "splits, or give a class that is called so another name"
        ]
    places, problems = _fill_places(walk, "", None, tops)
    return places, problems + _find_class_problems(walk, places, {})


def _list_split_folders(
    walk: Walk, tops: dict[str, tuple[str, ...]], splits: dict[str, str]
) -> tuple[list[Place], list[str]]:
    """Return the classes of each split, and what is wrong with them."""
    places, problems, given, where = [], [], {}, {}
    for name, chain in tops.items():
        split = splits[name]
        if split in given:
            problems.append(
                f"images: {walk.where}: expected one folder for {split}, found {given[split]} and {name}; join them"
            )
        given.setdefault(split, name)
        try:
            folders = walk.list_folders(name, chain)
        except OSError as error:
            problems.append(f"images: {walk.name(name)}: not readable ({error.strerror}); give permission to read it")
            continue
        where.setdefault(split, f"images: {walk.name(name)}")
        its_places, its_problems = _fill_places(walk, name, split, folders)
        places += its_places
        problems += its_problems
    if "train" not in given:
        problems.append(f"images: {walk.where}: expected a folder train/, found {', '.join(tops)}; add train/")
    return places, problems + _find_class_problems(walk, places, where)


def _fill_places(
    walk: Walk, parent: str, split: str | None, folders: dict[str, tuple[str, ...]]
) -> tuple[list[Place], list[str]]:
    """Walk through class folders; return what is in them, and what is wrong with their names."""
    places, problems = [], []
    for name, chain in folders.items():
        path = f"{parent}/{name}" if parent else name
        place = Place(name, split, f"images: {walk.name(path)}")
        if fault := find_name_fault(name):
            problems.append(f"{place.where}: expected the name of a class, but the folder's {fault}; rename it")
        walk.fill(place, path, chain)
        places.append(place)
    return places, problems


def _list_rows(walk: Walk) -> tuple[list[Place], list[str]]:
    """Return the classes of labels.csv, and what is wrong with it or with them."""
    rows, problems = read_labels(Path(walk.folder))
    where = walk.name(LABELS_FILE)
    if problems:  # rows are amiss: what the others lack would mislead
        return [], problems + _find_alike_problems(where, {row.label for row in rows})
    plain = walk.count("", named={NAMES_FILE, LABELS_FILE, *(row.path for row in rows)})
    places: dict[tuple[str | None, str], Place] = {}
    for row in rows:
        place = places.get((row.split, row.label))
        if place is None:
            of_split = f" of the split {row.split}" if row.split else ""
            place = Place(row.label, row.split, f"{where}: class {quote(row.label)}{of_split}")
            places[row.split, row.label] = place
        kind, detail = ("file", "") if row.path in plain else walk.look_up(row.path)
        if kind == "file":
            place.files.append(ListedFile(row.path, row.label, row.split))
        else:
            walk.reject(place, row.path, kind, f"line {row.line} of {LABELS_FILE}: {detail}")
    given = {split: f"{where}: split {split}" for split, _ in places if split}
    if given and "train" not in given:
        problems = [f"{where}: expected the split train in some rows, found {', '.join(sorted(given))}; add it"]
    return list(places.values()), problems + _find_class_problems(walk, list(places.values()), given)


def _find_class_problems(walk: Walk, places: list[Place], given: dict[str, str]) -> list[str]:
    """Say what is wrong with the classes: too few, too much alike, empty, or not in each of the given splits.

    Args:
        given: the splits that the folder gives, each with the place that messages name.
    """
    labels = {place.label for place in places}
    problems = [_say_too_few(walk, labels)] if len(labels) < 2 else []
    problems += _find_alike_problems(f"images: {walk.where}", labels)
    problems += [
        f"{place.where}: expected images, found no file{_say_left_out(place.rejections)}; add some, or remove the class"
        for place in places
        if not place.files
    ]
    return problems + (_find_split_problems(places, given) if "train" in given else [])


def _find_alike_problems(where: str, labels: set[str]) -> list[str]:
    return [
        f"{where}: expected classes of different names, found {' and '.join(map(quote, group))}, which differ only in "
        "case or in how accents are written; join or rename them"
        for group in find_alike(labels)
    ]


def _find_split_problems(places: list[Place], given: dict[str, str]) -> list[str]:
    labels: dict[str, dict[str, str]] = {split: {} for split in given}
    for place in places:
        labels[place.split][name_key(place.label)] = quote(place.label)
    train, problems = labels.pop("train"), []
    for split, its_labels in labels.items():
        if lacking := sorted(train[key] for key in train.keys() - its_labels.keys()):
            problems.append(
                f"{given[split]}: expected every class of train, found no {', '.join(lacking)}; add images of each, or "
                f"leave {split} out altogether, to have it taken from train"
            )
        if further := sorted(its_labels[key] for key in its_labels.keys() - train.keys()):
            problems.append(
                f"{given[split]}: expected only classes of train, found also {', '.join(further)}; add images of each "
                "to train, or remove them here"
            )
    return problems


def _say_too_few(walk: Walk, labels: set[str]) -> str:
    found = f"found {len(labels)}" + "".join(f" ({quote(label)})" for label in labels)
    tables = [path for path in walk.loose if "/" not in path and path.lower().endswith(".csv")]
    images = [path for path in walk.loose if path.lower().endswith(USUAL_ENDINGS)]
    advice = []
    if not (labels or walk.loose or walk.rejections):
        found = "found an empty folder"
    if tables:
        advice.append(f"call {quote(tables[0])} {LABELS_FILE} if it has the columns path and label")
    if images:
        advice.append(
            f"move the {len(images)} images outside a class, such as {quote(images[0])}, into a folder for each class"
        )
    advice += [
        f"set `images` to {walk.name(top)} if its folders are the classes or splits"
        for top in walk.tops
        if top in labels and walk.holds_only_folders(top)
    ]
    advice = advice or ["make a folder for each class, or write a labels.csv"]
    return (
        f"images: {walk.where}: expected two classes or more, {found}{_say_left_out(walk.rejections)}; "
        f"{', or '.join(advice)}"
    )


def _say_left_out(rejections: list[Rejection]) -> str:
    if not rejections:
        return ""
    first = rejections[0]
    return f" but {len(rejections)} left out, such as {first.path} ({first.reason}: {first.detail})"
