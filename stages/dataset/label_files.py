"""The text files that a user may put beside the images in: their text, or the rows of labels.csv, out."""

import csv
import io
import os
import posixpath
import re
import stat
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from stages.runtime.errors import UserError

LABELS_FILE = "labels.csv"
MAX_LABELS_BYTES = 2**30
MAX_NAME_LENGTH = 255
MAX_PROBLEMS = 50
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
ABSOLUTE = re.compile(r"/|[A-Za-z]:[\\/]")
# control characters, the line and paragraph separators, and the bytes of a file name that are not UTF-8
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class LabelRow(NamedTuple):
    """A row of labels.csv: its first line, the path in the folder (not looked up), the label, the split if given."""

    line: int
    path: str
    label: str
    split: str | None


def printable(text: object) -> str:
    """Write what a terminal or a log would not show, or would break a line at, as backslash escapes."""
    return UNPRINTABLE.sub(_escape, str(text))


def _escape(match: re.Match) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python could not decode: the byte itself
        code -= 0xDC00
    return f"\\u{code:04x}" if code > 0xFF else {9: "\\t", 10: "\\n", 13: "\\r"}.get(code, f"\\x{code:02x}")


def quote(text: str) -> str:
    """Write a piece of a user's file so that it fits into a message."""
    return printable(text if len(text) <= MAX_NAME_LENGTH else f"{text[:MAX_NAME_LENGTH]}...")


@lru_cache(maxsize=1024)  # the label of many images is looked at once
def find_name_fault(name: str) -> str | None:
    """Say what is wrong with the name of a class, if anything is."""
    if not name.strip():
        return "is empty"
    if UNPRINTABLE.search(name):
        return "has a line break, a tab or another character in it that cannot be printed"
    if len(name) > MAX_NAME_LENGTH:
        return f"has {len(name)} characters, more than {MAX_NAME_LENGTH}"
    return None


def shorten(problems: list[str], where: str) -> list[str]:
    """Keep the first problems of a file, and the number of the others: nobody reads a thousand lines."""
    n_more = len(problems) - MAX_PROBLEMS
    return problems if n_more <= 0 else [*problems[:MAX_PROBLEMS], f"{where}: and {n_more} more; mend these first"]


def read_text(path: Path, max_bytes: int) -> str | None:
    """Return the text of a UTF-8 file without its byte order mark; None if there is no such file, or it is a folder.

    Raises:
        UserError: it is no regular file (which is never opened), too large, not readable, or not UTF-8.
    """
    where = printable(path)
    if not os.path.lexists(path) or os.path.isdir(path):  # noqa: PTH112 - pathlib's raises where it may not look
        return None
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{where}: expected a text file, found a pipe, a socket or a device; remove it")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise UserError(f"{where}: expected a text file, found none ({error.strerror}); mend or remove it") from None
    if len(content) > max_bytes:
        raise UserError(f"{where}: expected at most {max_bytes} bytes, found more; make it smaller or remove it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{where}: line {line}: expected UTF-8, found another encoding; save it as UTF-8") from None


def read_labels(folder: Path) -> tuple[list[LabelRow], list[str]]:
    """Read the file labels.csv of a folder.

    Returns:
        the rows that nothing is wrong with, in the file's order, no path twice; and what is wrong, a line each.
    Raises:
        UserError: it cannot be read as text.
    """
    where = printable(folder / LABELS_FILE)
    text = read_text(folder / LABELS_FILE, MAX_LABELS_BYTES) or ""
    table = _Table(os.fspath(folder))
    # strict: a quote that is never closed would otherwise swallow the rows below it
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    line = 1
    try:
        for cells in reader:
            if "".join(cells).strip():
                table.read(line, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        table.faults.append((line, f"expected comma-separated values, found none ({error}); mend its quotes"))
    problems = [f"{where}: line {line}: {fault}" for line, fault in table.list_faults()]
    return table.rows, shorten(problems, where)


class _Table:
    """What was read of labels.csv so far: the rows that are right, and what was wrong with the others."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.columns: list[str] | None = None
        self.faults: list[tuple[int, str]] = []
        self.rows: list[LabelRow] = []
        self.line_of: dict[str, int] = {}
        self.with_split: list[int] = []
        self.without_split: list[int] = []

    def read(self, line: int, cells: list[str]) -> None:
        """Take the header, or a row below it."""
        if self.columns is None:
            self.columns = [cell.strip().casefold() for cell in cells]
            self.faults += [(line, fault) for fault in _find_header_faults(self.columns)]
            self.is_usable = not self.faults
        elif self.is_usable:
            self._read_row(line, cells)

    def _read_row(self, line: int, cells: list[str]) -> None:
        n_columns = len(self.columns)
        cells += [""] * (n_columns - len(cells))
        path, path_fault = self._read_path(cells[self.columns.index("path")])
        label = cells[self.columns.index("label")].strip()
        name_fault = find_name_fault(label)
        split = cells[self.columns.index("split")].strip() if "split" in self.columns else ""
        (self.with_split if split else self.without_split).append(line)
        first = self.line_of.setdefault(path, line)
        faults = []
        if "".join(cells[n_columns:]).strip():
            faults.append(f"expected {n_columns} cells, found {len(cells)}; quote a cell that has a comma in it")
        if path_fault:
            faults.append(path_fault)
        elif first != line:
            faults.append(f"{quote(path)} stands in line {first} already; keep one of the two")
        if name_fault:
            faults.append(f"the label {name_fault}; give the name of the image's class")
        if split and split.casefold() not in SPLIT_NAMES:
            faults.append(f"expected the split train, val or test, found {quote(split)}; mend it")
        self.faults += [(line, fault) for fault in faults]
        if not faults:
            self.rows.append(LabelRow(line, path, label, SPLIT_NAMES.get(split.casefold())))

    def _read_path(self, cell: str) -> tuple[str, str | None]:
        """Return the path in its simplest form, and what is wrong with it."""
        path = cell.strip().replace("\\", "/")  # as Windows means it
        if path != cell:
            readings = (cell, cell.strip())
            path = next((each for each in readings if each and os.path.lexists(f"{self.folder}/{each}")), path)
        remedy = "give it relative to the folder of labels.csv"
        if not path:
            return path, "the path is empty; give the image's"
        if ABSOLUTE.match(path):
            return path, f"{quote(path)} is an absolute path; {remedy}"
        path = posixpath.normpath(path)
        if path in (".", "..") or path.startswith("../"):
            return path, f"{quote(path)} leads to no file in the folder; {remedy}"
        return path, None

    def list_faults(self) -> list[tuple[int, str]]:
        """Return all that is wrong, by line."""
        if self.columns is None and not self.faults:
            return [(1, "expected a header with the columns path and label, found an empty file; write or remove it")]
        faults = list(self.faults)
        if self.with_split:
            fault = f"the split is empty, but line {self.with_split[0]} has one; give it in every row or in none"
            faults += [(line, fault) for line in self.without_split]
        return sorted(faults)


def _find_header_faults(columns: list[str]) -> list[str]:
    found = quote(", ".join(columns))
    missing = [name for name in ("path", "label") if name not in columns]
    twice = [name for name in ("path", "label", "split") if columns.count(name) > 1]
    faults = []
    if missing and any(mark in column for column in columns for mark in ";\t"):
        faults.append(f"expected the columns path and label, found {found}; separate the columns by commas")
    elif missing:
        faults.append(f"expected the columns path and label, found {found}; add {' and '.join(missing)} to the header")
    if twice:
        faults.append(f"expected a column of each name, found {found}; remove one {' and one '.join(twice)}")
    return faults
