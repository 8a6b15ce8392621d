"""Draw an image set: the embedded set of 104 flowers, or the source classes for pretraining.

    python -m stages.draw flowers data/flowers/images --params data/flowers/params.yaml
    python -m stages.draw source data/weights/source/images --params data/weights/source/params.yaml

Reads the block `draw` of the parameter file; writes FOLDER/CLASS/NUMBER.jpg.
"""

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.drawing.flowers import draw_picture
from stages.drawing.species import Species, draw_source_species, read_target_species
from stages.runtime.errors import UserError
from stages.runtime.process import run_stage
from stages.runtime.workers import spread
from stages.settings.reading import read_params
from stages.settings.types import Flowers, Source

CLASSES_CSV = Path(__file__).parent / "drawing" / "flower_classes.csv"
SETS = {"flowers": Flowers, "source": Source}
JPEG_QUALITY = 92
PICTURES_PER_TASK = 32


class Picture(NamedTuple):
    """One image to draw; the numbers seed its random generator."""

    species: Species
    path: Path
    size_px: int
    seed: tuple[int, int, int, int]  # seed of the set; numbers of the set, the class and the image


def read_class_weights() -> dict[str, int]:
    """Read the number of labelled photos per class in the real 104-flower set, train and val together."""
    with CLASSES_CSV.open(encoding="utf-8", newline="") as rows:
        return {row["class"]: int(row["kaggle_train"]) + int(row["kaggle_val"]) for row in csv.DictReader(rows)}


def share_images(weights: dict[str, int], n_images: int, min_images: int) -> dict[str, int]:
    """Divide a number of images among classes in proportion to their weights, with a minimum per class.

    Args:
        n_images: min_images for each class, or more.
    Returns:
        Images per class; they sum to n_images.
    Source: largest-remainder apportionment.
    """
    free = dict(weights)  # classes above the minimum; each round removes those that would fall below it
    while True:
        scale = (n_images - min_images * (len(weights) - len(free))) / max(1, sum(free.values()))
        small = [name for name, weight in free.items() if weight * scale < min_images]
        if not small:
            break
        for name in small:
            del free[name]
    counts = {name: int(free[name] * scale) if name in free else min_images for name in weights}
    by_remainder = sorted(free, key=lambda name: free[name] * scale % 1, reverse=True)
    for name in by_remainder[: n_images - sum(counts.values())]:
        counts[name] += 1
    return counts


def list_pictures(settings: Flowers | Source, folder: Path) -> list[Picture]:
    """List every image of a set, class by class."""
    if isinstance(settings, Flowers):
        species = read_target_species()
        counts = share_images(read_class_weights(), settings.n_images, settings.min_images)
    else:
        species = draw_source_species(settings.seed, settings.n_classes)
        counts = dict.fromkeys(species, settings.images_per_class)
    number = list(SETS.values()).index(type(settings))  # different sets with the same seed differ
    return [
        Picture(species[name], folder / name / f"{i:04d}.jpg", settings.size_px, (settings.seed, number, c, i))
        for c, (name, count) in enumerate(counts.items())
        for i in range(count)
    ]


def save_picture(picture: Picture) -> None:
    """Draw and save an image."""
    image = draw_picture(picture.species, picture.size_px, np.random.default_rng(picture.seed))
    # no colour subsampling: at 64 px it would blur the edges of petals
    image.save(picture.path, "JPEG", quality=JPEG_QUALITY, subsampling=0)


def draw_set(settings: Flowers | Source, folder: Path) -> int:
    """Draw a set on all cores; the number of cores does not change the images. Return the number of images.

    Args:
        folder: new folder for the class folders.
    Raises:
        UserError: the folder exists. DVC removes an older one; this command never deletes a folder.
    """
    if folder.exists():
        raise UserError(f"{folder}: expected a new folder, but this one exists; delete it, or name another folder")
    pictures = list_pictures(settings, folder)
    for class_folder in {picture.path.parent for picture in pictures}:
        class_folder.mkdir(parents=True)
    return sum(1 for _ in spread(save_picture, pictures, PICTURES_PER_TASK))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set_name", choices=list(SETS), help="the set to draw")
    parser.add_argument("folder", type=Path, help="new folder for the class folders")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameter file with the block `draw`")
    arguments = parser.parse_args()
    settings = read_params(arguments.params).draw
    if not isinstance(settings, SETS[arguments.set_name]):
        keys = ", ".join(SETS[arguments.set_name].model_fields)
        raise UserError(f"{arguments.params}: expected a block `draw` with {keys}; name another file with --params")
    n_drawn = draw_set(settings, arguments.folder)
    print(f"{arguments.folder}: {n_drawn} images of {arguments.set_name}")


if __name__ == "__main__":
    run_stage(main)
