"""`history.csv`: a row for each epoch of a training, rewritten whole whenever an epoch ends."""

from pathlib import Path

from stages.runtime.files import write_csv

COLUMNS = ("round", "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "best")


def write_history(path: Path, rows: list[dict]) -> None:
    """Write the history; figures are rounded to six significant digits, and `lr` is the rate at an epoch's start."""
    lines = ([f"{value:.6g}" if isinstance(value := row[key], float) else value for key in COLUMNS] for row in rows)
    write_csv(path, [COLUMNS, *lines])
