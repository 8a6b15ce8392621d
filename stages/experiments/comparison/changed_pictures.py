"""The pictures whose answer differs between two revisions: both answers, and the pixels for the page."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.pixels.decoding import read_square
from stages.reporting.pictures import LARGEST_PX, encode_thumbnail

SIDES = ("before", "after")


def describe_changed(
    changed: pd.DataFrame, pictures: pd.DataFrame, class_names: Sequence[str], names: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Describe each changed picture.

    Args:
        changed: as from `find_changed`.
        pictures: as in `Matching`.
        class_names: class names in label order.
        names: {side: name of the revision}.
    Returns:
        A dict per picture: path, actual, kind, and `said` (both answers): name, answer, probability, right.
    """
    return [
        {
            "path": pictures["path_after"].iloc[each["row"]],
            "actual": class_names[each["label"]],
            "kind": each["kind"],
            "said": [
                {
                    "name": names[side],
                    "answer": class_names[each[f"said_{side}"]],
                    "probability": each[f"sure_{side}"],
                    "right": each[f"said_{side}"] == each["label"],
                }
                for side in SIDES
            ],
        }
        for each in changed.to_dict("records")
    ]


def choose_size(pictures: pd.DataFrame) -> int:
    """Return the side of the thumbnails in pixels: at most the median size of the pictures."""
    return min(LARGEST_PX, int(pictures[["width_after", "height_after"]].min(axis=1).median()))


def show_picture(listed: pd.Series, folders: Mapping[str, str], size_px: int) -> str:
    """Return a picture as a data URI from the file in the workspace; "" if the file is missing or changed.

    Args:
        listed: a row of `Matching.pictures`.
        folders: {side: image folder of its manifest}.
    """
    for side in reversed(SIDES):
        path = Path(folders[side]) / listed[f"path_{side}"]
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == listed["sha256"]:
            grey_bits = listed.get(f"grey_bits_{side}", listed.get("grey_bits"))
            grey_bits = None if grey_bits is None else int(grey_bits)
            return encode_thumbnail(read_square(path, size_px, listed["sha256"], grey_bits))
    return ""
