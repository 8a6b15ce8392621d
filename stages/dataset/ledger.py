"""The ledger metrics/splits.csv, kept in git: the split of each picture that was ever seen, so that it stays there.

The key of a picture is a hash of its pixels, the seed and the fractions. With another seed or other fractions no
picture is found again, and the images get a new split. Pictures that no longer exist keep their rows.
"""

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from stages.pixels.packed_splits import SPLITS
from stages.runtime.errors import UserError
from stages.runtime.files import write_csv

HEADER = ["picture", "split"]


def picture_keys(pixels: Iterable[str], seed: int, fractions: Sequence[float]) -> list[str]:
    """Return the key of each picture in the ledger.

    Args:
        pixels: sha256 of the decoded pixels of each picture.
    """
    recipe = f"{seed}:{':'.join(f'{fraction:g}' for fraction in fractions)}"
    return [hashlib.sha256(f"{recipe}:{each}".encode()).hexdigest()[:16] for each in pixels]


def read_ledger(path: Path) -> dict[str, str]:
    """Read {picture: split}; empty if there is no file.

    Raises:
        UserError: the file is not a ledger, for example after a merge in git.
    """
    if not path.exists():
        return {}
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    if rows[:1] != [HEADER] or any(len(row) != 2 or row[1] not in SPLITS for row in rows[1:]):
        raise UserError(
            f"{path}: expected lines `picture,split`, found others; restore the file from git, or delete it to make a "
            "new split"
        )
    return dict(rows[1:])


def write_ledger(path: Path, ledger: Mapping[str, str]) -> None:
    """Write the file, sorted, so that additional images only add rows."""
    write_csv(path, [HEADER, *sorted(ledger.items())])


def place_groups(keys: Sequence[str], groups: Sequence[str], ledger: Mapping[str, str]) -> dict[str, str]:
    """Return {group: split} for groups with pictures in the ledger: test wins over val, and val over train."""
    places: dict[str, str] = {}
    for key, group in zip(keys, groups, strict=True):
        if key in ledger:
            places[group] = max(ledger[key], places.get(group, SPLITS[0]), key=SPLITS.index)
    return places
