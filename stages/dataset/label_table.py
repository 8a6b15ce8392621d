"""Reads labels.csv, which names the images of a folder: columns path and label, and optionally split.

The split column has the words of SPLIT_NAMES; it is filled in every row or in none.
"""

import csv
import io
import posixpath
from pathlib import Path
from typing import NamedTuple

from stages.dataset.rejections import UNPRINTABLE
from stages.runtime.errors import UserError

LABELS_FILE = "labels.csv"
MAX_PROBLEMS = 50  # that are told of one file: nobody reads a thousand lines
# the words by which image folders name a split, in lower case, as in Hugging Face's `datasets`
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


class LabelRow(NamedTuple):
    """A row of labels.csv: its line, the path in the folder (not looked up), the label, the split if given."""

    line: int
    path: str
    label: str
    split: str | None


def read_text(path: Path) -> str:
    """Return the text of a file that a person wrote.

    Raises:
        UserError: it is not UTF-8; with the line.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line}: expected UTF-8, found another encoding; save it as UTF-8") from None


def refuse_lines(path: Path, problems: list[str]) -> None:
    """Raise a UserError of all that is wrong with a file, if anything is."""
    lines = [f"{path}: {problem}" for problem in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        lines.append(f"{path}: and {len(problems) - MAX_PROBLEMS} more; mend these first")
    if lines:
        raise UserError(*lines)


def read_label_table(path: Path) -> list[LabelRow]:
    """Read labels.csv.

    Returns:
        the rows in the file's order, no path twice.
    Raises:
        UserError: all that is wrong with it, a line each.
    """
    text = io.StringIO(read_text(path), newline="")
    # strict: a quote that is never closed would otherwise swallow the rows below it
    reader = csv.DictReader(text, restval="", skipinitialspace=True, strict=True)
    rows: list[LabelRow] = []
    problems: list[str] = []
    try:
        reader.fieldnames = columns = [name.strip().casefold() for name in reader.fieldnames or ()]
        if not columns.count("path") == columns.count("label") == 1:
            found = ",".join(columns) or "none"
            refuse_lines(path, [f"line 1: expected the columns path and label, once each, found {found}; mend it"])
        line_of: dict[str, int] = {}
        for cells in reader:
            surplus = "".join(cells.pop(None, ())).strip()
            if not (surplus or "".join(cells.values()).strip()):
                continue
            row, its_problems = _read_row(reader.line_num, cells)
            if surplus:
                its_problems.append(f"expected {len(columns)} cells, found more; quote a cell that has a comma in it")
            if (first := line_of.setdefault(row.path, row.line)) != row.line:
                its_problems.append(f"{row.path} stands in line {first} already; keep one of the two")
            if rows and (row.split is None) != (rows[0].split is None):
                its_problems.append("expected a split in every row or in none; fill it in, or remove the column")
            rows.append(row)
            problems += [f"line {row.line}: {problem}" for problem in its_problems]
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: expected comma-separated values ({error}); mend its quotes")
    refuse_lines(path, problems)
    return rows


def _read_row(line: int, cells: dict[str, str]) -> tuple[LabelRow, list[str]]:
    problems = []
    path, label, split = (cells.get(name, "").strip() for name in ("path", "label", "split"))
    if not path:
        problems.append("the path is empty; give the image's, in this folder")
    if not label or UNPRINTABLE.search(label):
        problems.append(f"expected the name of the image's class, found {label!r}; mend the label")
    if split and split.casefold() not in SPLIT_NAMES:
        problems.append(f"expected the split train, val or test, found {split!r}; mend it")
    path = posixpath.normpath(path.replace("\\", "/"))  # as Windows writes it
    if path.startswith("/"):  # the manifest would differ from machine to machine
        problems.append(f"expected a path in this folder, found {path}; take away what leads to the folder")
    return LabelRow(line, path, label, SPLIT_NAMES.get(split.casefold(), split or None)), problems
