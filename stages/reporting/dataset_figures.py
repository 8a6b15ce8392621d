"""Figures of the data set: a chart of the class counts, and ten images."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.reporting.figures import DPI, break_lines, save_figure, shorten
from stages.reporting.fonts import complete_fonts
from stages.runtime.files import written_whole

ROW_PX = 15  # row height at which every class name can be read
COLOURS = {"train": "#9ecae1", "val": "#4292c6", "test": "#08519c"}
GREY = "#7d7d7d"  # readable on a light page and on a dark one
TOTAL = {"va": "center", "fontsize": 7.5, "color": GREY, "annotation_clip": False}


def draw_class_counts(counts: pd.DataFrame, path: Path) -> None:
    """Draw images per class and split as dots on a logarithmic scale, the largest class first, in one to three columns.

    On a linear scale a few large classes would push all others into the margin.

    Args:
        counts: columns class, train, val, test, total; one row per class.
        path: path of the PNG; the same counts give the same bytes.
    """
    counts = counts.sort_values(["total", "class"], ascending=[False, True])
    n_columns = min(3, -(-len(counts) // 40))
    n_rows = -(-len(counts) // n_columns)
    size_px = np.array([340 + 270 * n_columns, n_rows * ROW_PX + 80])
    figure = Figure(figsize=size_px / DPI, dpi=DPI, layout="constrained")
    grid = figure.subplots(1, n_columns, squeeze=False)[0]
    numbers = counts[[*COLOURS]].to_numpy()
    extent = (0.8 * numbers[numbers > 0].min(), 1.25 * numbers.max())
    for column, axes in enumerate(grid):  # fill column by column; all have one scale
        _draw_dots(axes, counts[column * n_rows : (column + 1) * n_rows], n_rows, extent)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False, fontsize=10)
    save_figure(figure, path)


def _draw_dots(axes: Axes, counts: pd.DataFrame, n_rows: int, extent: tuple[float, float]) -> None:
    rows = np.arange(len(counts))
    some = counts[[*COLOURS]].where(lambda numbers: numbers > 0)  # no dot for 0
    axes.hlines(rows, some.min(axis=1), some.max(axis=1), color="#d0d0d0", linewidth=1, zorder=1)
    for (split, colour), marker, size in zip(COLOURS.items(), "oDo", (34, 26, 12), strict=True):
        axes.scatter(some[split], rows, size, colour, marker=marker, label=split, linewidths=0, zorder=2)
    for row, total in zip(rows, counts["total"], strict=True):
        axes.annotate(f"{total:,}", (1, row), (2, 0), ("axes fraction", "data"), "offset points", **TOTAL)
    names = [shorten(name, 32) for name in counts["class"].astype(str)]
    axes.set_yticks(rows, names, fontsize=8, parse_math=False)
    axes.set(xscale="log", xlim=extent, ylim=(n_rows - 0.4, -0.6))
    ticks = [step * 10**power for power in range(9) for step in (1, 3) if extent[0] < step * 10**power < extent[1]]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=7.5, color=GREY)
    axes.minorticks_off()
    axes.grid(axis="x", color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labeltop=True)
    axes.spines[:].set_visible(False)


def draw_samples(images: list[np.ndarray], titles: list[str], path: Path) -> None:
    """Draw images in rows of five, each below the name of its class, on a transparent background.

    Args:
        images: uint8, each of shape (side, side, 3).
        titles: a class name for each image.
        path: path of the PNG; the same images give the same bytes.
    """
    n_columns = min(5, len(images))
    n_rows = -(-len(images) // n_columns)
    figure = Figure(figsize=(1.6 * n_columns, 1.92 * n_rows), dpi=DPI, layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, title in zip(grid, images, titles, strict=False):
        axes.imshow(image, interpolation="bicubic")
        axes.set_title(break_lines(str(title), 20), fontsize=9, color=GREY, parse_math=False)
    with written_whole(path) as temporary, complete_fonts(figure):
        figure.savefig(temporary, transparent=True, metadata={"Software": None}, pil_kwargs={"optimize": True})
