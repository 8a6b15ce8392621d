"""Which split each picture stood in, in and out: a file in git, so that earlier pictures stay where they were.

A picture is written as a hash of its pixels, the seed and the fractions: with another seed, or other fractions, none
is found again, and the images are split afresh.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from stages.dataset.splits import SPLITS
from stages.runtime.errors import UserError
from stages.runtime.files import write_text

HEADER = ["picture", "split"]


def picture_keys(pixels: Iterable[str], seed: int, fractions: Sequence[float]) -> list[str]:
    """Return the name of each picture in the file.

    Args:
        pixels: sha256 of each picture's decoded pixels.
    """
    recipe = f"{seed}:{':'.join(f'{fraction:g}' for fraction in fractions)}"
    return [hashlib.sha256(f"{recipe}:{each}".encode()).hexdigest()[:16] for each in pixels]


def read_placements(path: Path) -> dict[str, str]:
    """Read {picture: split}; nothing, where there is no file.

    Raises:
        UserError: it is no such file.
    """
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines(), strict=True))
    except FileNotFoundError:
        return {}
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not readable ({error}); restore it from git, or remove it to split afresh") from None
    if rows[:1] != [HEADER] or any(len(row) != 2 or row[1] not in SPLITS for row in rows[1:]):
        raise UserError(f"{path}: expected lines of picture,split; restore it from git, or remove it to split afresh")
    return dict(rows[1:])


def write_placements(path: Path, keys: Sequence[str], splits: Sequence[str]) -> None:
    """Write the file, sorted: a version of the images that has more of them adds lines."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([HEADER, *sorted(set(zip(keys, splits, strict=True)))])
    write_text(path, text.getvalue())


def place_groups(keys: Sequence[str], groups: Sequence[str], placements: dict[str, str]) -> dict[str, str]:
    """Return {group: split} for the groups that have pictures with an earlier place; most of them decide."""
    votes: dict[str, Counter[str]] = {}
    for key, group in zip(keys, groups, strict=True):
        if key in placements:
            votes.setdefault(group, Counter())[placements[key]] += 1
    return {group: max(SPLITS, key=lambda split: (count[split], split)) for group, count in votes.items()}
