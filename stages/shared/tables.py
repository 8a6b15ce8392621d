"""Test labels and probabilities in; the scores of each class and the confusion matrix, as tables and a figure, out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.shared.confusion import confusion_frame, draw_confusion
from stages.shared.files import write_text
from stages.shared.scoring import per_class


def write_tables(
    folder: Path, title: str, labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> None:
    """Write `per_class.csv`, `confusion.csv` and `confusion.png` into the folder.

    Args:
        labels: int, shape (n_images,).
        probabilities: float, shape (n_images, n_classes).
    """
    by_class = per_class(labels, probabilities).round(6)
    by_class.insert(0, "class", class_names)
    write_text(folder / "per_class.csv", by_class.to_csv(index=False, lineterminator="\n"))
    confusion = confusion_frame(labels, probabilities.argmax(axis=1), class_names)
    write_text(folder / "confusion.csv", confusion.to_csv(lineterminator="\n"))
    draw_confusion(confusion, title, folder / "confusion.png")
