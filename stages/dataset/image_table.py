"""The image folder as a table: a row for each usable image, with its class and its group of copies."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.dataset.class_names import name_classes
from stages.dataset.copies import group_copies, join_groups
from stages.dataset.inspection import Facts, inspect_files
from stages.dataset.layouts import list_folder
from stages.dataset.rejections import Rejection
from stages.dataset.walk import ListedFile
from stages.pixels.packed_splits import SPLITS

COLUMNS = ("path", "label", "class", "split", "sha256", "width", "height", "group")  # of the manifest


@dataclass(frozen=True)
class Dataset:
    """The usable images, a row each, with COLUMNS and those of Facts; `split` is None where the folder gives none.

    The column `copies` has the group of copies of each, `group` this group joined with those that labels.csv gives.
    """

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
    images["copies"] = group_copies(images["pixels"].tolist(), images.pop("likeness").tolist(), copy_bits)
    images["group"] = join_groups(images["copies"].tolist(), images["group"].tolist())
    for column, groups in (("class", "copies"), ("split", "group")):
        found = find_torn_groups(images, column, groups)
        rejections += found
        images = images[~images["path"].isin([each.path for each in found])]
    given = {file.split for file in listing.files if file.split}
    return Dataset(images.reset_index(drop=True), list(names.values()), rejections, listing.passed_over, given)


def find_torn_groups(images: pd.DataFrame, column: str, groups: str) -> list[Rejection]:
    """Reject images whose copies, or pictures of the same group, stand in another class or split.

    Of two classes nobody can say which is right: all images of the group are rejected. Of two splits, test goes before
    val, and val before train: given test splits stay as they are.

    Args:
        column: "class" or "split".
        groups: the column of the groups, "copies" or "group".
    """
    rejections = []
    n_places = images.groupby(groups)[column].transform("nunique")
    for _, group in images[n_places > 1].groupby(groups):
        last = max(group["split"], key=SPLITS.index) if column == "split" else None
        for row in group[group[column] != last].to_dict("records"):
            others = group[group[column] != row[column]]
            kinds = {"pixels": "a copy of", "copies": "a near copy of", "group": "of one group with"}
            shared = next(each for each in kinds if (others[each] == row[each]).any())
            paths = others["path"][others[shared] == row[shared]]
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            detail = f"{kinds[shared]} {', '.join(paths[:3])}{more}"
            rejections.append(Rejection(row["path"], "leak" if column == "split" else "conflict", detail))
    return rejections
