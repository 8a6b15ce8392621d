"""The image folder as a table: a row for each usable image, with its class and its group of copies."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.dataset.class_names import name_classes
from stages.dataset.copies import group_copies
from stages.dataset.inspection import Facts, inspect_files
from stages.dataset.layouts import list_folder
from stages.dataset.rejections import Rejection
from stages.dataset.walk import ListedFile
from stages.pixels.packed_splits import SPLITS

COLUMNS = ("path", "label", "class", "split", "sha256", "width", "height", "group")  # of the manifest


@dataclass(frozen=True)
class Dataset:
    """The usable images, a row each, with COLUMNS and those of Facts; `split` is None where the folder gives none."""

    images: pd.DataFrame
    classes: list[str]  # names, in label order
    rejections: list[Rejection]
    passed_over: dict[str, int]  # files that claim to be no image of a class, by kind
    given: set[str]  # the splits that the folder gives, also where no image of one is usable


def read_dataset(folder: Path, max_pixels: int, copy_bits: int) -> Dataset:
    """List, decode and compare all images of a folder.

    Args:
        max_pixels: width x height beyond which an image is rejected.
        copy_bits: how many bits of their perceptual hashes near copies differ in at most; 0 looks for exact ones only.
    Raises:
        UserError: the folder's classes cannot be made out; every problem has its line.
    """
    listing = list_folder(folder)
    names = name_classes(folder, {file.label for file in listing.files})
    inspected = list(inspect_files(folder, [file.path for file in listing.files], max_pixels, likeness=copy_bits > 0))
    facts = [each for each in inspected if isinstance(each, Facts)]
    rejections = listing.rejections + [each for each in inspected if isinstance(each, Rejection)]
    images = pd.DataFrame(facts, columns=Facts._fields)
    images = images.merge(pd.DataFrame(listing.files, columns=ListedFile._fields), on="path")
    images["class"] = images["label"].map(names)
    images["label"] = images["label"].map({label: number for number, label in enumerate(names)})
    images["group"] = group_copies(images["pixels"].tolist(), images.pop("likeness").tolist(), copy_bits)
    for find in (find_conflicts, find_leaks):
        found = find(images)
        rejections += found
        images = images[~images["path"].isin([each.path for each in found])]
    given = {file.split for file in listing.files if file.split}
    return Dataset(images.reset_index(drop=True), list(names.values()), rejections, listing.passed_over, given)


def find_conflicts(images: pd.DataFrame) -> list[Rejection]:
    """Reject all images of a group that stands under two classes: nobody can say which of them is right."""
    return [
        Rejection(row["path"], "conflict", _name_copies(row, group[group["class"] != row["class"]]))
        for group in _find_torn_groups(images, "class")
        for row in group.to_dict("records")
    ]


def find_leaks(images: pd.DataFrame) -> list[Rejection]:
    """Reject copies of test images in val and train, and of val images in train: given test splits stay as they are."""
    rejections = []
    for group in _find_torn_groups(images, "split"):
        kept = group[group["split"] == max(group["split"], key=SPLITS.index)]
        others = group.drop(kept.index).to_dict("records")
        rejections += [Rejection(row["path"], "leak", _name_copies(row, kept)) for row in others]
    return rejections


def _find_torn_groups(images: pd.DataFrame, column: str) -> Iterator[pd.DataFrame]:
    counts = images.groupby("group")[column].nunique()
    for _, group in images[images["group"].isin(counts.index[counts > 1])].groupby("group"):
        yield group


def _name_copies(row: dict, others: pd.DataFrame) -> str:
    exact = others[others["pixels"] == row["pixels"]]
    paths = (exact if len(exact) else others)["path"].tolist()
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{'a copy' if len(exact) else 'a near copy'} of {', '.join(paths[:3])}{more}"
