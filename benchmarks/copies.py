"""Measure how many changed copies of images the split would recognise, at several thresholds.

    python -m benchmarks.copies IMAGES [--n 1000] [--sheet PNG]

N random images are copied in memory and changed in a dozen ways. The copies are grouped with all images of the folder,
as in `split`. Groups without such copies are real copies in the folder, or mistakes: --sheet draws them, so that a
person can check.
"""

import argparse
import io
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from stages.dataset.copies import group_copies
from stages.dataset.inspection import Facts, inspect_files
from stages.dataset.layouts import list_folder
from stages.dataset.perceptual_hashes import hash_likeness
from stages.pixels.decoding import decode, hash_pixels
from stages.runtime.process import exit_cleanly
from stages.settings.reading import read_params

THRESHOLDS = (16, 32, 40, 48, 56, 64)
SIDE_PX = 128

Change = Callable[[Image.Image], Image.Image]


def encode(kind: str, **options) -> Change:
    """Return a change that saves an image in some format and reads it back."""

    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return Image.open(buffer).convert("RGB")

    return change


def scale(factor: float) -> Change:
    """Return a change of size."""
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)))


def crop(share: float, corner: bool = False) -> Change:
    """Return a change that crops a share of each side: evenly, or from the right and the bottom."""

    def change(image: Image.Image) -> Image.Image:
        dx, dy = round(image.width * share), round(image.height * share)
        left, top = (0, 0) if corner else (dx // 2, dy // 2)
        return image.crop((left, top, left + image.width - dx, top + image.height - dy))

    return change


CHANGES: dict[str, Change] = {
    "copy": lambda image: image,
    "PNG": encode("PNG"),
    "JPEG, quality 75": encode("JPEG", quality=75),
    "JPEG, quality 20": encode("JPEG", quality=20),
    "WebP, quality 60": encode("WEBP", quality=60),
    "half the size": scale(0.5),
    "twice the size": scale(2),
    "height times 0.75": lambda image: image.resize((image.width, image.height * 3 // 4)),
    "mirrored": ImageOps.mirror,
    "mirrored, size times 0.7, JPEG 50": lambda image: encode("JPEG", quality=50)(scale(0.7)(ImageOps.mirror(image))),
    "cropped by 3 %": crop(0.03),
    "cropped by 6 %": crop(0.06),
    "cropped by 8 %": crop(0.08),
    "cropped by 10 %": crop(0.10),
    "cropped by 3 % at one corner": crop(0.03, corner=True),
    "cropped by 6 % at one corner": crop(0.06, corner=True),
    "10 % brighter": lambda image: image.point(lambda value: min(255, round(value * 1.1))),
    "without colour": lambda image: image.convert("L").convert("RGB"),
}


def measure_recall(folder: Path, facts: list[Facts], n: int) -> dict[str, dict[int, float]]:
    """Return {change: {threshold: share of the copies that are grouped with their originals}}."""
    chosen = random.Random(0).sample(facts, min(n, len(facts)))
    images = [decode((folder / each.path).read_bytes()).image for each in chosen]
    pixels, likeness = [each.pixels for each in facts], [each.likeness for each in facts]
    recall: dict[str, dict[int, float]] = {}
    for name, change in CHANGES.items():
        changed = [change(image) for image in images]
        all_pixels = pixels + [hash_pixels(image) for image in changed]
        all_likeness = likeness + [hash_likeness(image) for image in changed]
        recall[name] = {}
        for threshold in THRESHOLDS:
            groups = group_copies(all_pixels, all_likeness, threshold)
            of_path = dict(zip((each.path for each in facts), groups, strict=False))
            found = [of_path[each.path] == group for each, group in zip(chosen, groups[len(facts) :], strict=True)]
            recall[name][threshold] = sum(found) / len(found)
    return recall


def find_groups(facts: list[Facts], threshold: int) -> list[list[str]]:
    """Return the paths of each group of two images or more."""
    groups = defaultdict(list)
    for each, group in zip(
        facts, group_copies([f.pixels for f in facts], [f.likeness for f in facts], threshold), strict=True
    ):
        groups[group].append(each.path)
    return sorted(paths for paths in groups.values() if len(paths) > 1)


def draw_groups(folder: Path, groups: list[list[str]], path: Path) -> None:
    """Draw each group in a row, under the names of its classes."""
    width = max(map(len, groups), default=1)
    sheet = Image.new("RGB", (width * SIDE_PX, len(groups) * (SIDE_PX + 14)), "white")
    for row, paths in enumerate(groups):
        for column, name in enumerate(paths):
            image = ImageOps.fit(decode((folder / name).read_bytes()).image, (SIDE_PX, SIDE_PX))
            sheet.paste(image, (column * SIDE_PX, row * (SIDE_PX + 14) + 14))
            ImageDraw.Draw(sheet).text((column * SIDE_PX, row * (SIDE_PX + 14)), name[:21], fill="black")
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--n", type=int, default=1000, help="number of images to copy")
    parser.add_argument("--sheet", type=Path, help="draw the groups of the folder itself into this file")
    arguments = parser.parse_args()
    params = read_params()
    paths = [file.path for file in list_folder(arguments.images).files]
    inspected = inspect_files(arguments.images, paths, params.images_max_pixels, likeness=True)
    facts = [each for each in inspected if isinstance(each, Facts)]

    print(f"| {len(facts):,} images | {' | '.join(f'{each} bits' for each in THRESHOLDS)} |")
    print(f"|---|{'---:|' * len(THRESHOLDS)}")
    found = {threshold: find_groups(facts, threshold) for threshold in THRESHOLDS}
    print(f"| groups among themselves | {' | '.join(str(len(groups)) for groups in found.values())} |")
    for name, shares in measure_recall(arguments.images, facts, arguments.n).items():
        print(f"| {name} | {' | '.join(f'{share:.3f}' for share in shares.values())} |")
    if arguments.sheet:
        draw_groups(arguments.images, found[params.images_copy_bits or THRESHOLDS[-1]], arguments.sheet)


if __name__ == "__main__":
    exit_cleanly(main)
