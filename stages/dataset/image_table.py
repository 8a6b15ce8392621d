"""The image folder as a table: a row per usable image, with its class and its group of copies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.dataset.class_names import name_classes
from stages.dataset.copies import group_copies, join_groups
from stages.dataset.inspection import Facts, inspect_files
from stages.dataset.label_fixes import match_fixes, read_fixes
from stages.dataset.layouts import list_folder
from stages.dataset.perceptual_hashes import UNMIRRORED
from stages.dataset.rejections import Rejection
from stages.dataset.walk import ListedFile
from stages.pixels.packed_splits import SPLITS

COLUMNS = ("path", "label", "class", "split", "sha256", "width", "height", "group")  # columns of the manifest
CLEAR_SHARE = 0.75  # if this share of the copies is in one class, the others are mistakes


@dataclass(frozen=True)
class Dataset:
    """The usable images, one per row, with COLUMNS and the fields of Facts; `split` is None if the folder gives none.

    The column `copies` has the group of copies, `group` that group merged with the groups in labels.csv, `given` the
    class in the folder, `fixed` whether labels_fixed.csv names the image, `dropped` whether it is left out.
    """

    images: pd.DataFrame
    names: dict[str, str]  # {class: readable name}, in label order
    rejections: list[Rejection]
    passed_over: dict[str, int]  # number of ignored files, by kind
    given: set[str]  # splits given by the folder, also those without a usable image


def read_dataset(folder: Path, max_pixels: int, copy_bits: int, fixes: Path | None = None) -> Dataset:
    """List, decode and compare all images of a folder.

    Args:
        max_pixels: largest width x height of an image; larger ones are rejected.
        copy_bits: largest number of different bits of near copies; 0: exact copies only.
        fixes: labels_fixed.csv, whose labels replace those of the folder.
    Raises:
        UserError: the classes of the folder are unclear, or labels_fixed.csv has mistakes; one line per problem.
    """
    rows = read_fixes(fixes) if fixes else []
    listing = list_folder(folder)
    names = name_classes(folder, {file.label for file in listing.files})
    new = match_fixes(fixes, rows, folder, (file.path for file in listing.files), names) if rows else {}
    inspect = partial(inspect_files, folder, max_pixels=max_pixels, likeness=copy_bits > 0)
    inspected = list(inspect([file.path for file in listing.files]))
    if grey_bits := max((each.grey_bits for each in inspected if isinstance(each, Facts)), default=0):
        # a dark picture alone does not show how many bits its camera has
        dark = [i for i, each in enumerate(inspected) if isinstance(each, Facts) and 0 < each.grey_bits < grey_bits]
        again = inspect([inspected[i].path for i in dark], grey_bits=grey_bits)
        for i, facts in zip(dark, again, strict=True):
            inspected[i] = facts
    facts = [each for each in inspected if isinstance(each, Facts)]
    left_out = {path for path, label in new.items() if label is None}  # not rejected, even if unusable
    rejections = [each for each in inspected if isinstance(each, Rejection) and each.path not in left_out]
    rejections += listing.rejections
    images = pd.DataFrame(facts, columns=Facts._fields)
    images = images.merge(pd.DataFrame(listing.files, columns=ListedFile._fields), on="path")
    images = fix_labels(images, list(names), new)
    images["copies"] = group_copies(images["pixels"].tolist(), images["likeness"].tolist(), copy_bits)
    images["group"] = join_groups(images["copies"].tolist(), images["group"].tolist())
    for find in (partial(find_conflicts, copy_bits=copy_bits), find_leaks):
        stays = ~images["dropped"] | (images["split"] == "test") & (find is find_leaks)
        found = find(images[stays])
        rejections += found
        images = images[~images["path"].isin([each.path for each in found])]
    given = {file.split for file in listing.files if file.split}
    images = images.drop(columns="likeness").assign(grey_bits=grey_bits).reset_index(drop=True)
    return Dataset(images, names, rejections, listing.passed_over, given)


def fix_labels(images: pd.DataFrame, labels: Sequence[str], new: Mapping[str, str | None]) -> pd.DataFrame:
    """Add the columns class, given, fixed and dropped to the images, and replace labels by their numbers.

    Args:
        images: with the column `label`.
        labels: labels of all classes, in label order.
        new: {path: label; None: leave the image out}, from labels_fixed.csv.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    dropped = [path in new and new[path] is None for path in images["path"]]
    classes = [new.get(path) or given for path, given in zip(images["path"], images["label"], strict=True)]
    return images.assign(
        **{"class": classes, "given": images["label"]},
        label=[numbers[label] for label in classes],
        fixed=images["path"].isin(new),
        dropped=np.array(dropped, dtype=bool),
    )


def find_conflicts(images: pd.DataFrame, copy_bits: int) -> list[Rejection]:
    """Reject images that have copies in another class.

    It is unknown which of two classes is right, so all images of the group are rejected; if most are in one class,
    these stay. Mirror images may belong to two classes (arrows, letters) and are not compared.
    """
    rejections = []
    torn = images[images.groupby("copies")["class"].transform("nunique") > 1]
    likeness = [each if each is None else each[UNMIRRORED] for each in torn["likeness"]]
    torn = torn.assign(copies=group_copies(torn["pixels"].tolist(), likeness, copy_bits))
    for _, group in torn.groupby("copies"):
        counts = group["class"].value_counts()
        is_clear = counts.iloc[0] >= CLEAR_SHARE * len(group)
        for row in group.to_dict("records") if len(counts) > 1 else ():
            if not is_clear or row["class"] != counts.index[0]:
                detail = name_copies(row, group[group["class"] != row["class"]])
                if is_clear:
                    detail += f"; {counts.iloc[0]} of its {len(group)} copies are in class {counts.index[0]}"
                rejections.append(Rejection(row["path"], "conflict", detail))
    return rejections


def find_leaks(images: pd.DataFrame) -> list[Rejection]:
    """Reject images that have copies, or pictures of their group, in another of the given splits.

    Test wins over val, and val over train: given test splits stay unchanged.
    """
    rejections = []
    for _, group in images[images.groupby("group")["split"].transform("nunique") > 1].groupby("group"):
        for row in group[group["split"] != max(group["split"], key=SPLITS.index)].to_dict("records"):
            rejections.append(Rejection(row["path"], "leak", name_copies(row, group[group["split"] != row["split"]])))
    return rejections


def name_copies(row: dict[str, Any], others: pd.DataFrame) -> str:
    """Describe which images an image is a copy of: exact copies; if there are none, near copies; or the whole group."""
    kinds = {"pixels": "a copy of", "copies": "a near copy of", "group": "in one group with"}
    shared = next(each for each in kinds if (others[each] == row[each]).any())
    paths = others["path"][others[shared] == row[shared]]
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{kinds[shared]} {', '.join(paths[:3])}{more}"
