"""Read labels.csv, which lists the images of a folder: columns path and label, and optionally split and group.

The split column uses the words of SPLIT_NAMES, in every row or in no row. Pictures of one group (a specimen, a day, a
video) stay in one split; an empty cell means no group. Cells are separated by commas, or by semicolons or tabs, which
Excel writes in many languages; the header shows which.
"""

import codecs
import csv
import io
import posixpath
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.dataset.rejections import UNPRINTABLE, printable
from stages.pixels.packed_splits import SPLITS
from stages.runtime.errors import UserError

LABELS_FILE = "labels.csv"
# lower-case names of splits in image folders, as in Hugging Face's `datasets`
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


class LabelRow(NamedTuple):
    """A row of labels.csv: line number, path in the folder (it may not exist), label, and split and group if given."""

    line: int
    path: str
    label: str
    split: str | None
    group: str = ""


def read_text(path: Path) -> str:
    """Return the text of a file that a person wrote: UTF-8, or UTF-16 with a byte order mark (Excel, PowerShell).

    Raises:
        UserError: the file has another encoding; the message names the line.
    """
    content = path.read_bytes()
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line}: expected UTF-8, found another encoding; save it as UTF-8") from None


def refuse_lines(path: Path, problems: list[str]) -> None:
    """Raise a UserError with all problems of a file, if there are any."""
    if problems:
        raise UserError(*(f"{path}: {problem}" for problem in problems))


def read_label_table(table: Path) -> list[LabelRow]:
    """Read labels.csv.

    Returns:
        The rows in the order of the file, without duplicate paths.
    Raises:
        UserError: the file has mistakes; one line per mistake.
    """
    rows: dict[str, LabelRow] = {}
    problems: list[str] = []
    for line, cells in read_cells(table, ("path", "label"), problems):
        path, label, split, group = (cells.get(name, "") for name in ("path", "label", "split", "group"))
        path = tidy_path(path)
        split_name = SPLIT_NAMES.get(split.casefold(), split or None)
        label, group = (unicodedata.normalize("NFC", each) for each in (label, group))  # composed accents
        row = LabelRow(line, path, label, split_name, group)
        first = rows.setdefault(path, row)
        has_split = next(iter(rows.values())).split is not None
        checks = [
            # an absolute path would differ between machines
            (
                not path or path[0] == "/",
                f"expected the path of an image inside this folder, found {path!r}; correct the path",
            ),
            (path and first is not row, f"{path} is already in line {first.line}; delete one of the two lines"),
            (
                not label or UNPRINTABLE.search(label),
                f"expected the name of a class, found {label!r}; correct the label",
            ),
            (row.split not in (None, *SPLITS), f"expected the split train, val or test, found {split!r}; correct it"),
            (
                (row.split is not None) != has_split,
                "expected a split in every row or in no row; fill in the missing splits",
            ),
        ]
        problems += [f"line {row.line}: {problem}" for is_wrong, problem in checks if is_wrong]
    refuse_lines(table, problems or find_cut_groups(rows.values()))
    return list(rows.values())


def read_cells(table: Path, needed: Sequence[str], problems: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, {lower-case column: cell}) for each line of a CSV file that is not blank.

    Args:
        needed: columns that must exist exactly once.
        problems: the function adds mistakes in lines to this list.
    Raises:
        UserError: the file has other columns, or another encoding.
    """
    text = read_text(table)
    separator = max(",;\t", key=text.partition("\n")[0].count)
    # strict: otherwise an unclosed quote would swallow the rows below it
    dialect = {"delimiter": separator, "skipinitialspace": True, "strict": True}
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="", **dialect)
    try:
        reader.fieldnames = columns = [name.strip().casefold() for name in reader.fieldnames or ()]
        if any(columns.count(name) != 1 for name in needed):
            expected, found = " and ".join(needed), ",".join(columns) or "none"
            refuse_lines(
                table, [f"line 1: expected the columns {expected}, once each, found {found}; correct the first line"]
            )
        for cells in reader:
            surplus = "".join(cells.pop(None, ())).strip()
            cells = {name: cell.strip() for name, cell in cells.items()}
            if surplus:
                found = f"expected {len(columns)} cells, found more; put cells that contain {separator!r} in quotes"
                problems.append(f"line {reader.line_num}: {found}")
            if surplus or any(cells.values()):
                yield reader.line_num, cells
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: expected comma-separated values ({error}); correct the quotes")


def tidy_path(path: str) -> str:
    """Return a path as `walk` lists it, also for a path with the separators of Windows."""
    return path and posixpath.normpath(path.replace("\\", "/"))


def find_cut_groups(rows: Iterable[LabelRow]) -> list[str]:
    """Return one line for each group whose pictures are in several splits."""
    first: dict[str, LabelRow] = {}
    cut = {}
    for row in rows:
        if row.group and row.split != first.setdefault(row.group, row).split:
            cut.setdefault(row.group, row)
    return [
        f"line {row.line}: expected all pictures of group {printable(group)} in one split, found {row.split} here and "
        f"{first[group].split} in line {first[group].line}; give them the same split"
        for group, row in cut.items()
    ]
