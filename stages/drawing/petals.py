"""Paint one petal or leaf on a transparent background, to be pasted many times."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from stages.drawing.species import Colour

PROFILE_STEPS = 128
MARGIN = 0.08  # around the petal, for its shadow; fraction of its length
SHADES = (0.70, 0.85, 1.0)  # brightness of a petal, from turned away from the light to facing it


class Outline(NamedTuple):
    """Half-width along the petal is t ** taper * (1 - t) ** tip, with t from 0 at the base to 1 at the tip."""

    taper: float
    tip: float
    notch: float = 0.0  # depth of the dent in the tip, fraction of the length
    frill: float = 0.0  # depth of the teeth
    teeth: float = 0.0  # number over the width


OUTLINES = {
    "round": Outline(0.60, 0.36),
    "oval": Outline(0.62, 0.52),
    "pointed": Outline(0.62, 0.90),
    "lance": Outline(0.75, 1.0),
    "strap": Outline(0.30, 0.26),
    "needle": Outline(0.40, 0.60),
    "notched": Outline(0.75, 0.30, 0.10),
    "heart": Outline(0.95, 0.36, 0.20),
    "frilled": Outline(0.70, 0.26, 0, 0.10, 7),
    "toothed": Outline(0.65, 0.22, 0, 0.13, 3),
    "spoon": Outline(1.35, 0.46),
    "spade": Outline(0.42, 0.80),
    "lobed": Outline(0.50, 0.50, 0, 0.30, 5),
    "fern": Outline(0.40, 0.60),
    "grass": Outline(0.25, 0.70),
}


class Sprite(NamedTuple):
    """Premultiplied RGBA images of one petal, one for each of SHADES; the petal points to the right."""

    images: tuple[Image.Image, ...]
    base_x: float  # position of the petal's base in the image, px
    base_y: float
    length: float  # px


def alike(function: Callable, x: np.ndarray, *more: float) -> np.ndarray:
    """Compute a transcendental function of a float32 array so that every processor gives the same float32 numbers.

    The last bit of numpy's float32 exp, cos, power and hypot depends on the processor, which occasionally changes a
    pixel. In float64 that bit is a billion times smaller, and rounding to float32 removes it. Sums, products, quotients
    and square roots are safe, because IEEE 754 defines all their bits.
    """
    return function(x.astype(np.float64), *more).astype(np.float32)


@cache
def _profile(shape: str) -> np.ndarray:
    outline, n = OUTLINES[shape], PROFILE_STEPS
    t = np.linspace(0, 1, n, dtype=np.float32)
    half_width = alike(np.power, t, outline.taper) * alike(np.power, 1 - t, outline.tip)
    return half_width / half_width.max()


def _bump(x: np.ndarray, at: float, width: float) -> np.ndarray:
    return np.clip(1 - np.abs(x - at) / width, 0, 1)


# share of the accent colour at a point of the petal: t along it, v across (-1 to 1)
PATTERNS = {
    "plain": None,
    "stripe": lambda t, v, spots: np.clip(1.35 - np.abs(v) * 4.5, 0, 1) * np.clip(4 - 4 * t, 0, 1),
    "edge": lambda t, v, spots: np.clip(np.maximum(np.abs(v) * 4 - 2.7, t * 7 - 5.9), 0, 1),
    "veins": lambda t, v, spots: np.clip(alike(np.cos, v * 15.7) * 2.2 - 1.1, 0, 1) * np.clip(1.5 - 1.5 * t, 0, 0.8),
    "tip": lambda t, v, spots: np.clip(t * 5 - 3.4, 0, 1),
    "eye": lambda t, v, spots: np.clip(3.1 - t * 7, 0, 1),
    "ring": lambda t, v, spots: np.clip(2.2 * _bump(t, 0.42, 0.20), 0, 1),
    "blotch": lambda t, v, spots: np.clip(3.2 - 9 * np.sqrt((t - 0.18) ** 2 + (v * 0.3) ** 2), 0, 1),
    "spots": lambda t, v, spots: np.clip(2.5 * _paint_spots(t, v, spots), 0, 1),
}


def _paint_spots(t: np.ndarray, v: np.ndarray, spots: np.ndarray) -> np.ndarray:
    """Return how close each point is to the nearest of the spots (n, 2), given as t and v."""
    near = np.zeros(np.broadcast_shapes(t.shape, v.shape), np.float32)
    for spot_t, spot_v in spots:
        np.maximum(near, 1 - ((t - spot_t) / 0.06) ** 2 - ((v - spot_v) / 0.2) ** 2, out=near)
    return near


def paint_petal(
    shape: str, width: float, length_px: float, tip: Colour, base: Colour, pattern: str, accent: Colour,
    rng: np.random.Generator,
) -> Sprite:  # fmt: skip
    """Paint one petal: outline, colour from base to tip, pattern, curved cross-section, and shadow.

    Args:
        shape: a key of OUTLINES.
        width: fraction of the length.
        pattern: a key of PATTERNS.
    """
    n_long, n_wide = round(length_px * (1 + 2 * MARGIN)), round(length_px * (width + 2 * MARGIN))
    t = np.linspace(-MARGIN, 1 + MARGIN, n_long, dtype=np.float32)[None, :]
    y = np.linspace(-width / 2 - MARGIN, width / 2 + MARGIN, n_wide, dtype=np.float32)[:, None]
    v = y / (width / 2)
    outline = OUTLINES[shape]
    dent, teeth = alike(np.exp, -((v / 0.34) ** 2)), alike(np.cos, outline.teeth * np.pi * v)
    end = 1 - outline.notch * dent - outline.frill * (0.5 + 0.5 * teeth)
    along = t / end  # (n_wide, n_long), 1 on the outline's far edge
    steps = np.clip(along * PROFILE_STEPS, 0, PROFILE_STEPS - 1).astype(np.intp)
    half_width = _profile(shape)[steps] * (width / 2)
    depth = np.minimum(np.minimum(half_width - np.abs(y), end - t), t + 0.01)  # distance of a point from the outline
    cover = np.clip(depth * length_px + 0.5, 0, 1)
    across = np.clip(y / np.maximum(half_width, 0.02), -1, 1)

    mix = np.clip(along * 1.3 - 0.15, 0, 1)[..., None]
    colour = np.asarray(base, np.float32) * (1 - mix) + np.asarray(tip, np.float32) * mix
    paint = PATTERNS[pattern]
    if paint is not None:
        spots = rng.uniform((0.15, -0.7), (0.75, 0.7), (9, 2)).astype(np.float32) if pattern == "spots" else None
        share = paint(along, across, spots)[..., None]
        colour += (np.asarray(accent, np.float32) - colour) * share
    light = (0.74 + 0.26 * np.clip(along * 2.2, 0, 1)) * (
        1 - 0.20 * across * across + 0.05 * alike(np.cos, across * 11)
    )
    shadow = 0.42 * np.clip(1 + depth / (0.9 * MARGIN), 0, 1) * (1 - cover)
    pictures = shade_pixels(colour * (light * cover)[..., None], 255 * (cover + shadow))
    return Sprite(pictures, MARGIN * length_px, n_wide / 2, length_px)


def shade_pixels(colour: np.ndarray, alpha: np.ndarray) -> tuple[Image.Image, ...]:
    """Make premultiplied RGBA images, one for each of SHADES, of colour (height, width, 3) and alpha."""
    pixels = np.empty((*alpha.shape, 4), np.uint8)
    pixels[..., 3] = alpha
    images = []
    for gain in SHADES:
        pixels[..., :3] = np.minimum(colour * np.float32(gain), pixels[..., 3:])  # premultiplied: never above alpha
        images.append(Image.frombytes("RGBa", alpha.shape[::-1], pixels.tobytes()))
    return tuple(images)
