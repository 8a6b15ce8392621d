"""Rejected files of the image folder: the reasons, the CSV file that lists them, and the error for `strict`."""

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.runtime.errors import UserError
from stages.runtime.files import write_csv

REASONS = {
    "missing": "the file does not exist",
    "link": "a link to nowhere, to a folder outside, or to a folder that is already listed",
    "name": "a file name with control characters or invalid UTF-8",
    "unreadable": "not readable",
    "empty": "an empty file",
    "format": "not a readable JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP or PPM",
    "damaged": "a damaged image",
    "size": "too many pixels",
    "conflict": "the same picture under two classes",
    "leak": "the same picture, or group, in two splits",
}
N_NAMED = 10  # more files with the same reason and extension share one line
# control characters, line and paragraph separators, and the bytes of a file name that are not UTF-8
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Rejection(NamedTuple):
    """A file that is left out: its path in the folder, a key of REASONS, and a detail."""

    path: str
    reason: str
    detail: str

    def in_words(self) -> str:
        return f"{self.path}: {REASONS[self.reason]} ({self.detail})"


def printable(text: str) -> str:
    """Replace characters that cannot be in a line of text by backslash escapes."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def count_reasons(rejections: Iterable[Rejection]) -> dict[str, int]:
    """Count the rejections by reason, also 0, and all rejections as `total`."""
    counts = Counter(each.reason for each in rejections)
    return {"total": counts.total(), **{reason: counts[reason] for reason in REASONS}}


def write_rejections(path: Path, rejections: Iterable[Rejection]) -> None:
    """Write a CSV file with the columns path, reason, detail; without rejections it has only the header."""
    write_csv(path, [Rejection._fields, *sorted(rejections)])


def list_rejections(folder: Path, rejections: Iterable[Rejection]) -> Iterator[str]:
    """Yield one line per rejection, or one for many similar ones (for example, a text file beside each picture)."""
    kinds = defaultdict(list)
    for each in sorted(rejections):
        kinds[each.reason, posixpath.splitext(each.path)[1].casefold()].append(each)
    for (reason, ending), some in kinds.items():
        if len(some) > N_NAMED:
            example = f"for example {folder}/{some[0].path}: {some[0].detail}"
            yield f"{folder}: {len(some)} files *{ending}: {REASONS[reason]} ({example})"
        else:
            yield from (f"{folder}/{each.in_words()}" for each in some)


def refuse_rejections(
    folder: Path, rejections: Sequence[Rejection], n_files: int, labels_fixed: Path | None = None
) -> None:
    """Raise a UserError for the policy `strict`: lines for the rejections, and a line with the remedy."""
    if rejections:
        near_copies = any("near copy" in each.detail for each in rejections)
        settle = f"; for a picture in two classes, add a row to {labels_fixed}: the file, and its class or `drop`"
        is_torn = labels_fixed is not None and any(each.reason == "conflict" for each in rejections)
        raise UserError(
            *list_rejections(folder, rejections),
            f"{folder}: {len(rejections)} of {n_files} files cannot be used (data/rejected.csv lists all); repair, "
            "remove or move them, or set `images_policy: skip` in params.yaml to leave them out"
            + settle * is_torn
            + "; if near copies are different pictures, lower images_copy_bits" * near_copies,
        )
