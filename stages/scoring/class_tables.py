"""Test labels and probabilities in; the scores of each class and the confusion matrix, as tables and a figure, out.

And the way back of the tables: one that is damaged, or belongs to other images, is named with the stage that writes it.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np

from stages.runtime.errors import UserError
from stages.runtime.files import write_text
from stages.scoring.confusion import confusion_frame, draw_confusion
from stages.scoring.scores import per_class

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Numbers:
    """What the numbers of a column may be: 0 or more."""

    most: float = math.inf
    whole: bool = False

    def hold(self, text: str) -> bool:
        try:
            number = int(text) if self.whole else float(text)
        except ValueError:
            return False
        return 0 <= number <= self.most and number < math.inf

    def __str__(self) -> str:
        limits = f"from 0 to {self.most:g}" if self.most < math.inf else "of 0 or more"
        return f"a {'whole ' * self.whole}number {limits}"


AMOUNT, SHARE, COUNT = Numbers(), Numbers(most=1), Numbers(whole=True)
CLASS_COUNTS = {"class": None, "train": COUNT, "val": COUNT, "test": COUNT, "total": COUNT}
PER_CLASS = {"class": None, "precision": SHARE, "recall": SHARE, "f1": SHARE, "support": COUNT}


def write_tables(
    folder: Path, title: str, labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> None:
    """Write `per_class.csv`, `confusion.csv` and `confusion.png` into the folder.

    Args:
        labels: int, shape (n_images,).
        probabilities: float, shape (n_images, n_classes).
    """
    by_class = per_class(labels, probabilities).round(6)
    by_class.insert(0, "class", class_names)
    write_text(folder / "per_class.csv", by_class.to_csv(index=False, lineterminator="\n"))
    confusion = confusion_frame(labels, probabilities.argmax(axis=1), class_names)
    write_text(folder / "confusion.csv", confusion.to_csv(lineterminator="\n"))
    draw_confusion(confusion, title, folder / "confusion.png")


def read_table(path: Path, columns: dict[str, Numbers | None], stage: str) -> list[dict[str, str]]:
    """Read a CSV file with a header line; every value stays text.

    Args:
        columns: what each column holds; None stands for any text.
        stage: that writes the file.
    Raises:
        UserError: the file is missing or damaged, or has other columns, no row, or a value that its column cannot have.
    """
    header, *lines = _read_lines(path, [*columns], stage)
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    for number, row in enumerate(rows, start=1):
        for column, numbers in columns.items():
            if numbers and not numbers.hold(row[column]):
                raise _fault(path, stage, f"{numbers} as {column} of row {number}", repr(row[column]))
    return rows


def read_class_counts(path: Path, stage: str) -> list[dict[str, str]]:
    """Read a `class_counts.csv`; every value stays text.

    Raises:
        UserError: the file is missing or damaged, or its numbers do not add up.
    """
    rows = read_table(path, CLASS_COUNTS, stage)
    for row in rows:
        total = sum(int(row[split]) for split in ("train", "val", "test"))
        if total != int(row["total"]):
            raise _fault(path, stage, f"{total} as total of {row['class']!r}", row["total"])
    if len({row["class"] for row in rows}) < len(rows):
        raise _fault(path, stage, "a row for each class", "a class twice")
    return rows


def read_per_class(path: Path, counts: dict[str, int], stage: str) -> list[dict[str, str]]:
    """Read a `per_class.csv`; every value stays text.

    Args:
        counts: how many test images each class has, in label order.
        stage: that writes the file.
    Raises:
        UserError: the file is missing or damaged, or belongs to other images or classes.
    """
    rows = read_table(path, PER_CLASS, stage)
    _check_counts(path, counts, [(row["class"], int(row["support"])) for row in rows], stage)
    return rows


def read_confusion(path: Path, counts: dict[str, int], stage: str) -> "pd.DataFrame":
    """Read a `confusion.csv`, as `confusion_frame` returns it.

    Args:
        counts: how many test images each class has, in label order.
        stage: that writes the file.
    Raises:
        UserError: the file is missing or damaged, or belongs to other images or classes.
    """
    import pandas as pd

    _, *lines = _read_lines(path, ["actual", *counts], stage)
    for name, *cells in lines:
        if wrong := [cell for cell in cells if not COUNT.hold(cell)]:
            raise _fault(path, stage, f"{COUNT} in each cell of {name!r}", repr(wrong[0]))
    _check_counts(path, counts, [(name, sum(map(int, cells))) for name, *cells in lines], stage)
    matrix = np.array([[int(cell) for cell in cells] for _, *cells in lines], dtype=np.int64)
    return pd.DataFrame(matrix, index=pd.Index([*counts], name="actual"), columns=[*counts])


def _read_lines(path: Path, header: list[str], stage: str) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file, strict=True))
    except PermissionError:  # it may be whole: run_stage says what to do
        raise
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _fault(path, stage, "a table", f"none that can be read ({error})") from None
    found = lines[0] if lines else []
    if found != header:
        columns, others = (shorten(", ".join(names), 100, placeholder=" …") or "none" for names in (header, found))
        raise _fault(path, stage, f"the columns {columns}", others)
    if len(lines) == 1:
        raise _fault(path, stage, "a row or more", "none")
    for number, line in enumerate(lines):
        if len(line) != len(header):
            raise _fault(path, stage, f"{len(header)} values in row {number}", str(len(line)))
    return lines


def _check_counts(path: Path, counts: dict[str, int], found: list[tuple[str, int]], stage: str) -> None:
    for pairs in zip_longest(counts.items(), found):
        if pairs[0] != pairs[1]:
            expected, other = (f"{pair[1]} test images of {pair[0]!r}" if pair else "no such row" for pair in pairs)
            raise _fault(path, stage, f"{expected}, as metrics/class_counts.csv has it", other)


def _fault(path: Path, stage: str, expected: str, found: str) -> UserError:
    return UserError(f"{path}: expected {expected}, found {found}; run `dvc repro {stage}`")
