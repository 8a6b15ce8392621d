"""A model's probabilities on the validation and test images in, one .npz file out; and the way back."""

from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from stages.shared.errors import UserError
from stages.shared.files import written_whole


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
    """Read the file.

    Raises:
        UserError: it is missing, damaged, or its arrays do not fit one another.
    """
    try:
        with np.load(path) as arrays:
            predictions = Predictions(**arrays)
    except (OSError, EOFError, ValueError, TypeError, BadZipFile) as error:
        raise UserError(f"{path}: not a readable prediction file ({error}); run `dvc repro`") from None
    for split in ("val", "test"):
        probabilities, labels = getattr(predictions, f"{split}_probabilities"), getattr(predictions, f"{split}_labels")
        expected = (len(labels), len(predictions.class_names))
        if probabilities.shape != expected:
            raise UserError(
                f"{path}: {split} probabilities {probabilities.shape}, expected {expected}; run `dvc repro`"
            )
    return predictions
