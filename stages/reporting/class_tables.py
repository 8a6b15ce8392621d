"""Write the scores of each class and the confusion matrix, as tables and as a figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.reporting.confusion_figure import draw_confusion
from stages.runtime.files import write_text
from stages.scoring.confusion import confusion_frame
from stages.scoring.scores import per_class


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
