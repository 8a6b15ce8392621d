"""Coordinates of small SVG plots for the page: training curves, calibration, accuracy of the most confident answers."""

import math
from typing import Any

import pandas as pd

AREA = {"left": 30, "right": 212, "top": 10, "bottom": 104}  # area of a training curve, in its 220 x 124 units
SIDE = {"left": 26, "right": 156, "top": 6, "bottom": 136}  # area of a reliability diagram, in its 164 x 160 units
CURVES = ("train_accuracy", "val_accuracy", "train_loss", "val_loss")


def join_histories(histories: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Join the histories of the models into one table with the columns model, epoch, and those of CURVES.

    `dvc plots` cannot list files named by parameters, but its template can colour the rows of one file by model.
    """
    tables = [history[["epoch", *CURVES]].assign(model=name) for name, history in histories.items()]
    return pd.concat(tables)[["model", "epoch", *CURVES]]


def plot_training(histories: dict[str, pd.DataFrame], n_classes: int) -> list[dict[str, Any]]:
    """Turn the histories into the coordinates of small SVG plots that share their vertical scales.

    Args:
        histories: {model: its history.csv}.
        n_classes: the scale of the loss ends at twice the loss of guessing, ln(n_classes). Otherwise one diverging
            first epoch would flatten all curves.
    Returns:
        A dict per model: name, n_epochs, best (epoch), plots (of accuracy and loss).
    """
    losses = pd.concat([history[["train_loss", "val_loss"]] for history in histories.values()])
    top = min(losses.max(axis=None), 2 * math.log(n_classes))
    step = next(step for step in (0.1, 0.25, 0.5, 1, 2, 5, 10) if top / step <= 5)
    scales = {"accuracy": [0, 0.25, 0.5, 0.75, 1], "loss": [step * i for i in range(max(math.ceil(top / step), 1) + 1)]}
    return [
        {
            "name": name,
            "n_epochs": len(history),
            "best": int(history["epoch"][history["best"].idxmax()]),
            "plots": [_plot(history, score, ticks) for score, ticks in scales.items()],
        }
        for name, history in histories.items()
    ]


def _plot(history: pd.DataFrame, score: str, ticks: list[float]) -> dict[str, Any]:
    width, height, last = AREA["right"] - AREA["left"], AREA["bottom"] - AREA["top"], len(history) - 1
    across = [round(AREA["left"] + width * (i / last if last else 0.5), 1) for i in range(last + 1)]

    def down(value: float) -> float:
        return round(AREA["bottom"] - height * min(value / ticks[-1], 1.5), 1)

    def points(split: str) -> str:
        return " ".join(f"{x},{down(y)}" for x, y in zip(across, history[f"{split}_{score}"], strict=True))

    best = int(history["best"].argmax())
    return {
        "score": score,
        "ticks": [(down(tick), f"{tick:g}") for tick in ticks],
        "best": (across[best], down(history[f"val_{score}"].iloc[best])),
        "train": points("train"),
        "val": points("val"),
    }


def plot_selection(curve: list[list[float]]) -> dict[str, Any]:
    """Turn the points [share of the images, accuracy] into coordinates in AREA; the scale ends at 1."""
    low = min(0.9, math.floor(10 * min(accuracy for _, accuracy in curve)) / 10)

    def down(accuracy: float) -> float:
        return round(AREA["bottom"] - (AREA["bottom"] - AREA["top"]) * (accuracy - low) / (1 - low), 1)

    across = [round(AREA["left"] + (AREA["right"] - AREA["left"]) * share, 1) for share, _ in curve]
    return {
        "ticks": [(down(tick), f"{tick:.2g}") for tick in (low, (low + 1) / 2, 1)],
        "points": " ".join(f"{x},{down(accuracy)}" for x, (_, accuracy) in zip(across, curve, strict=True)),
    }


def plot_reliability(calibration: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn the bins into coordinates.

    Args:
        calibration: {model: temperature, ece, tempered_ece, bins, tempered_bins}, as in comparison.json.
    Returns:
        The same, with `before` and `after` (the temperature) instead of the bins: lists of dicts x, y, radius, words.
    Source: reliability diagrams, Niculescu-Mizil and Caruana 2005; here the area of a dot is its share of the images.
    """
    return [
        {"name": name, **row, "before": _dots(row["bins"]), "after": _dots(row["tempered_bins"])}
        for name, row in calibration.items()
    ]


def _dots(bins: list[dict[str, Any]]) -> list[dict[str, Any]]:
    side, total = SIDE["right"] - SIDE["left"], sum(each["n_images"] for each in bins)
    dots = []
    for each in bins:
        n, confidence, accuracy = each["n_images"], each["confidence"], each["accuracy"]
        dots.append(
            {
                "x": round(SIDE["left"] + side * confidence, 1),
                "y": round(SIDE["bottom"] - side * accuracy, 1),
                "radius": round(max(12 * (n / total) ** 0.5, 1.6), 1),
                "words": f"{n} image{'s' if n != 1 else ''}: sure to {confidence:.0%}, right on {accuracy:.0%}",
            }
        )
    return dots
