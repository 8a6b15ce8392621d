"""The image folder in; the manifest (every image in exactly one split), what was left out, counts and a figure out.

python -m stages.split IMAGES MANIFEST REJECTED METRICS
"""

import argparse
import random
from pathlib import Path
from typing import Any

import pandas as pd

from stages.dataset.figures import draw_class_counts, draw_samples
from stages.dataset.image_table import COLUMNS, Dataset, read_dataset
from stages.dataset.ledger import picture_keys, place_groups, read_placements, write_placements
from stages.dataset.rejections import count_reasons, write_rejections
from stages.dataset.splits import SPLITS, stratify
from stages.pixels.decoding import read_square
from stages.runtime.errors import UserError
from stages.runtime.files import write_json, write_text
from stages.runtime.process import run_stage
from stages.settings.reading import read_config
from stages.settings.types import Split

SAMPLE_SIZE_PX = 192


def assign_splits(dataset: Dataset, settings: Split, placements: Path) -> pd.Series:
    """Return the split of each image: the folder's own, or by class and group; what the folder lacks comes from train.

    Raises:
        UserError: a class has too few pictures, or none in one of the folder's own splits; all such classes are named.
    """
    images = dataset.images
    splits = images["split"].copy()
    given = set(splits.dropna())
    if given == set(SPLITS):
        write_placements(placements, [], [])
        return splits
    free = images[splits.isna() | (splits == "train")]
    shares = [0 if split in given - {"train"} else getattr(settings, split) for split in SPLITS]
    fractions = [share / sum(shares) for share in shares]
    keys = picture_keys(free["pixels"], settings.seed, fractions)
    earlier = place_groups(keys, free["group"].tolist(), read_placements(placements))
    splits[free.index] = stratify(free["class"].tolist(), free["group"].tolist(), fractions, settings.seed, earlier)
    write_placements(placements, keys, splits[free.index].tolist())
    if given:
        cut = ", ".join(f"{(splits == split).sum()} {split}" for split in SPLITS if split not in given)
        print(f"split: the folder gives {', '.join(sorted(given))} alone; cut from its train: {cut} images")
    return splits


def class_counts(images: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Count the images: a row a class in label order, columns class, train, val, test, total."""
    counts = pd.crosstab(images["class"], images["split"]).reindex(index=classes, columns=list(SPLITS), fill_value=0)
    counts["total"] = counts.sum(axis=1)
    return counts.rename_axis(index="class", columns=None).reset_index()


def check_counts(folder: Path, counts: pd.DataFrame) -> None:
    """Refuse splits of the folder's own in which a class has no usable image: each such class has its line."""
    lacking = [(row["class"], split) for row in counts.to_dict("records") for split in SPLITS if not row[split]]
    if lacking:
        raise UserError(
            *(
                f"{folder}: class {name}: no usable image in {split}; add some, or remove the class"
                for name, split in lacking
            )
        )


def describe(dataset: Dataset, images: pd.DataFrame, counts: pd.DataFrame) -> dict[str, Any]:
    """Return what `dvc metrics diff` compares between two versions of the images."""
    totals = counts[[*SPLITS, "total"]].sum()
    n_pictures, n_groups = images["pixels"].nunique(), images["group"].nunique()
    return {
        "n_classes": len(counts),
        "n_images": totals.to_dict(),
        "imbalance_ratio": round(float(counts["total"].max() / counts["total"].min()), 4),
        "smallest_class": int(counts["total"].min()),
        "largest_class": int(counts["total"].max()),
        "n_bytes": int(images["n_bytes"].sum()),
        **{
            f"{side}_px": {name: float(getattr(images[side], name)()) for name in ("min", "median", "max")}
            for side in ("width", "height")
        },
        "n_exact_copies": len(images) - n_pictures,
        "n_near_copies": n_pictures - n_groups,
        "n_groups_of_copies": int((images["group"].value_counts() > 1).sum()),
        "n_first_frame_only": int((images["n_frames"] > 1).sum()),
        "n_rejected": count_reasons(dataset.rejections),
        "n_passed_over": {"total": sum(dataset.passed_over.values()), **dataset.passed_over},
        "classes": counts.set_index("class")[[*SPLITS, "total"]].to_dict("index"),
    }


def say(facts: dict[str, Any]) -> None:
    """Print what a user should know of the images beside their number."""
    for key, meaning in (
        ("n_exact_copies", "are exact copies of another; copies stay in one split"),
        ("n_near_copies", "more are near copies of another; copies stay in one split"),
        ("n_first_frame_only", "have several frames or pages, of which the first is taken"),
    ):
        if facts[key]:
            print(f"split: {facts[key]} images {meaning}")
    for key, meaning in (("n_rejected", "left out, see the list"), ("n_passed_over", "passed over")):
        if facts[key]["total"]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in facts[key].items() if count and kind != "total")
            print(f"split: {facts[key]['total']} files {meaning}: {kinds}")
    of_splits = ", ".join(f"{facts['n_images'][split]} {split}" for split in SPLITS)
    print(f"split: {facts['n_images']['total']} images of {facts['n_classes']} classes: {of_splits}")


def choose_samples(images: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Choose ten training images as a shuffled batch would hold them."""
    rows = images.index[images["split"] == "train"].tolist()
    return images.loc[random.Random(seed).sample(rows, min(10, len(rows)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("images", "manifest", "rejected", "metrics"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    config = read_config()

    dataset = read_dataset(arguments.images, config.images_max_pixels, config.images_copy_bits)
    write_rejections(arguments.rejected, dataset.rejections)
    if problems := dataset.problems(config.images_policy):
        raise UserError(*problems)
    images = dataset.images.assign(split=assign_splits(dataset, config.split, arguments.metrics / "splits.csv"))
    counts = class_counts(images, dataset.classes)
    check_counts(arguments.images, counts)
    facts = describe(dataset, images, counts)
    samples = choose_samples(images, config.split.seed)
    pictures = [read_square(arguments.images / path, SAMPLE_SIZE_PX) for path in samples["path"]]

    write_text(arguments.manifest, images[list(COLUMNS)].to_csv(index=False, lineterminator="\n"))
    write_text(arguments.metrics / "class_counts.csv", counts.to_csv(index=False, lineterminator="\n"))
    write_json(arguments.metrics / "dataset.json", facts)
    draw_class_counts(counts, arguments.metrics / "class_counts.png")
    draw_samples(pictures, samples["class"].tolist(), arguments.metrics / "samples.png")
    say(facts)


if __name__ == "__main__":
    run_stage(main)
