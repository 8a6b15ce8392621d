"""Which class is taken for which: the confusion matrix as a table, as its worst pairs, and as a picture.

Every import of weight stands inside the function that needs it, so that a stage pays only for what it uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.runtime.files import written_whole

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES_PX = 1400  # side of the matrix, about
MAX_CELL_PX = 48
LABEL_PX = 11  # smallest pitch at which names are read one by one
ALL_LABELS = 150  # up to so many classes the matrix grows until every name has its pitch
MAX_NAME = 28  # characters
GAMMA = 0.6  # colour = share ** GAMMA: one image in twenty must not look like none
WRONG, NOTHING, RIGHT = ("#7f2704", "#d94801", "#fdae6b"), "#ffffff", ("#9ecae1", "#2171b5", "#08306b")


def confusion_frame(labels: np.ndarray, predictions: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """Count how often each class was taken for each.

    Args:
        labels, predictions: int, shape (n_images,); positions in `class_names`.
    Returns:
        int, shape (n_classes, n_classes); index = actual class, columns = predicted class.
    """
    import pandas as pd

    counts = np.zeros((len(class_names), len(class_names)), dtype=np.int64)
    np.add.at(counts, (labels, predictions), 1)
    return pd.DataFrame(counts, index=pd.Index(class_names, name="actual"), columns=class_names)


def confused_pairs(frame: pd.DataFrame, n: int) -> pd.DataFrame:
    """List the pairs of classes that are confused most often, whichever is taken for the other.

    Args:
        frame: as `confusion_frame` returns it.
        n: at most so many pairs; pairs that never happened are left out.
    Returns:
        Columns actual, predicted, count (of images of the one that were taken for the other), back (the other way
        round, never more), n_actual, n_predicted (images of each); most mistakes first, then by the larger share of
        `actual`, then in the order of the classes.
    """
    import pandas as pd

    counts = frame.to_numpy()
    n_images = counts.sum(axis=1)
    one, other = np.triu_indices(len(counts), k=1)
    turned = counts[other, one] > counts[one, other]
    one, other = np.where(turned, other, one), np.where(turned, one, other)
    there, back = counts[one, other], counts[other, one]
    order = np.lexsort((-there / np.maximum(n_images[one], 1), -(there + back)))[: min(n, np.count_nonzero(there))]
    one, other = one[order], other[order]
    return pd.DataFrame(
        {
            **{"actual": frame.index[one], "predicted": frame.columns[other]},
            **{"count": there[order], "back": back[order], "n_actual": n_images[one], "n_predicted": n_images[other]},
        }
    )


def order_alike(counts: np.ndarray) -> np.ndarray:
    """Return the classes in an order in which those that are taken for each other stand together.

    Args:
        counts: int, shape (n_classes, n_classes).
    Returns:
        int, shape (n_classes,); positions in the matrix.
    Source: average linkage on one less the share of the one class that is taken for the other, both ways; the leaves
        ordered as by Bar-Joseph et al. 2001 where that takes no minutes.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    shares = row_shares(counts)
    distances = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average", optimal_ordering=len(counts) <= ALL_LABELS)
    return leaves_list(tree)


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Divide each row by its sum; a class without images keeps a row of zeros."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def draw_confusion(frame: pd.DataFrame, title: str, path: Path | str) -> None:
    """Draw the matrix as a PNG: right in blue, wrong in orange, as deep as the share of the actual class.

    Classes that are taken for each other stand together.
    A cell is a whole number of pixels, so that no class looks wider than another. Up to 150 classes every name is
    written, beyond that as many as can be read. The same matrix gives the same bytes.
    """
    from matplotlib.figure import Figure

    n_classes, order = len(frame), order_alike(frame.to_numpy())
    frame = frame.iloc[order, order]
    cell_px = max(min(AXES_PX // n_classes, MAX_CELL_PX), LABEL_PX if n_classes <= ALL_LABELS else 2)
    side, margin, dpi = cell_px * n_classes, 340, 100
    width, height = margin + side + max(150, 700 - side), margin + side + 60  # room to spare: it is cut off again
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi)
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    shares = row_shares(frame.to_numpy())
    signed = np.where(np.eye(n_classes, dtype=bool), 1, -1) * shares**GAMMA
    image = axes.imshow(signed, cmap=_colours(), vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    _label_classes(axes, frame, cell_px)
    if n_classes <= 20:
        _write_counts(axes, frame.to_numpy(), signed)
    axes.set_title(f"{title}: confusion matrix of {frame.to_numpy().sum():,} images", loc="left", fontsize=13, pad=22)
    bar_px = max(180, min(side, 320))
    left, bottom = margin + side + 18, margin + side - bar_px
    bar = figure.add_axes((left / width, bottom / height, 14 / width, bar_px / height))
    _draw_colour_bar(figure, image, bar)
    _save_cropped(figure, path)


def _colours():
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("wrong-right", [*WRONG, NOTHING, *RIGHT])


def _label_classes(axes: Axes, frame: pd.DataFrame, cell_px: int) -> None:
    n_classes = len(frame)
    shown = range(0, n_classes, -(-LABEL_PX // cell_px))
    size = min(cell_px * shown.step * 0.72 * 0.72, 9)  # 0.72 of the pitch, in points of 1/72 inch at 100 dpi
    names = [name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…" for name in map(str, frame.index[shown])]
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


def _draw_colour_bar(figure: Figure, image, bar: Axes) -> None:
    ticks = np.array([-1, -0.5, -0.2, -0.05, 0, 0.05, 0.2, 0.5, 1])
    figure.colorbar(image, cax=bar, ticks=np.sign(ticks) * abs(ticks) ** GAMMA)
    bar.set_yticklabels([f"{abs(tick):.0%}" for tick in ticks], fontsize=8)
    bar.tick_params(length=2, width=0.5)
    bar.set_ylabel("share of the actual class", fontsize=9)
    bar.set_title("right", fontsize=9)
    bar.set_xlabel("wrong", fontsize=9)
    bar.spines[:].set(color="#999999", linewidth=0.7)


def _save_cropped(figure: Figure, path: Path | str) -> None:
    """Save with the empty border cut off and a palette of 256 colours: a third of the bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image, ImageOps

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image = ImageOps.expand(image.crop(ImageOps.invert(image).getbbox()), 12, "white")
    image = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    with written_whole(Path(path)) as temporary:
        image.save(temporary, optimize=True)
