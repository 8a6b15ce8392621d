"""Read labels_fixed.csv, in which a person corrects labels of an image folder.

    file,label
    daisy/0008.jpg,oxeye daisy
    rose/0101.jpg,drop

A label is a label of the folder or the readable name of a class; `drop` leaves the picture out. A row that repeats the
label of the folder confirms that it is right. The file belongs to one image folder. Without corrections it contains
only the header.
"""

import difflib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from stages.dataset.label_table import read_cells, read_text, refuse_lines, tidy_path
from stages.runtime.files import write_csv

COLUMNS = ("file", "label")
DROP = "drop"


class Fix(NamedTuple):
    """A row of labels_fixed.csv: line number, path of the picture in the folder, and the correct label or DROP."""

    line: int
    file: str
    label: str


def read_fixes(table: Path) -> list[Fix]:
    """Read labels_fixed.csv; an empty file gives an empty list.

    Raises:
        UserError: all mistakes that can be found without the images; one line per mistake.
    """
    if not read_text(table).strip():
        return []
    fixes: dict[str, Fix] = {}
    problems: list[str] = []
    for line, cells in read_cells(table, COLUMNS, problems):
        fix = Fix(line, tidy_path(cells["file"]), cells["label"])
        first = fixes.setdefault(_compose(fix.file), fix)
        if not fix.file or not fix.label:
            problems.append(
                f"line {line}: expected the path of a picture and its label, or {DROP}, found an empty cell; fill it in"
            )
        elif first is not fix:
            problems.append(f"line {line}: {fix.file} is already in line {first.line}; delete one of the two lines")
    refuse_lines(table, problems)
    return list(fixes.values())


def match_fixes(
    table: Path, fixes: Sequence[Fix], folder: Path, files: Iterable[str], names: Mapping[str, str]
) -> dict[str, str | None]:
    """Find the pictures and classes that the rows refer to.

    Args:
        files: paths of all files in the folder, including unusable ones.
        names: {label: readable name of the class}.
    Returns:
        {path: label; None: leave the picture out}.
    Raises:
        UserError: rows do not fit this folder; one line per row.
    """
    by_spelling = {_compose(path): path for path in files}
    paths = [by_spelling.get(_compose(fix.file)) for fix in fixes]
    remedy = f"delete these rows, or set `images` to the folder for which {table.name} was written"
    if len(fixes) > 1 and not any(paths):
        refuse_lines(table, [f"expected pictures of {folder}, but none of the {len(fixes)} rows names one; {remedy}"])
    labels: dict[str, str | None] = {}
    problems = []
    for fix, path in zip(fixes, paths, strict=True):
        if path is None:
            problems.append(f"line {fix.line}: expected a picture of {folder}, found {fix.file!r}; {remedy}")
            continue
        labels[path], problem = _find_label(fix.label, names)
        problems += [f"line {fix.line}: {problem}"] if problem else []
    refuse_lines(table, problems)
    return labels


def _find_label(text: str, names: Mapping[str, str]) -> tuple[str | None, str]:
    """Return the label that a cell means (None for DROP), and a description of a mistake, or ""."""
    spelt = _compose(text)
    meant = {label for label, name in names.items() if spelt in map(_compose, (label, name))}
    if spelt.casefold() == DROP and not meant:
        return None, ""
    if len(meant) == 1 and spelt != DROP:
        return meant.pop(), ""
    if meant:
        return None, f"expected one class, found {text!r}, which may be {' or '.join(sorted(meant))}; rename a class"
    close = difflib.get_close_matches(spelt, {*names, *names.values()}, n=1)
    meant_well = f"; did you mean {close[0]!r}?" if close else "; correct the label"
    return None, f"expected a class of the folder, or {DROP}, found {text!r}{meant_well}"


def _compose(text: str) -> str:
    """Return text with composed accents, as on Windows and Linux."""
    return unicodedata.normalize("NFC", text)


def list_fixes(images: pd.DataFrame) -> pd.DataFrame:
    """List the pictures that labels_fixed.csv names, for other stages.

    Args:
        images: columns path, split, class, given (class in the folder), fixed (whether the file names it), dropped.
    Returns:
        Columns file, split, given and fixed; the last two are classes, and `fixed` is "" if the picture is left out.
    """
    named = images[images["fixed"]].rename(columns={"path": "file"})
    return named.assign(fixed=named["class"].mask(named["dropped"], ""))[["file", "split", "given", "fixed"]]


def count_fixes(fixes: pd.DataFrame) -> dict[str, int]:
    """Count the changes by labels_fixed.csv; dropped pictures of the test split stay in it and are marked."""
    is_dropped, is_test = fixes["fixed"] == "", fixes["split"] == "test"
    is_changed = ~is_dropped & (fixes["fixed"] != fixes["given"])
    counts = {"relabelled": is_changed, "relabelled_in_test": is_changed & is_test}
    counts |= {"dropped": is_dropped & ~is_test, "marked_in_test": is_dropped & is_test}
    return {key: int(each.sum()) for key, each in counts.items()} | {
        "confirmed": int((~is_dropped & ~is_changed).sum())
    }


def add_fixes(table: Path, rows: Iterable[tuple[str, str]]) -> int:
    """Add rows (file, label) to labels_fixed.csv for pictures that it does not name yet; return the number of rows."""
    fixes = read_fixes(table) if table.exists() else []
    named = {fix.file for fix in fixes}
    new = [row for row in rows if row[0] not in named]
    write_csv(table, [COLUMNS, *(fix[1:] for fix in fixes), *new])
    return len(new)
