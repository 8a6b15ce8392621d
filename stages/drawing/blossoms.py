"""Forms of flowers: each function draws one posed flower, far petals first.

A petal is an affine image of one painted sprite, so that a tilted or cupped flower has the right perspective.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from stages.drawing.centres import CENTRES
from stages.drawing.petals import Sprite, paint_petal, shade_pixels
from stages.drawing.poses import GOLDEN_ANGLE, UP, Pose, dim, draw_dot, paste_petal, paste_turned
from stages.drawing.species import Colour, Species


@dataclass(frozen=True)
class Bloom:
    """The sprites of one specimen: its petal, the same petal in the accent colour, and a floret of a spike or umbel."""

    petal: Sprite
    accent: Sprite | None
    floret: Sprite | None


def paint_bloom(species: Species, radius: float, rng: np.random.Generator) -> Bloom:
    """Paint the sprites that all flowers of one picture share, for flowers of at most this radius (px)."""
    in_cluster = species.form in ("spike", "umbel")
    length = max(8.0, radius * (0.42 if in_cluster else 0.95))
    petal = paint_petal(
        species.shape, species.width, length, species.tip, species.base, species.pattern, species.accent, rng
    )
    accent = None
    if species.form in ("orchid", "fan"):
        dark = tuple(int(0.8 * part) for part in species.accent)
        shape = "frilled" if species.form == "orchid" else species.shape
        accent = paint_petal(shape, 0.95 * species.width, length, species.accent, dark, "plain", dark, rng)
    floret = _paint_floret(species, Bloom(petal, None, None), length, rng) if in_cluster else None
    return Bloom(petal, accent, floret)


def _paint_floret(species: Species, bloom: Bloom, radius: float, rng: np.random.Generator) -> Sprite:
    """Draw a small flower on a transparent background; the sprite's base is its middle, its length is the radius."""
    half = math.ceil(radius * 1.15)
    image = Image.new("RGBa", (2 * half, 2 * half))
    tilt = 0.2 if species.form == "umbel" else 0.75
    pose = Pose(half, half, radius, rng.uniform(0, 2 * math.pi), tilt, lean=0.0)
    _draw_rosette(image, replace(species, cup=min(species.cup, 0.7)), bloom, pose, rng)
    pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(2 * half, 2 * half, 4)
    return Sprite(shade_pixels(pixels[..., :3], pixels[..., 3]), half, half, radius)


def _draw_rosette(canvas: Image.Image, species: Species, bloom: Bloom, pose: Pose, rng: np.random.Generator) -> None:
    """Draw layers of petals around a centre; petals that point out of the plane form a cup."""
    upright = species.cup > 0.45
    nearer: list[tuple] = []
    for layer in range(species.layers):
        share = layer / species.layers
        lift = species.cup + (0.75 - species.cup) * share * (0.9 if species.layers > 2 else 0.15)
        length = pose.radius * (1 - (0.74 if species.layers > 2 else 0.3) * share)
        turn = pose.turn + math.pi / species.petals * (layer % 2)
        petals = []
        for i in range(species.petals):
            angle = turn + 2 * math.pi * i / species.petals + rng.normal(0, 0.35 / species.petals)
            petals.append((angle, length * rng.uniform(0.92, 1.05), lift))
        petals.sort(key=lambda petal: -math.cos(petal[0]) * pose.tilt)
        if upright:
            nearer = [petal for petal in petals if math.cos(petal[0]) < 0] + nearer
            petals = [petal for petal in petals if math.cos(petal[0]) >= 0]
        for petal in petals:
            paste_petal(canvas, bloom.petal, pose, *petal)
    CENTRES[species.centre](canvas, species, pose, rng)
    for petal in nearer:
        paste_petal(canvas, bloom.petal, pose, *petal)


def _draw_cup(canvas: Image.Image, species: Species, bloom: Bloom, pose: Pose, rng: np.random.Generator) -> None:
    """Draw a flower seen from the side; its base is below the centre of its position."""
    base = replace(pose, y=pose.y + 0.62 * pose.radius, radius=1.4 * pose.radius)
    _draw_rosette(canvas, species, bloom, base, rng)


def _draw_spike(canvas: Image.Image, species: Species, bloom: Bloom, pose: Pose, rng: np.random.Generator) -> None:
    """Draw florets up a stem, large below and buds above."""
    n = 15 + 3 * species.layers
    c, s = math.cos(pose.lean), math.sin(pose.lean)
    for i in reversed(range(n)):
        share = i / (n - 1)  # 0 at the foot
        height = pose.radius * (-0.85 + 1.95 * share)
        size = pose.radius * (0.42 - 0.27 * share) * rng.uniform(0.9, 1.1)
        aside = (0.0, 1.0, -1.0)[i % 3] * size * 0.62 + rng.normal(0, 0.02) * pose.radius
        x, y = pose.x + height * c - aside * s, pose.y + height * s + aside * c
        out = pose.lean + (aside > 0) * 1.2 - (aside < 0) * 1.2 + rng.normal(0, 0.2)
        sprite = bloom.petal if share > 0.82 else bloom.floret
        paste_turned(canvas, sprite, x, y, out, size, int(rng.integers(1, 3)))


def _draw_plume(canvas: Image.Image, species: Species, bloom: Bloom, pose: Pose, rng: np.random.Generator) -> None:
    """Draw bracts along a stem, from the top, each over the next: a flat quill, a cone, or a feather."""
    n = 4 + 3 * species.layers
    c, s = math.cos(pose.lean), math.sin(pose.lean)
    for i in reversed(range(n)):
        share = i / (n - 1)  # 0 at the foot
        height = pose.radius * (-0.95 + 1.35 * share)
        x, y = pose.x + height * c, pose.y + height * s
        length = pose.radius * (0.72 - 0.20 * share) * rng.uniform(0.92, 1.05)
        for k in range(species.petals):
            side = 2 * (k + 0.5) / species.petals - 1
            angle = pose.lean + side * (1.25 - 0.75 * share) + rng.normal(0, 0.05)
            paste_turned(canvas, bloom.petal, x, y, angle, length, 2 if side < 0 else 1)


def _draw_umbel(canvas: Image.Image, species: Species, bloom: Bloom, pose: Pose, rng: np.random.Generator) -> None:
    """Draw florets on a dome, from the rim inwards."""
    n = 13
    for i in reversed(range(n)):
        reach = pose.radius * 0.80 * math.sqrt((i + 0.3) / n)
        angle = pose.turn + GOLDEN_ANGLE * i
        along, aside = reach * math.cos(angle), reach * math.sin(angle)
        x, y = pose.project(along, aside, 0.35 * pose.radius * (1 - i / n))
        size, turn = pose.radius * rng.uniform(0.36, 0.43), rng.uniform(0, 2 * math.pi)
        paste_turned(canvas, bloom.floret, pose.x + x, pose.y + y, turn, size, 2 if y < 0 else 1)


def _draw_thistle(canvas: Image.Image, species: Species, bloom: Bloom, pose: Pose, rng: np.random.Generator) -> None:
    """Draw a brush of needles out of a scaly bulb in the accent colour."""
    bulb = 0.50 * pose.radius
    c, s = math.cos(pose.lean), math.sin(pose.lean)
    x, y = pose.x - 0.6 * bulb * c, pose.y - 0.6 * bulb * s
    for layer in range(species.layers):
        for i in range(species.petals):
            angle = pose.lean + (i / (species.petals - 1) - 0.5) * (2.3 - 0.35 * layer) + rng.normal(0, 0.05)
            length = pose.radius * (1.25 - 0.16 * layer) * rng.uniform(0.9, 1.05)
            paste_turned(canvas, bloom.petal, x, y, angle, length, layer % 3)
    draw = ImageDraw.Draw(canvas)
    dark, light = dim(species.accent, 0.55), dim(species.accent, 1.15)
    draw_dot(draw, x - 0.1 * bulb * c, y - 0.1 * bulb * s, bulb, dark)
    for i in range(22):
        reach, angle = bulb * 0.92 * math.sqrt((i + 0.5) / 22), GOLDEN_ANGLE * i + pose.turn
        colour = light if i % 2 else species.accent
        draw_dot(draw, x + reach * math.cos(angle), y + reach * math.sin(angle), 0.17 * bulb, colour)


def _draw_spathe(canvas: Image.Image, species: Species, bloom: Bloom, pose: Pose, rng: np.random.Generator) -> None:
    """Draw one large leaf-like petal with a spadix in front of it."""
    c, s = math.cos(pose.lean), math.sin(pose.lean)
    foot = replace(pose, x=pose.x - 0.75 * pose.radius * c, y=pose.y - 0.75 * pose.radius * s)
    paste_petal(canvas, bloom.petal, foot, 0.0, 1.75 * pose.radius, species.cup)
    draw = ImageDraw.Draw(canvas)
    reach, bend = pose.radius * (0.55 + species.centre_size), rng.normal(0, 0.12)
    for i in range(14):
        share = 0.15 + 0.85 * i / 13
        x = foot.x + share * reach * math.cos(pose.lean + bend * share)
        y = foot.y + share * reach * math.sin(pose.lean + bend * share)
        draw_dot(draw, x, y, pose.radius * (0.105 - 0.03 * share), dim(species.centre_colour, 0.75))
        draw_dot(draw, x - 0.02 * pose.radius, y, pose.radius * (0.07 - 0.02 * share), species.centre_colour)


# an orchid's parts from back to front: angle from the top in degrees, length, width, and whether in the accent colour
LAYOUTS = {
    "lip": (
        (0, 0.95, 0.75, 0), (128, 0.9, 0.7, 0), (-128, 0.9, 0.7, 0),
        (66, 0.98, 1.3, 0), (-66, 0.98, 1.3, 0), (180, 0.72, 1.3, 1),
    ),
    "pouch": (
        (0, 0.95, 1.1, 0), (118, 0.9, 0.7, 0), (-118, 0.9, 0.7, 0),
        (72, 0.95, 0.62, 0), (-72, 0.95, 0.62, 0),
    ),
    "beard": (
        (0, 0.8, 1.0, 0), (-32, 0.9, 0.9, 0), (32, 0.9, 0.9, 0),
        (118, 0.98, 1.05, 0), (-118, 0.98, 1.05, 0), (180, 1.0, 1.1, 0),
    ),
    "face": (
        (-34, 0.95, 1.0, 0), (34, 0.95, 1.0, 0), (-98, 0.88, 0.95, 1),
        (98, 0.88, 0.95, 1), (180, 0.9, 1.2, 1),
    ),
    "keel": (
        (-42, 0.98, 1.15, 0), (42, 0.98, 1.15, 0), (122, 0.66, 0.9, 0),
        (-122, 0.66, 0.9, 0), (180, 0.55, 0.8, 1),
    ),
}  # fmt: skip


def _draw_orchid(canvas: Image.Image, species: Species, bloom: Bloom, pose: Pose, rng: np.random.Generator) -> None:
    """Draw a flower with mirror symmetry only."""
    for degrees, length, width, accent in LAYOUTS[species.centre]:
        angle = math.radians(degrees) + rng.normal(0, 0.06)
        sprite = bloom.accent if accent else bloom.petal
        paste_petal(canvas, sprite, pose, angle, length * pose.radius * rng.uniform(0.95, 1.04), species.cup, width)
    _draw_lip(ImageDraw.Draw(canvas), species, pose)


def _draw_lip(draw: ImageDraw.ImageDraw, species: Species, pose: Pose) -> None:
    """Draw the centre of an orchid: a pouch, beards, a face, or a bead."""
    size, middle = species.centre_size * pose.radius, species.centre_colour

    def draw_bead(below: float, radius: float, colour: Colour) -> None:
        x, y = pose.project(-below * size, 0, 0)
        draw_dot(draw, pose.x + x, pose.y + y, radius * size, colour)

    def draw_streak(angle: float, reach: float, width: float, colour: Colour) -> None:
        x, y = reach * size * math.cos(pose.lean + angle), reach * size * math.sin(pose.lean + angle)
        draw.line((pose.x, pose.y, pose.x + x, pose.y + y), fill=colour, width=max(2, round(width * size)))

    if species.centre == "pouch":
        draw_bead(0.9, 1.12, dim(middle, 0.7))
        draw_bead(0.85, 0.98, middle)
        draw_bead(0.35, 0.45, dim(species.accent, 0.7))
    elif species.centre == "beard":
        for angle in (math.pi, 2.06, -2.06):
            draw_streak(angle, 1.9, 0.34, middle)
    elif species.centre == "face":
        for angle in (math.pi - 1.2, math.pi, math.pi + 1.2):
            draw_streak(angle, 1.7, 0.3, (46, 16, 60))
        draw_bead(0.0, 0.42, middle)
    else:
        draw_bead(0.5, 0.55, dim(middle, 0.7))
        draw_bead(0.5, 0.40, middle)


def _draw_fan(canvas: Image.Image, species: Species, bloom: Bloom, pose: Pose, rng: np.random.Generator) -> None:
    """Draw a bird's crest over a beak: petals to one side, every third in the accent colour."""
    side = 1 if rng.random() < 0.5 else -1
    x, y = pose.x - 0.35 * side * pose.radius, pose.y + 0.45 * pose.radius
    beak = math.atan2(-0.09, side)
    paste_turned(canvas, bloom.petal, x - 0.54 * side * pose.radius, y, beak, 1.36 * pose.radius, 0, slim=0.4)
    for i in range(species.petals):
        angle = UP + side * (-0.45 + 1.5 * i / (species.petals - 1)) + rng.normal(0, 0.06)
        length = pose.radius * rng.uniform(1.15, 1.4)
        sprite = bloom.accent if i % 3 == 2 else bloom.petal
        paste_turned(canvas, sprite, x, y, angle, length, 2 - i % 2)


FORMS = {
    "rosette": _draw_rosette,
    "cup": _draw_cup,
    "spike": _draw_spike,
    "plume": _draw_plume,
    "umbel": _draw_umbel,
    "thistle": _draw_thistle,
    "spathe": _draw_spathe,
    "orchid": _draw_orchid,
    "fan": _draw_fan,
}
