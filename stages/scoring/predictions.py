"""A model's probabilities on the validation and test images in, one .npz file out; and the way back."""

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

from stages.runtime.errors import UserError
from stages.runtime.files import written_whole

TOLERANCE = 1e-4  # of the sum of an image's probabilities


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
        UserError: it is missing, damaged, or its arrays are no predictions.
    """
    remedy = f"run `dvc repro evaluate@{path.stem}`"
    try:
        with path.open("rb") as file, NpzFile(file) as arrays:
            predictions = Predictions(**arrays)
    except PermissionError:  # it may be whole: run_stage says what to do
        raise
    except (OSError, EOFError, ValueError, TypeError, RuntimeError, TokenError, BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path}: expected a prediction file, found none that can be read ({error}); {remedy}"
        ) from None
    if fault := find_fault(predictions):
        raise UserError(f"{path}: {fault}; {remedy}")
    return predictions


def find_fault(predictions: Predictions) -> str:
    """Say what was expected and what was found if these are no predictions; an empty text if they are."""
    names = predictions.class_names
    if names.dtype.kind != "U" or names.ndim != 1 or not 0 < len({*names.tolist()}) == len(names):
        return f"expected different names of classes, found {names.dtype} of shape {names.shape}"
    splits = {
        "val": (predictions.val_probabilities, predictions.val_labels),
        "test": (predictions.test_probabilities, predictions.test_labels),
    }
    faults = (_find_fault_of(split, *arrays, len(names)) for split, arrays in splits.items())
    return next(filter(None, faults), "")


def _find_fault_of(split: str, probabilities: np.ndarray, labels: np.ndarray, n_classes: int) -> str:
    if labels.dtype != np.int64 or labels.ndim != 1 or not len(labels):
        return f"expected {split} labels as int64 of shape (n_images,), found {labels.dtype} of shape {labels.shape}"
    shape = len(labels), n_classes
    if probabilities.dtype != np.float32 or probabilities.shape != shape:
        found = f"{probabilities.dtype} of shape {probabilities.shape}"
        return f"expected {split} probabilities as float32 of shape {shape}, found {found}"
    if not 0 <= labels.min() <= labels.max() < n_classes:
        return f"expected {split} labels from 0 to {n_classes - 1}, found {labels.min()} to {labels.max()}"
    sums = probabilities.sum(axis=1, dtype=np.float64)
    right = (probabilities >= 0).all(axis=1) & (abs(sums - 1) <= TOLERANCE)  # nan is neither
    if not right.all():
        image = int(right.argmin())
        found = f"{probabilities[image].min():g} as the least and {sums[image]:g} as the sum of image {image}"
        return f"expected {split} probabilities of 0 or more that sum to 1 for each image, found {found}"
    return ""
