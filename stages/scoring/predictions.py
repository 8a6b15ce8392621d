"""What a model says of the validation and test images: kept in an .npz file, so that a vote needs no network."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stages.runtime.errors import UserError
from stages.runtime.files import written_whole


@dataclass(frozen=True)
class Predictions:
    """Probabilities, float32 (n_images, n_classes), rows sum to 1; labels, int64 (n_images,); names (n_classes,)."""

    val_probabilities: np.ndarray
    val_labels: np.ndarray
    test_probabilities: np.ndarray
    test_labels: np.ndarray
    class_names: np.ndarray


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the file whole; the same predictions give the same bytes."""
    with written_whole(path) as temporary:
        np.savez(temporary, **asdict(predictions))


def read_predictions(path: Path) -> Predictions:
    """Read the file of the model that it is named after.

    Raises:
        UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `dvc repro`")
    with np.load(path) as arrays:
        return Predictions(**arrays)
