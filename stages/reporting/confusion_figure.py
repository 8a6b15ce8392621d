"""The figure of a confusion matrix: which class is predicted as which."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from stages.reporting.figures import DPI, save_figure, shorten

AXES_PX = 1400  # approximate side of the matrix
MAX_CELL_PX = 48
LABEL_PX = 11  # smallest row height at which every name can be read
ALL_LABELS = 150  # up to this number of classes the matrix grows until every name fits
MAX_NAME = 28  # columns
GAMMA = 0.6  # colour = share ** GAMMA: one image in twenty must be visible
WRONG, RIGHT = ("#7f2704", "#d94801", "#fdae6b"), ("#9ecae1", "#2171b5", "#08306b")
COLOURS = LinearSegmentedColormap.from_list("wrong-right", [*WRONG, "#ffffff", *RIGHT])


def draw_confusion(frame: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the matrix as a PNG: correct in blue, wrong in orange; darker for a larger share of the actual class.

    Classes that are often confused are next to each other. A cell is a whole number of pixels, so that all classes have
    the same width. Up to 150 classes all names are written, beyond that as many as can be read. The same matrix gives
    the same bytes.
    """
    n_classes, order = len(frame), order_alike(frame.to_numpy())
    frame = frame.iloc[order, order]
    cell_px = max(min(AXES_PX // n_classes, MAX_CELL_PX), LABEL_PX if n_classes <= ALL_LABELS else 2)
    side, margin = cell_px * n_classes, 340
    width, height = margin + side + max(150, 700 - side), margin + side + 60  # generous: the empty border is cropped
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    shares = row_shares(frame.to_numpy())
    signed = np.where(np.eye(n_classes, dtype=bool), 1, -1) * shares**GAMMA
    image = axes.imshow(signed, cmap=COLOURS, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    _label_classes(axes, frame, cell_px)
    if n_classes <= 20:
        _write_counts(axes, frame.to_numpy(), signed)
    axes.set_title(f"{title}: confusion matrix of {frame.to_numpy().sum():,} images", loc="left", fontsize=13, pad=22)
    bar_px = max(180, min(side, 320))
    left, bottom = margin + side + 18, margin + side - bar_px
    bar = figure.add_axes((left / width, bottom / height, 14 / width, bar_px / height))
    _draw_colour_bar(figure, image, bar)
    save_figure(figure, path, crop=True)


def _label_classes(axes: Axes, frame: pd.DataFrame, cell_px: int) -> None:
    n_classes = len(frame)
    shown = range(0, n_classes, -(-LABEL_PX // cell_px))
    size = min(cell_px * shown.step * 0.72 * 0.72, 9)  # 0.72 of the row height, in points of 1/72 inch at 100 dpi
    names = [shorten(name, MAX_NAME) for name in map(str, frame.index[shown])]
    axes.set_xticks(shown, names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(shown, names, fontsize=size, parse_math=False)
    axes.tick_params(length=2, width=0.5, pad=2, color="#999999")
    axes.spines[:].set(color="#999999", linewidth=0.7)
    if cell_px >= 8:
        edges = np.arange(0.5, n_classes - 1)
        axes.hlines(edges, -0.5, n_classes - 0.5, color="#ececec", linewidth=0.6)
        axes.vlines(edges, -0.5, n_classes - 0.5, color="#ececec", linewidth=0.6)
    axes.set_xlabel("predicted", fontsize=11)
    axes.set_ylabel("actual", fontsize=11)


def _write_counts(axes: Axes, counts: np.ndarray, signed: np.ndarray) -> None:
    for row, column in np.argwhere(counts):
        colour = "white" if abs(signed[row, column]) > 0.55 else "black"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=9, color=colour)


def _draw_colour_bar(figure: Figure, image: AxesImage, bar: Axes) -> None:
    ticks = np.array([-1, -0.5, -0.2, -0.05, 0, 0.05, 0.2, 0.5, 1])
    figure.colorbar(image, cax=bar, ticks=np.sign(ticks) * abs(ticks) ** GAMMA)
    bar.set_yticklabels([f"{abs(tick):.0%}" for tick in ticks], fontsize=8)
    bar.tick_params(length=2, width=0.5)
    bar.set_ylabel("share of the actual class", fontsize=9)
    bar.set_title("right", fontsize=9)
    bar.set_xlabel("wrong", fontsize=9)
    bar.spines[:].set(color="#999999", linewidth=0.7)


def order_alike(counts: np.ndarray) -> np.ndarray:
    """Return an order of the classes in which confused classes are next to each other.

    Args:
        counts: int, shape (n_classes, n_classes).
    Returns:
        int, shape (n_classes,); positions in the matrix.
    Source: average linkage on one minus the share of confusions in both directions; leaves ordered as in Bar-Joseph et
        al. 2001, unless that takes minutes.
    """
    shares = row_shares(counts)
    distances = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average", optimal_ordering=len(counts) <= ALL_LABELS)
    return leaves_list(tree)


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Divide each row by its sum; a class without images keeps a row of zeros."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
