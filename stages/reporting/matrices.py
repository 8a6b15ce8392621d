"""Squares for the page: every model against every other, and every class against every other."""

from typing import Any

import numpy as np
import pandas as pd

from stages.scoring.confusion import ALL_LABELS, GAMMA, order_alike, row_shares

PITCH, LABEL = 11, 5  # of the cells of the matrix of classes, and of a letter, in its units


def pair_up(pairs: list[dict[str, Any]], names: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Turn the list of pairs into a square, in which a row is compared with a column.

    Args:
        pairs: as comparison.json lists them, each pair once.
        names: the rows and columns.
    Returns:
        {row: {column: points (of accuracy, row less column), low, high, p (Holm's), sign}}; sign is 1 or -1 where the
        row is better or worse by more than noise, else 0.
    """
    square: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in names}
    for pair in pairs:
        points, low, high = (100 * pair[key] for key in ("accuracy_difference", "low", "high"))
        sign = 0 if pair["holm_p"] >= 0.05 else 1 if points > 0 else -1
        p = pair["holm_p"]
        square[pair["a"]][pair["b"]] = {"points": points, "low": low, "high": high, "p": p, "sign": sign}
        square[pair["b"]][pair["a"]] = {"points": -points, "low": -high, "high": -low, "p": p, "sign": -sign}
    return square


def plot_confusion(frame: pd.DataFrame) -> dict[str, Any] | None:
    """Turn a confusion matrix into the coordinates of an SVG, classes that are confused standing together.

    Args:
        frame: as `confusion_frame` returns it.
    Returns:
        names, margin (left and above), side, grid (a path), and the cells, `right` and `wrong`: x, y, depth (0 to 1),
        words. None where there are more classes than names can be read of.
    """
    if len(frame) > ALL_LABELS:
        return None
    order = order_alike(frame.to_numpy())
    counts, names = frame.to_numpy()[np.ix_(order, order)], [str(frame.index[i]) for i in order]
    shares = row_shares(counts)
    margin = LABEL * max(map(len, names)) + 8
    side = margin + PITCH * len(names)
    lines = range(margin, side + 1, PITCH)
    cells: dict[str, list[dict[str, Any]]] = {"right": [], "wrong": []}
    for row, column in np.argwhere(counts).tolist():
        cells["right" if row == column else "wrong"].append(
            {
                "x": margin + PITCH * column,
                "y": margin + PITCH * row,
                "depth": round(float(shares[row, column]) ** GAMMA, 2),
                "words": f"{counts[row, column]} of {counts[row].sum()} {names[row]} "
                + ("right" if row == column else f"taken for {names[column]}"),
            }
        )
    grid = "".join(f"M{margin} {at}H{side}M{at} {margin}V{side}" for at in lines)
    return {"names": names, "margin": margin, "side": side, "grid": grid, **cells}
