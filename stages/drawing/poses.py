"""The position and direction of a flower, and functions that paste petals, shadows and dots accordingly."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from stages.drawing.petals import Sprite, alike
from stages.drawing.species import Colour

UP = -math.pi / 2  # y points down
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


@dataclass(frozen=True)
class Pose:
    """The position and direction of a flower, in px and radians."""

    x: float
    y: float
    radius: float
    turn: float  # rotation in the flower's own plane
    tilt: float  # 0 faces the viewer, pi / 2 is seen from the side
    lean: float  # the direction on the picture in which the flower's face is tilted

    def project(self, along: float, aside: float, height: float) -> tuple[float, float]:
        """Map a point of the flower to px on the picture, from the flower's middle.

        Args:
            along, aside: in the flower's plane, in the direction of the lean and across it.
            height: above that plane.
        """
        reach = along * math.cos(self.tilt) + height * math.sin(self.tilt)
        c, s = math.cos(self.lean), math.sin(self.lean)
        return reach * c - aside * s, reach * s + aside * c


def paste_sprite(
    canvas: Image.Image,
    sprite: Sprite,
    x: float,
    y: float,
    along: tuple[float, float],
    aside: tuple[float, float],
    shade: int = -1,
) -> None:
    """Paste a petal with its base at (x, y), its tip at (x, y) + along, and its width along aside; all px."""
    image = sprite.images[shade]
    a, d = along[0] / sprite.length, along[1] / sprite.length
    b, e = aside[0] / sprite.length, aside[1] / sprite.length
    determinant = a * e - b * d
    if abs(determinant) < 1e-4:
        return  # seen edge-on
    left, top = -sprite.base_x, -sprite.base_y
    right, bottom = left + image.width, top + image.height
    xs = (a * left + b * top, a * right + b * top, a * left + b * bottom, a * right + b * bottom)
    ys = (d * left + e * top, d * right + e * top, d * left + e * bottom, d * right + e * bottom)
    x0, y0 = max(0, math.floor(x + min(xs))), max(0, math.floor(y + min(ys)))
    x1, y1 = min(canvas.width, math.ceil(x + max(xs))), min(canvas.height, math.ceil(y + max(ys)))
    if x1 <= x0 or y1 <= y0:
        return
    p, q, r, s = e / determinant, -b / determinant, -d / determinant, a / determinant
    u, v = x0 - x, y0 - y
    inverse = (p, q, p * u + q * v + sprite.base_x, r, s, r * u + s * v + sprite.base_y)
    patch = image.transform((x1 - x0, y1 - y0), Image.Transform.AFFINE, inverse, Image.Resampling.NEAREST)
    canvas.paste(patch, (x0, y0), patch)


def paste_turned(
    canvas: Image.Image,
    sprite: Sprite,
    x: float,
    y: float,
    angle: float,
    length: float,
    shade: int,
    slim: float = 1.0,
) -> None:
    """Paste a petal, leaf or floret flat on the picture, turned by an angle; slim < 1 folds it lengthwise."""
    c, s = length * math.cos(angle), length * math.sin(angle)
    paste_sprite(canvas, sprite, x, y, (c, s), (-s * slim, c * slim), shade)


def paste_petal(
    canvas: Image.Image, sprite: Sprite, pose: Pose, angle: float, length: float, lift: float, width: float = 1.0
) -> None:
    """Paste a petal that grows from the flower's middle at an angle, lifted out of its plane (1: upright)."""
    c, s = math.cos(angle), math.sin(angle)
    rise = lift * math.pi / 2
    along = pose.project(length * c * math.cos(rise), length * s * math.cos(rise), length * math.sin(rise))
    flat = pose.project(-s, c, 0)
    reach = math.hypot(*along) or 1.0
    # petals are curved: seen from the edge, about a third of the width is visible
    aside = (0.7 * flat[0] - 0.3 * along[1] / reach, 0.7 * flat[1] + 0.3 * along[0] / reach)
    lit = -0.6 * along[0] - 0.8 * along[1]  # the light comes from above, a little from the left
    shade = min(2, max(0, round(1.25 + 1.1 * lit / reach)))
    paste_sprite(canvas, sprite, pose.x, pose.y, along, (aside[0] * length * width, aside[1] * length * width), shade)


@lru_cache(maxsize=256)
def _glow(colour: Colour, strength: float) -> Sprite:
    """Paint a round, soft spot of length 2, which is pasted like a petal, with its base in the middle."""
    axis = np.linspace(-1, 1, 32, dtype=np.float32)
    distance = np.sqrt(axis[None, :] ** 2 + axis[:, None] ** 2)  # (32, 32)
    alpha = strength * alike(np.power, np.clip(1.25 - 1.25 * distance, 0, 1), 0.8)
    pixels = np.concatenate((alpha[..., None] * np.array(colour, np.float32), alpha[..., None] * 255), axis=2)
    return Sprite((Image.frombytes("RGBa", (32, 32), pixels.astype(np.uint8).tobytes()),), 16, 16, 16)


def paste_glow(canvas: Image.Image, colour: Colour, strength: float, pose: Pose, size: float) -> None:
    """Paste a soft spot on the middle of a flower; its size is a fraction of the flower's radius."""
    radius = pose.radius * size
    paste_sprite(
        canvas, _glow(colour, strength), pose.x, pose.y, pose.project(radius, 0, 0), pose.project(0, radius, 0)
    )


def dim(colour: Colour, gain: float) -> Colour:
    """Make a colour darker (gain < 1) or lighter."""
    return tuple(min(255, int(part * gain)) for part in colour)


def draw_dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: Colour) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*colour, 255))
