"""Centres of flowers: each function draws one kind over the petals of a posed flower."""

import math
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from stages.drawing.poses import GOLDEN_ANGLE, Pose, dim, draw_dot, paste_glow
from stages.drawing.species import Colour, Species


def _draw_ring(
    canvas: Image.Image,
    pose: Pose,
    radius: float,
    n: int,
    start: float,
    dot: float,
    colours: tuple[Colour, ...],
    height: float = 0.0,
) -> None:
    draw = ImageDraw.Draw(canvas)
    for i in range(n):
        angle = start + 2 * math.pi * i / n
        x, y = pose.project(radius * math.cos(angle), radius * math.sin(angle), height)
        draw_dot(draw, pose.x + x, pose.y + y, dot, colours[i % len(colours)])


def _draw_florets(
    canvas: Image.Image, species: Species, pose: Pose, rng: np.random.Generator, dome: float, dot: float
) -> None:
    """Draw a dome of tiny florets, in the spiral of sunflowers."""
    size = species.centre_size * pose.radius
    paste_glow(canvas, (0, 0, 0), 0.7, pose, 1.3 * species.centre_size)
    draw = ImageDraw.Draw(canvas)
    colours = tuple(dim(species.centre_colour, gain) for gain in (0.62, 0.85, 1.05, 1.3))
    n = 34
    for i in reversed(range(n)):
        share = (i + 0.5) / n
        angle = pose.turn + GOLDEN_ANGLE * i
        reach = size * math.sqrt(share)
        x, y = pose.project(reach * math.cos(angle), reach * math.sin(angle), dome * size * (1 - share))
        colour = colours[min(3, int((1.25 - share) * 2 + rng.random() * 1.6))]
        draw_dot(draw, pose.x + x, pose.y + y, dot * size, colour)


def _draw_disc(canvas: Image.Image, species: Species, pose: Pose, rng: np.random.Generator) -> None:
    _draw_florets(canvas, species, pose, rng, 0.25, 0.21)


def _draw_cone(canvas: Image.Image, species: Species, pose: Pose, rng: np.random.Generator) -> None:
    _draw_florets(canvas, species, pose, rng, 1.0, 0.19)


def _draw_stamens(canvas: Image.Image, species: Species, pose: Pose, rng: np.random.Generator) -> None:
    size = species.centre_size * pose.radius
    paste_glow(canvas, dim(species.base, 0.55), 0.6, pose, 0.55 * species.centre_size)
    draw = ImageDraw.Draw(canvas)
    pale = tuple((part + 2 * 225) // 3 for part in species.centre_colour)
    n = 7 if species.centre_size > 0.4 else 12
    thread, anther = max(1, round(0.022 * pose.radius)), 0.045 * pose.radius + 0.03 * size
    for i in range(n):
        angle = pose.turn + 2 * math.pi * i / n + rng.normal(0, 0.15)
        reach = size * rng.uniform(0.65, 1.05)
        x, y = pose.project(reach * math.cos(angle), reach * math.sin(angle), 0.5 * size)
        draw.line((pose.x, pose.y, pose.x + x, pose.y + y), fill=(*pale, 255), width=thread)
        draw_dot(draw, pose.x + x, pose.y + y, anther, dim(species.centre_colour, rng.uniform(0.8, 1.1)))
    draw_dot(draw, pose.x, pose.y, 0.05 * pose.radius, (168, 190, 90))


def _draw_throat(canvas: Image.Image, species: Species, pose: Pose, rng: np.random.Generator) -> None:
    paste_glow(canvas, species.centre_colour, 1.0, pose, 1.5 * species.centre_size)
    paste_glow(canvas, dim(species.centre_colour, 0.45), 0.9, pose, 0.5 * species.centre_size)


def _draw_star(canvas: Image.Image, species: Species, pose: Pose, rng: np.random.Generator) -> None:
    ends = []
    for i in range(2 * species.petals):
        reach = pose.radius * species.centre_size * (1.5 if i % 2 == 0 else 0.55)
        angle = pose.turn + math.pi * i / species.petals
        x, y = pose.project(reach * math.cos(angle), reach * math.sin(angle), 0)
        ends.append((pose.x + x, pose.y + y))
    ImageDraw.Draw(canvas).polygon(ends, fill=(*species.centre_colour, 255))


def _draw_crown(canvas: Image.Image, species: Species, pose: Pose, rng: np.random.Generator) -> None:
    """Draw a daffodil's trumpet: a frilled rim that stands out from the petals, and a dark throat."""
    size = species.centre_size * pose.radius
    paste_glow(canvas, (0, 0, 0), 0.6, pose, 1.35 * species.centre_size)
    for share in (0.0, 0.35, 0.7, 1.0):
        x, y = pose.project(0, 0, 0.9 * size * share)
        ring = replace(pose, x=pose.x + x, y=pose.y + y)
        _draw_ring(
            canvas,
            ring,
            size * (0.55 + 0.3 * share),
            14,
            pose.turn,
            0.24 * size,
            (dim(species.centre_colour, 0.7 + 0.3 * share),),
        )
    paste_glow(canvas, dim(species.centre_colour, 0.5), 1.0, ring, 0.95 * species.centre_size)
    draw_dot(ImageDraw.Draw(canvas), ring.x, ring.y, 0.13 * size, dim(species.centre_colour, 1.15))


def _draw_corona(canvas: Image.Image, species: Species, pose: Pose, rng: np.random.Generator) -> None:
    """Draw a passion flower's crown of threads, banded, and its pistil."""
    size, draw = species.centre_size * pose.radius, ImageDraw.Draw(canvas)
    thread = max(1, round(0.05 * pose.radius))
    bands = ((1.0, species.centre_colour), (0.66, (244, 242, 250)), (0.5, dim(species.centre_colour, 0.5)))
    for reach, colour in bands:
        for i in range(30):
            angle = pose.turn + 2 * math.pi * i / 30
            x, y = pose.project(size * reach * math.cos(angle), size * reach * math.sin(angle), 0.1 * size)
            draw.line((pose.x, pose.y, pose.x + x, pose.y + y), fill=(*colour, 255), width=thread)
    _draw_ring(canvas, pose, 0.30 * size, 5, pose.turn, 0.12 * size, ((226, 220, 120),), 0.3 * size)
    _draw_ring(canvas, pose, 0.12 * size, 3, pose.turn, 0.09 * size, ((120, 60, 110),), 0.5 * size)


def _draw_column(canvas: Image.Image, species: Species, pose: Pose, rng: np.random.Generator) -> None:
    """Draw a hibiscus's long pistil, dotted with pollen."""
    reach = pose.radius * species.centre_size
    angle = pose.turn + rng.normal(0, 0.3)
    x, y = pose.project(reach * math.cos(angle), reach * math.sin(angle), 0.5 * reach)
    paste_glow(canvas, dim(species.base, 0.4), 0.7, pose, 0.32)
    draw = ImageDraw.Draw(canvas)
    pale = tuple((part + 255) // 2 for part in species.tip)
    draw.line((pose.x, pose.y, pose.x + x, pose.y + y), fill=(*pale, 255), width=max(2, round(0.07 * pose.radius)))
    for i in range(12):
        share = 0.45 + 0.55 * i / 11
        dx, dy = rng.normal(0, 0.05 * pose.radius, 2)
        draw_dot(draw, pose.x + share * x + dx, pose.y + share * y + dy, 0.045 * pose.radius, species.centre_colour)


def _draw_button(canvas: Image.Image, species: Species, pose: Pose, rng: np.random.Generator) -> None:
    size, draw = species.centre_size * pose.radius, ImageDraw.Draw(canvas)
    draw_dot(draw, pose.x, pose.y, size, dim(species.centre_colour, 0.75))
    draw_dot(draw, pose.x - 0.12 * size, pose.y - 0.15 * size, 0.72 * size, species.centre_colour)


def _draw_heart(canvas: Image.Image, species: Species, pose: Pose, rng: np.random.Generator) -> None:
    """Draw the centre of a double flower: only the shadow between its innermost petals."""
    paste_glow(canvas, dim(species.base, 0.5), 0.55, pose, 0.22)


CENTRES = {
    "disc": _draw_disc,
    "cone": _draw_cone,
    "stamens": _draw_stamens,
    "throat": _draw_throat,
    "star": _draw_star,
    "crown": _draw_crown,
    "corona": _draw_corona,
    "column": _draw_column,
    "button": _draw_button,
    "none": _draw_heart,
}
