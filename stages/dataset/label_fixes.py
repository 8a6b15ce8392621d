"""Reads labels_fixed.csv: what a person has found out about labels of an image folder.

    file,label
    daisy/0008.jpg,oxeye daisy
    rose/0101.jpg,drop

A label is one that the folder gives, or its class's name; `drop` leaves the picture out. A picture's own label says
that it has been looked at and is right. The file is there for one image folder, and has the header alone where nothing
is to be fixed.
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
    """A row of labels_fixed.csv: its line, the picture's path in the folder, what its label is to be; or DROP."""

    line: int
    file: str
    label: str


def read_fixes(table: Path) -> list[Fix]:
    """Read labels_fixed.csv; nothing, where the file is empty.

    Raises:
        UserError: all that can be wrong with it without a look at the images, a line each.
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
    """Find the pictures and classes that the rows speak of.

    Args:
        files: the paths of all pictures of the folder, also of those that cannot be used.
        names: {label: the name of its class}.
    Returns:
        {path: label, or None: it is to be left out}.
    Raises:
        UserError: a row is not about this folder; each has its line.
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
    """Return the label that a cell means, or None for DROP; and what is wrong with it, if anything is."""
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
    """Write accents as Windows and Linux do."""
    return unicodedata.normalize("NFC", text)


def list_fixes(images: pd.DataFrame) -> pd.DataFrame:
    """List the pictures that labels_fixed.csv names, for other stages to read.

    Args:
        images: columns path, split, class, given (class), fixed (is named), dropped.
    Returns:
        Columns file, split, given and fixed: names of classes; no name in the last, where it is to be left out.
    """
    named = images[images["fixed"]].rename(columns={"path": "file"})
    return named.assign(fixed=named["class"].mask(named["dropped"], ""))[["file", "split", "given", "fixed"]]


def count_fixes(fixes: pd.DataFrame) -> dict[str, int]:
    """Count what labels_fixed.csv changed; a picture of the test split that is to be dropped stays, and is marked."""
    is_dropped, is_test = fixes["fixed"] == "", fixes["split"] == "test"
    is_changed = ~is_dropped & (fixes["fixed"] != fixes["given"])
    counts = {"relabelled": is_changed, "relabelled_in_test": is_changed & is_test}
    counts |= {"dropped": is_dropped & ~is_test, "marked_in_test": is_dropped & is_test}
    return {key: int(each.sum()) for key, each in counts.items()} | {
        "confirmed": int((~is_dropped & ~is_changed).sum())
    }


def add_fixes(table: Path, rows: Iterable[tuple[str, str]]) -> int:
    """Add rows of file and label to labels_fixed.csv, but of pictures that it names already; return how many."""
    fixes = read_fixes(table) if table.exists() else []
    named = {fix.file for fix in fixes}
    new = [row for row in rows if row[0] not in named]
    write_csv(table, [COLUMNS, *(fix[1:] for fix in fixes), *new])
    return len(new)
