"""Save figures as small PNG files, and fit names into their space; the same figure gives the same bytes."""

from itertools import accumulate
from pathlib import Path
from textwrap import wrap
from unicodedata import east_asian_width

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from stages.reporting.fonts import complete_fonts
from stages.runtime.files import written_whole

DPI = 100
BORDER_PX = 12


def save_figure(figure: Figure, path: Path, *, crop: bool = False) -> None:
    """Save a figure with a palette of 256 colours, which reduces it to a third of the bytes.

    Args:
        crop: cut off the empty border.
    """
    canvas = FigureCanvasAgg(figure)
    with complete_fonts(figure):
        canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    if crop:
        image = ImageOps.expand(image.crop(ImageOps.invert(image).getbbox()), BORDER_PX, "white")
    image = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    with written_whole(path) as temporary:
        image.save(temporary, optimize=True)


def count_columns(text: str) -> int:
    """Return the width of a text, in characters of usual width."""
    return sum(_widths(text))


def _widths(text: str) -> list[int]:
    return [2 if east_asian_width(each) in "WF" else 1 for each in text]


def shorten(text: str, n_columns: int) -> str:
    """Cut a text to a width; an ellipsis replaces the end."""
    if count_columns(text) <= n_columns:
        return text
    return text[: sum(end < n_columns for end in accumulate(_widths(text)))] + "…"


def break_lines(text: str, n_columns: int) -> str:
    """Break a text into at most two lines of about this width."""
    width = max(1, round(n_columns * len(text) / max(1, count_columns(text))))
    return "\n".join(wrap(text, width, max_lines=2, placeholder=" …"))
