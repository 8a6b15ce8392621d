"""Draw an image set: the embedded 104 flowers, or the source classes that the default pretrained weights come from.

    python -m stages.draw flowers data/flowers/images
    python -m stages.draw source data/weights/drawn/images

Reads the block of params.yaml that is named so; writes <folder>/<class>/<number>.jpg.
"""

import argparse
import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.drawing.flowers import draw_picture
from stages.drawing.species import Species, draw_source_species, read_target_species
from stages.runtime.process import count_cores, open_pool, run_stage
from stages.settings.reading import read_config
from stages.settings.types import Flowers, Source, check_shares

CLASSES_CSV = Path(__file__).parent / "drawing" / "flower_classes.csv"
SET_NUMBERS = {"flowers": 0, "source": 1}
JPEG_QUALITY = 92
PICTURES_PER_TASK = 32


class Picture(NamedTuple):
    """One image that is to be drawn; the numbers seed its generator."""

    species: Species
    path: Path
    size_px: int
    seed: tuple[int, int, int, int]  # of the set, number of the set, of the class, of the image


def read_class_weights(path: Path = CLASSES_CSV) -> dict[str, int]:
    """Read how many labelled photos the 104-flower set has of each class, train and val together."""
    with path.open(encoding="utf-8", newline="") as rows:
        return {row["class"].strip(): int(row["kaggle_train"]) + int(row["kaggle_val"]) for row in csv.DictReader(rows)}


def share_images(weights: dict[str, int], n_images: int, min_images: int) -> dict[str, int]:
    """Share a number of images among classes in proportion to their weights, none with fewer than a minimum.

    Returns:
        Images per class; they sum to n_images.
    Raises:
        UserError: n_images is too small for the minimum.
    Source: largest-remainder apportionment.
    """
    check_shares(len(weights), n_images, min_images)
    free = dict(weights)  # classes above the minimum; each round takes out those that would fall below it
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


def list_pictures(set_name: str, settings: Flowers | Source, folder: Path) -> list[Picture]:
    """List every image of a set, class by class."""
    if set_name == "flowers":
        species = read_target_species()
        counts = share_images(read_class_weights(), settings.n_images, settings.min_images)
    else:
        species = draw_source_species(settings.seed, settings.n_classes)
        counts = dict.fromkeys(species, settings.images_per_class)
    return [
        Picture(
            species[name],
            folder / name / f"{i:04d}.jpg",
            settings.size_px,
            (settings.seed, SET_NUMBERS[set_name], c, i),
        )
        for c, (name, count) in enumerate(counts.items())
        for i in range(count)
    ]


def save_pictures(pictures: list[Picture]) -> int:
    """Draw and save some images; returns how many."""
    for picture in pictures:
        rng = np.random.default_rng(picture.seed)
        image = draw_picture(picture.species, picture.size_px, rng)
        try:
            # no colour subsampling: at 64 px it would smear the petals' edges
            image.save(picture.path, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        except OSError as error:
            error.filename = error.filename or os.fspath(picture.path)  # a full disk does not say what it refused
            raise
    return len(pictures)


def _batches(pictures: list[Picture]) -> Iterator[list[Picture]]:
    for start in range(0, len(pictures), PICTURES_PER_TASK):
        yield pictures[start : start + PICTURES_PER_TASK]


def draw_set(set_name: str, settings: Flowers | Source, folder: Path, n_workers: int) -> int:
    """Draw a whole set beside its place, and move it there when it is complete; an older one is replaced.

    Args:
        folder: where the class folders go.
        n_workers: processes; the images do not depend on it.
    Returns:
        The number of images.
    """
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    pictures = list_pictures(set_name, settings, unfinished)
    for class_folder in {picture.path.parent for picture in pictures}:
        class_folder.mkdir(parents=True)
    try:
        with open_pool(n_workers) as pool:
            n_drawn = sum(pool.map(save_pictures, _batches(pictures)))
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return n_drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set_name", choices=list(SET_NUMBERS), help="which set, and which block of params.yaml")
    parser.add_argument("folder", type=Path, help="where the class folders go")
    arguments = parser.parse_args()
    settings = getattr(read_config(), arguments.set_name)
    n_drawn = draw_set(arguments.set_name, settings, arguments.folder, count_cores())
    print(f"{arguments.folder}: {n_drawn} images of {arguments.set_name}")


if __name__ == "__main__":
    run_stage(main)
