"""`history.csv`: one row per epoch of a training; the whole file is rewritten after each epoch."""

from pathlib import Path

from stages.runtime.files import write_csv

COLUMNS = ("round", "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "best")


def write_history(path: Path, rows: list[dict]) -> None:
    """Write the history, with six significant digits; `lr` is the learning rate at the start of the epoch."""
    lines = ([f"{value:.6g}" if isinstance(value := row[key], float) else value for key in COLUMNS] for row in rows)
    write_csv(path, [COLUMNS, *lines])
