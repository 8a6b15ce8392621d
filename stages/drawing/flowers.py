"""Compose a picture: choose specimens of a species, their positions, the background and the light."""

import math
from colorsys import hsv_to_rgb, rgb_to_hsv
from dataclasses import replace

import numpy as np
from PIL import Image

from stages.drawing.blossoms import FORMS, paint_bloom
from stages.drawing.poses import UP, Pose, paste_glow
from stages.drawing.scenery import draw_blade_in_front, draw_greenery, paint_background, paint_leaf, shine_light
from stages.drawing.species import Colour, Species

OVERSAMPLING = 2
BLOOM_ODDS = (0.58, 0.23, 0.12, 0.07)  # probabilities of 1, 2, 3, 4 flowers in a picture
HUE_SPREAD = 0.022  # among wild plants of a species, as a share of the colour circle
CULTIVARS = 0.15  # share of plants bred to another colour
CULTIVAR_HUE_SPREAD = 0.12
GREENS = (0.18, 0.57)  # range of the colour circle (with turquoise) that no petal has


def draw_picture(species: Species, size_px: int, rng: np.random.Generator) -> Image.Image:
    """Draw one picture of the species: 1 to 4 flowers with leaves, in some garden, in some light.

    Args:
        size_px: side of the square picture.
        rng: the only source of randomness of the picture.
    Returns:
        An RGB image.
    """
    specimen = _vary_species(species, rng)
    side = size_px * OVERSAMPLING
    canvas = paint_background(side, np.asarray(species.tip, np.float32), rng)
    poses = [_draw_pose(specimen, spot, side, rng) for spot in _choose_spots(rng)]
    leaf = paint_leaf(species, side, rng)
    for pose in poses:
        draw_greenery(canvas, species, pose, leaf, len(poses), rng)
    bloom = paint_bloom(specimen, max(pose.radius for pose in poses), rng)
    for pose in poses:
        paste_glow(canvas, (0, 0, 0), 0.45, replace(pose, y=pose.y + 0.06 * pose.radius), 1.12)
        FORMS[specimen.form](canvas, specimen, bloom, pose, rng)
    if rng.random() < 0.2:
        draw_blade_in_front(canvas, leaf, rng)
    return Image.fromarray(shine_light(np.asarray(canvas.reduce(OVERSAMPLING)), rng))


def _vary_species(species: Species, rng: np.random.Generator) -> Species:
    """Return a specimen: colours and petals vary between plants of a species."""
    hue = rng.normal(0, HUE_SPREAD if rng.random() > CULTIVARS else CULTIVAR_HUE_SPREAD)
    saturation, value = rng.normal(1, 0.15), rng.normal(1, 0.08)

    def tint(colour: Colour) -> Colour:
        h, s, v = rgb_to_hsv(*(part / 255 for part in colour))
        shifted = hsv_to_rgb(_shift_hue(h, hue), min(1, max(0, s * saturation)), min(1, max(0, v * value)))
        return tuple(int(255 * part) for part in shifted)

    petals = species.petals + (int(rng.integers(-1, 2)) if species.petals > 8 else 0)
    return replace(
        species, petals=petals, width=species.width * rng.uniform(0.88, 1.12), cup=species.cup + rng.normal(0, 0.05),
        centre_size=species.centre_size * rng.uniform(0.88, 1.12), tip=tint(species.tip), base=tint(species.base),
        accent=tint(species.accent),
    )  # fmt: skip


def _shift_hue(hue: float, shift: float) -> float:
    """Shift a hue along the colour circle, but stop before it becomes green."""
    low, high = GREENS
    shifted = (hue + shift) % 1
    if low < shifted < high and not low < hue < high:
        return high if hue >= high and shift < 0 else low
    return shifted


def _choose_spots(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Choose the places of the flowers: x, y and radius, as shares of the side; the last flower is in front."""
    n = 1 + int(rng.choice(len(BLOOM_ODDS), p=BLOOM_ODDS))
    if n == 1:
        return [(rng.uniform(0.38, 0.62), rng.uniform(0.36, 0.62), rng.uniform(0.22, 0.46))]
    start, spread = rng.uniform(0, 2 * math.pi), rng.uniform(0.22, 0.30)
    spots = []
    for i in range(n):
        angle = start + 2 * math.pi * i / n + rng.normal(0, 0.2)
        radius = rng.uniform(0.17, 0.29) * (1.15 if n == 2 else 0.92)
        spots.append((0.5 + spread * math.cos(angle), 0.5 + spread * math.sin(angle), radius))
    return spots


# form: mean tilt, its spread, spread of the lean around upright
_ATTITUDES = {
    "rosette": (0.0, 0.5, 1.1),
    "cup": (1.02, 0.16, 0.22),
    "spike": (0.0, 0.1, 0.14),
    "plume": (0.0, 0.1, 0.18),
    "umbel": (0.25, 0.3, 0.8),
    "thistle": (0.0, 0.2, 0.25),
    "spathe": (0.2, 0.3, 0.35),
    "orchid": (0.0, 0.22, 0.2),
    "fan": (0.0, 0.2, 0.25),
}


def _draw_pose(species: Species, spot: tuple[float, float, float], side: int, rng: np.random.Generator) -> Pose:
    tilt, spread, sway = _ATTITUDES[species.form]
    x, y, radius = (part * side for part in spot)
    return Pose(
        x, y, radius, rng.uniform(0, 2 * math.pi), min(1.25, abs(rng.normal(tilt, spread))), UP + rng.normal(0, sway)
    )
