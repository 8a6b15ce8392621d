"""Why a file of the image folder is left out: the reasons, the file that lists them, and what `strict` says."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from stages.runtime.files import write_text

REASONS = {
    "missing": "labels.csv names it, but it is not there",
    "link": "a link that cannot be followed",
    "special": "no regular file",
    "name": "a name that cannot be written down",
    "unreadable": "not readable",
    "empty": "an empty file",
    "format": "no JPEG, PNG, WebP, GIF, TIFF or BMP",
    "damaged": "a damaged image",
    "size": "too many pixels",
    "conflict": "the same picture under two classes",
    "leak": "the same picture in two splits",
}


@dataclass(frozen=True, order=True)
class Rejection:
    """A file that is left out, by its path in the folder; the reason is a key of REASONS, the detail says more."""

    path: str
    reason: str
    detail: str

    def in_words(self) -> str:
        return f"{self.path}: {REASONS[self.reason]} ({self.detail})"


def count_reasons(rejections: Iterable[Rejection]) -> dict[str, int]:
    """Count the rejections of every reason, 0 where there is none, and all of them as `total`."""
    counts = Counter(each.reason for each in rejections)
    return {"total": counts.total(), **{reason: counts[reason] for reason in REASONS}}


def write_rejections(path: Path, rejections: Iterable[Rejection]) -> None:
    """Write the CSV file with the columns path, reason, detail; without rejections it has the header alone."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "reason", "detail"])
    writer.writerows(astuple(each) for each in sorted(rejections))
    write_text(path, text.getvalue())


def refusals(folder: Path, rejections: Sequence[Rejection], n_files: int, policy: str) -> list[str]:
    """Return what the policy `strict` has to say: a line for each rejection, and one that says what to do."""
    if policy == "skip" or not rejections:
        return []
    return [
        *(f"{folder}/{each.in_words()}" for each in sorted(rejections)),
        f"{folder}: {len(rejections)} of {n_files} files cannot be used; mend or remove them, or set images_policy to "
        "skip, which lists them and leaves them out",
    ]
