"""The surroundings of a flower: the blurred background, leaves, and the light on the whole picture."""

import math

import numpy as np
from PIL import Image, ImageDraw

from stages.drawing.petals import Sprite, paint_petal
from stages.drawing.poses import UP, Pose, paste_turned
from stages.drawing.species import Species

# dark to light ends of a background's colours
GROUNDS = (
    ((22, 48, 20), (104, 142, 62)), ((12, 30, 16), (70, 110, 52)), ((40, 66, 30), (160, 182, 96)),  # foliage
    ((18, 36, 34), (92, 132, 110)), ((8, 14, 12), (44, 62, 40)),  # shade
    ((62, 48, 34), (150, 122, 90)),  # soil
    ((110, 146, 190), (196, 214, 232)), ((90, 96, 88), (176, 178, 164)),  # sky, stone
)  # fmt: skip
GROUND_ODDS = (0.27, 0.19, 0.16, 0.11, 0.10, 0.07, 0.05, 0.05)

# leaf: outline, width, length (fraction of the picture)
LEAVES = {
    "lance": ("lance", 0.30, 0.55), "broad": ("pointed", 0.55, 0.60), "round": ("round", 0.95, 0.38),
    "lobed": ("lobed", 0.70, 0.50), "grass": ("grass", 0.09, 0.90), "fern": ("fern", 0.07, 0.50),
}  # fmt: skip
LEAF_COUNTS = {"lance": 5, "broad": 3, "round": 4, "lobed": 4, "grass": 7, "fern": 11}


def paint_background(size_px: int, flower_colour: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Paint an out-of-focus garden: patches of light and dark, discs of light, hints of other flowers.

    Args:
        size_px: side of the square.
        flower_colour: RGB, shape (3,); sometimes other flowers of this colour are visible.
    Returns:
        An RGB image.
    """
    dark, light = np.array(GROUNDS[rng.choice(len(GROUNDS), p=GROUND_ODDS)], np.float32)
    n = int(rng.integers(4, 8))
    grain = rng.random((n, n), dtype=np.float32) * 0.75
    slope = np.linspace(rng.uniform(0, 0.5), rng.uniform(-0.2, 0.3), n, dtype=np.float32)
    share = np.clip(grain + slope[:, None], 0, 1)[..., None]
    patches = dark + (light - dark) * share + rng.normal(0, 7, (n, n, 3))
    image = Image.fromarray(np.clip(patches, 0, 255).astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(rng.integers(0, 6)):  # stalks and blades
        x, lean, green = rng.uniform(0, 32), rng.normal(0, 9), rng.uniform(0.3, 1.1)
        colour = tuple(int(part) for part in np.clip((dark + light) / 2 * green, 0, 255))
        draw.line((x, 32, x + lean, rng.uniform(-8, 20)), fill=(*colour, 150), width=int(rng.integers(1, 4)))
    if rng.random() < 0.35:  # flowers further back
        colour = tuple(int(part) for part in np.clip(flower_colour * rng.uniform(0.55, 0.95), 0, 255))
        for _ in range(rng.integers(1, 5)):
            _draw_disc(draw, rng.uniform(0, 32, 2), rng.uniform(2, 5), (*colour, 170))
    image = image.reduce(2).resize((size_px, size_px), Image.Resampling.BICUBIC)
    if rng.random() < 0.35:
        _draw_bokeh(image, light, rng)
    return image


def _draw_bokeh(image: Image.Image, light: np.ndarray, rng: np.random.Generator) -> None:
    draw = ImageDraw.Draw(image, "RGBA")
    colour = tuple(int(part) for part in np.clip(light * 1.15 + 30, 0, 255))
    for _ in range(rng.integers(3, 9)):
        _draw_disc(
            draw,
            rng.uniform(0, image.width, 2),
            rng.uniform(0.02, 0.07) * image.width,
            (*colour, int(rng.integers(25, 75))),
        )


def _draw_disc(draw: ImageDraw.ImageDraw, at: np.ndarray, radius: float, fill: tuple) -> None:
    draw.ellipse((at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius), fill=fill)


def paint_leaf(species: Species, size_px: int, rng: np.random.Generator) -> Sprite:
    """Paint one leaf of the species, in this picture's green."""
    outline, width, length = LEAVES[species.leaf]
    green = np.array((70, 122, 52)) * rng.uniform(0.65, 1.15) + rng.normal(0, 9, 3)
    tip, base, rib = (tuple(np.clip(green * gain, 0, 255)) for gain in (1.15, 0.8, 1.45))
    return paint_petal(
        outline, width, max(12, length * size_px * 0.8), tip, base, "stripe" if width > 0.2 else "plain", rib, rng
    )


def draw_greenery(
    canvas: Image.Image, species: Species, pose: Pose, leaf: Sprite, n_flowers: int, rng: np.random.Generator
) -> None:
    """Draw the stem, and leaves behind the flower."""
    side = canvas.width
    foot = pose.x + rng.normal(0, 0.12) * side
    draw = ImageDraw.Draw(canvas)
    green = (int(rng.integers(48, 92)), int(rng.integers(92, 132)), int(rng.integers(38, 66)))
    width = max(2, round(0.022 * side))
    draw.line(
        (pose.x, pose.y, (pose.x + foot) / 2 + 2, (pose.y + side) / 2, foot, side + 2),
        fill=green,
        width=width,
        joint="curve",
    )
    for _ in range(max(1, round(LEAF_COUNTS[species.leaf] * rng.uniform(0.4, 1.1) / n_flowers))):
        angle = -UP + rng.normal(0, 1.3) if species.leaf != "grass" else UP + rng.normal(0, 0.4)
        start = rng.uniform(0.0, 0.6) * pose.radius
        x, y = pose.x + start * math.cos(angle), pose.y + start * math.sin(angle)
        if species.leaf == "grass":
            x, y = pose.x + rng.normal(0, 0.2) * side, side
        length = leaf.length * rng.uniform(0.7, 1.25)
        paste_turned(canvas, leaf, x, y, angle, length, int(rng.integers(0, 3)), slim=rng.uniform(0.5, 1.0))


def draw_blade_in_front(canvas: Image.Image, leaf: Sprite, rng: np.random.Generator) -> None:
    """Draw a leaf at the edge of the picture that hides a little of the flower."""
    side, angle = canvas.width, UP + rng.normal(0, 0.5)
    length, slim = rng.uniform(0.3, 0.55) * side, rng.uniform(0.3, 0.6)
    paste_turned(canvas, leaf, rng.uniform(0, 1) * side, 1.02 * side, angle, length, 1, slim)


def shine_light(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply light to a finished picture: brightness, contrast, colour temperature, a gradient, and camera noise.

    Args:
        pixels: uint8, shape (height, width, 3).
    Returns:
        uint8, the same shape.
    """
    height, width, _ = pixels.shape
    warmth = rng.normal(0, 0.05)
    colour = np.array((1 + warmth, 1, 1 - warmth), np.float32) * rng.uniform(0.92, 1.30)
    slope_x, slope_y = rng.normal(0, 0.10, 2)
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    fall = 1 + slope_x * x[None, :] + (slope_y - 0.05) * y[:, None] - 0.08 * (x[None, :] ** 2 + y[:, None] ** 2)
    contrast = rng.uniform(0.88, 1.15)
    lit = (pixels.astype(np.float32) - 96) * contrast + 96
    lit *= fall[..., None] * colour
    lit += rng.standard_normal(pixels.shape, dtype=np.float32) * rng.uniform(1.0, 5.0)
    return np.clip(lit, 0, 255).astype(np.uint8)
