"""A figure becomes a small PNG file: the same figure gives the same bytes."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from stages.runtime.files import written_whole

DPI = 100
BORDER_PX = 12


def save_figure(figure: Figure, path: Path, *, crop: bool = False) -> None:
    """Save a figure with a palette of 256 colours, which makes it a third of the bytes.

    Args:
        crop: cut the empty border off.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    if crop:
        image = ImageOps.expand(image.crop(ImageOps.invert(image).getbbox()), BORDER_PX, "white")
    image = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    with written_whole(path) as temporary:
        image.save(temporary, optimize=True)
