"""Species: the traits that all pictures of a class share.

The traits of the 104 target classes are written by hand in flower_traits.csv, after the real flowers. The source
classes are random points of the same trait space, at a distance from every target class and from each other.
"""

import csv
from colorsys import hsv_to_rgb
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

Colour = tuple[int, int, int]

MIN_DISTANCE = 0.22  # smallest trait_distance between classes; the two nearest target classes have 0.12
TRAITS_CSV = Path(__file__).with_name("flower_traits.csv")


@dataclass(frozen=True)
class Species:
    """The look of a class; colours are RGB from 0 to 255, lengths are shares of the flower's radius."""

    name: str
    form: str  # rosette, cup, spike, plume, umbel, thistle, spathe, orchid, fan: blossoms.FORMS
    petals: int  # number of petals in one layer
    layers: int
    shape: str  # shape of a petal: petals.OUTLINES
    width: float  # width of a petal, fraction of its length
    cup: float  # how far the petals rise out of the flower's plane: 0 flat, 1 upright, below 0 bent back
    tip: Colour
    base: Colour
    pattern: str  # on a petal, in the accent colour: petals.PATTERNS
    accent: Colour
    centre: str  # centres.CENTRES, and the inner parts of an orchid
    centre_size: float
    centre_colour: Colour
    leaf: str  # scenery.LEAVES


_COLOURS = ("tip", "base", "accent", "centre_colour")
_SCALES = {"petals": 12.0, "layers": 3.0, "width": 0.6, "cup": 0.8, "centre_size": 0.5}
# the most visible traits count most; another leaf or throat colour alone does not make another flower
_WEIGHTS = {"form": 3, "petals": 2, "layers": 1, "shape": 2, "width": 2, "cup": 1, "tip": 5, "base": 4, "pattern": 1.5,
            "accent": 1, "centre": 2, "centre_size": 1.5, "centre_colour": 1.5, "leaf": 0.5}  # fmt: skip


def trait_distance(one: Species, other: Species) -> float:
    """Return how different two species look: the weighted mean difference of their traits, from 0 (equal) to 1."""
    total = 0.0
    for trait, weight in _WEIGHTS.items():
        a, b = getattr(one, trait), getattr(other, trait)
        if trait in _COLOURS:
            difference = sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 3 / 128
        elif trait in _SCALES:
            difference = abs(a - b) / _SCALES[trait]
        else:
            difference = float(a != b)
        total += weight * min(1.0, difference)
    return total / sum(_WEIGHTS.values())


def read_target_species(path: Path = TRAITS_CSV) -> dict[str, Species]:
    """Read the species of the 104 target classes, by class name, in the file's order."""
    kinds = {field.name: field.type for field in fields(Species)}
    species = {}
    with path.open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            traits = {trait: _parse(text, kinds.get(trait)) for trait, text in row.items() if trait != "class"}
            species[row["class"]] = Species(name=row["class"], **traits)
    return species


def _parse(text: str, kind: type) -> str | int | float | Colour:
    if kind is Colour:
        return tuple(bytes.fromhex(text))
    return kind(text)


def draw_source_species(seed: int, n_classes: int) -> dict[str, Species]:
    """Draw the species of the source classes, `drawn 001` and so on; the first k do not depend on n_classes.

    With about a thousand classes, sufficiently different looks run out; the settings allow 999.
    """
    rng = np.random.default_rng([seed, 1])
    others = list(read_target_species().values())
    species: dict[str, Species] = {}
    while len(species) < n_classes:
        candidate = _draw_species(rng, f"drawn {len(species) + 1:03d}")
        if all(trait_distance(candidate, other) >= MIN_DISTANCE for other in others):
            others.append(candidate)
            species[candidate.name] = candidate
    return species


class Genus(NamedTuple):
    """The ranges of traits of a form, both ends included."""

    odds: float
    petals: tuple[int, int]
    layers: tuple[int, int]
    cup: tuple[float, float]
    centres: tuple[str, ...]


_OPEN_CENTRES = ("disc", "cone", "stamens", "throat", "star", "button", "column", "corona", "crown")
_GENERA = {
    "rosette": Genus(0.60, (4, 18), (1, 3), (-0.1, 0.4), _OPEN_CENTRES),
    "cup": Genus(0.10, (3, 7), (1, 3), (0.5, 0.8), ("throat", "stamens")),
    "spike": Genus(0.10, (3, 7), (1, 2), (0.2, 0.7), ("button", "throat", "star")),
    "umbel": Genus(0.10, (4, 8), (1, 2), (0.0, 0.3), ("button", "throat", "star")),
    "orchid": Genus(0.10, (5, 6), (1, 1), (0.0, 0.2), ("lip", "pouch", "beard", "face", "keel")),
}
_WIDTHS = {"round": 0.95, "oval": 0.6, "pointed": 0.45, "lance": 0.3, "strap": 0.24, "notched": 0.75, "heart": 0.85,
           "frilled": 0.7, "toothed": 0.5, "spoon": 0.55, "spade": 0.7}  # fmt: skip
_PATTERNS = ("plain", "plain", "veins", "stripe", "edge", "spots", "eye", "ring", "tip", "blotch")
_LEAVES = ("lance", "lobed", "broad", "round", "grass", "fern")


def _draw_species(rng: np.random.Generator, name: str) -> Species:
    form = str(rng.choice(list(_GENERA), p=[genus.odds for genus in _GENERA.values()]))
    genus = _GENERA[form]
    shape = str(rng.choice(list(_WIDTHS)))
    width = _WIDTHS[shape] * rng.uniform(0.85, 1.2)
    petals = int(rng.integers(*genus.petals, endpoint=True))
    if form != "orchid":  # few wide petals or many narrow ones; otherwise the flower would be a disc or a skeleton
        petals = int(np.clip(petals, 2.6 / width, max(4, 5.5 / width)))
    tip = _draw_colour(rng)
    return Species(
        name=name,
        form=form,
        petals=petals,
        layers=int(rng.integers(*genus.layers, endpoint=True)),
        shape=shape,
        width=round(float(width), 2),
        cup=round(float(rng.uniform(*genus.cup)), 2),
        tip=tip,
        base=_draw_colour(rng) if rng.random() < 0.4 else tuple(int(0.8 * part) for part in tip),
        pattern=str(rng.choice(_PATTERNS)),
        accent=_draw_colour(rng),
        centre=str(rng.choice(genus.centres)),
        centre_size=round(float(rng.uniform(0.16, 0.42)), 2),
        centre_colour=_draw_colour(rng),
        leaf=str(rng.choice(_LEAVES)),
    )


def _draw_colour(rng: np.random.Generator) -> Colour:
    """Draw a colour that flowers have: no green, often pale."""
    hue = rng.choice((rng.uniform(-0.37, -0.02), rng.uniform(-0.04, 0.17))) % 1.0
    saturation = rng.choice((rng.uniform(0.05, 0.3), rng.uniform(0.45, 0.95)), p=(0.25, 0.75))
    return tuple(int(255 * part) for part in hsv_to_rgb(hue, saturation, rng.uniform(0.85, 1.0)))
