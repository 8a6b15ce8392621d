"""The ledger metrics/splits.csv, which is in git: where each picture has ever stood, so that it goes back there.

A picture is written as a hash of its pixels, the seed and the fractions: with another seed, or other fractions, none
is found again, and the images are split afresh. Pictures that are no longer there keep their lines.
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
    """Return the name of each picture in the ledger.

    Args:
        pixels: sha256 of each picture's decoded pixels.
    """
    recipe = f"{seed}:{':'.join(f'{fraction:g}' for fraction in fractions)}"
    return [hashlib.sha256(f"{recipe}:{each}".encode()).hexdigest()[:16] for each in pixels]


def read_ledger(path: Path) -> dict[str, str]:
    """Read {picture: split}; nothing, where there is no file.

    Raises:
        UserError: it is no ledger, for instance after a merge in git.
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
    """Write the file, sorted: a version of the images that has more of them adds lines."""
    write_csv(path, [HEADER, *sorted(ledger.items())])


def place_groups(keys: Sequence[str], groups: Sequence[str], ledger: Mapping[str, str]) -> dict[str, str]:
    """Return {group: split} for the groups that have pictures with a place: test wins over val, and val over train."""
    places: dict[str, str] = {}
    for key, group in zip(keys, groups, strict=True):
        if key in ledger:
            places[group] = max(ledger[key], places.get(group, SPLITS[0]), key=SPLITS.index)
    return places
