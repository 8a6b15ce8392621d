"""An image folder in; its images as rows of a table, with their groups of copies, and what had to be left out, out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.dataset.class_names import name_classes
from stages.dataset.copies import group_copies
from stages.dataset.folders import list_folder
from stages.dataset.inspection import Facts, inspect_files
from stages.dataset.rejections import Rejection, refusals
from stages.dataset.splits import SPLITS

COLUMNS = ("path", "label", "class", "split", "sha256", "width", "height", "group")  # of the manifest
MORE_COLUMNS = ("folder", "pixels", "n_bytes", "n_frames")  # the label's text, and what else is known of the image


@dataclass(frozen=True)
class Dataset:
    """The usable images, a row each, with COLUMNS and MORE_COLUMNS; `split` is None where the folder gives none."""

    folder: Path
    images: pd.DataFrame
    classes: list[str]  # names, in label order
    rejections: list[Rejection]
    passed_over: dict[str, int]  # files that claim to be no image of a class, by kind

    def problems(self, policy: str) -> list[str]:
        """Return why no training can begin with these images, a line each."""
        n_files = len(self.images) + len(self.rejections)
        left = set(self.images["class"])
        empty = [name for name in self.classes if name not in left]
        return refusals(self.folder, self.rejections, n_files, policy) + [
            f"{self.folder}: class {name}: no usable image is left; add some, or remove the class" for name in empty
        ]


def read_dataset(folder: Path, max_pixels: int, copy_bits: int) -> Dataset:
    """List, decode and compare all images of a folder.

    Args:
        max_pixels: width x height beyond which an image is rejected.
        copy_bits: how many bits of their perceptual hashes near copies differ in at most; 0 looks for exact ones only.
    Raises:
        UserError: the folder's classes cannot be made out; every problem has its line.
    """
    listing = list_folder(folder)
    names = name_classes(folder, sorted({file.label for file in listing.files}))
    numbers = {label: number for number, label in enumerate(names)}
    inspected = inspect_files(folder, [file.path for file in listing.files], max_pixels, likeness=copy_bits > 0)
    rejections, rows, likeness = list(listing.rejections), [], []
    for file, facts in zip(listing.files, inspected, strict=True):
        if isinstance(facts, Facts):
            rows.append((file.path, numbers[file.label], names[file.label], file.split, *facts[1:3], *facts[3:7]))
            likeness.append(facts.likeness)
        else:
            rejections.append(facts)
    columns = ["path", "label", "class", "split", "sha256", "pixels", "width", "height", "n_bytes", "n_frames"]
    images = pd.DataFrame(rows, columns=columns)
    images["group"] = group_copies(images["pixels"].tolist(), likeness, copy_bits) if rows else []
    for find in (find_conflicts, find_leaks):
        found = find(images)
        rejections += found
        images = images[~images["path"].isin([each.path for each in found])]
    return Dataset(folder, images.reset_index(drop=True), list(names.values()), rejections, dict(listing.passed_over))


def find_conflicts(images: pd.DataFrame) -> list[Rejection]:
    """Reject all images of a group that stands under two classes: nobody can say which of them is right."""
    rejections = []
    for _, group in _spread_groups(images, "class"):
        for row in group.to_dict("records"):
            others = group[group["class"] != row["class"]]
            rejections.append(Rejection(row["path"], "conflict", _name_copies(row, others)))
    return rejections


def find_leaks(images: pd.DataFrame) -> list[Rejection]:
    """Reject copies of test images in val and train, and of val images in train: given test splits stay as they are."""
    rejections = []
    for _, group in _spread_groups(images, "split"):
        kept_split = max(group["split"], key=SPLITS.index)
        kept = group[group["split"] == kept_split]
        for row in group[group["split"] != kept_split].to_dict("records"):
            rejections.append(Rejection(row["path"], "leak", _name_copies(row, kept)))
    return rejections


def _spread_groups(images: pd.DataFrame, column: str):
    counts = images.groupby("group")[column].nunique()
    return images[images["group"].isin(counts.index[counts > 1])].groupby("group")


def _name_copies(row: dict, others: pd.DataFrame) -> str:
    exact = others[others["pixels"] == row["pixels"]]
    paths: Sequence[str] = (exact if len(exact) else others)["path"].tolist()
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{'a copy' if len(exact) else 'a near copy'} of {', '.join(paths[:3])}{more}"
