"""Predictions of a model on the validation and test images, in an .npz file, so that `ensemble` needs no network."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stages.runtime.errors import UserError
from stages.runtime.files import written_whole


@dataclass(frozen=True)
class Predictions:
    """Probabilities, float32 (n_images, n_classes), rows sum to 1; labels and groups, int64; names (n_classes,)."""

    val_probabilities: np.ndarray
    val_labels: np.ndarray
    val_groups: np.ndarray
    test_probabilities: np.ndarray
    test_labels: np.ndarray
    test_groups: np.ndarray
    class_names: np.ndarray


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the predictions; the same predictions give the same bytes."""
    with written_whole(path) as temporary:
        np.savez(temporary, **asdict(predictions))


def read_predictions(path: Path) -> Predictions:
    """Read the predictions of a model; the file has its name.

    Raises:
        UserError: the file is missing, or written by an earlier version.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `dvc repro`")
    with np.load(path) as arrays:
        if {*arrays} != Predictions.__dataclass_fields__.keys():
            raise UserError(
                f"{path}: expected the arrays {', '.join(Predictions.__dataclass_fields__)}, found others; run `dvc "
                "repro`"
            )
        return Predictions(**arrays)


def read_members(folder: Path, names: Sequence[str]) -> dict[str, Predictions]:
    """Read the predictions of the members of an ensemble.

    Raises:
        UserError: a file is missing, or has other pictures than the first one.
    """
    members = {name: read_predictions(folder / f"{name}.npz") for name in names}
    first = vars(members[names[0]])
    for name, member in members.items():
        if not all(np.array_equal(first[key], each) for key, each in vars(member).items() if "probab" not in key):
            raise UserError(
                f"{folder / name}.npz: expected the same pictures as in {names[0]}.npz, found others; run `dvc repro`"
            )
    return members
