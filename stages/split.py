"""List the images, assign each to exactly one split, and count the classes.

    python -m stages.split MANIFEST REJECTED METRICS [--names PATH] [--fixes LABELS_FIXED FIXES] [--params PATH]

REJECTED lists the files that were left out, with the reason. Classes have the names of their folders or labels in the
manifest, which trainings depend on. NAMES has the readable names from classes.txt; changing one retrains nothing.
LABELS_FIXED is the table of labels that a person corrected (labels_fixed.csv), and FIXES lists what it changed.
"""

import argparse
import random
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stages.dataset.image_table import COLUMNS, Dataset, read_dataset
from stages.dataset.label_fixes import count_fixes, list_fixes
from stages.dataset.ledger import picture_keys, place_groups, read_ledger, write_ledger
from stages.dataset.rejections import count_reasons, refuse_rejections, write_rejections
from stages.dataset.splits import stratify
from stages.pixels.decoding import read_square
from stages.pixels.packed_splits import SPLITS
from stages.reporting.dataset_figures import draw_class_counts, draw_samples
from stages.runtime.errors import UserError
from stages.runtime.files import write_json, write_text
from stages.runtime.process import run_stage
from stages.settings.reading import read_params
from stages.settings.types import Split

SAMPLE_SIZE_PX = 192


def assign_splits(dataset: Dataset, settings: Split, ledger: Mapping[str, str]) -> tuple[pd.Series, dict[str, str]]:
    """Split the images: by the splits of the folder, or by class and group; missing splits are cut from its train.

    Args:
        ledger: {picture: split} of earlier splits, which take precedence.
    Returns:
        The split of each image; and the ledger with the new pictures.
    Raises:
        UserError: classes have too few pictures; one line per class.
    """
    images, given = dataset.images, dataset.given
    splits = images["split"].copy()
    if given == set(SPLITS):
        return splits, dict(ledger)
    free = images[splits.isna() | (splits == "train")]
    shares = [0 if split in given - {"train"} else getattr(settings, split) for split in SPLITS]
    fractions = [share / sum(shares) for share in shares]
    keys = picture_keys(free["pixels"], settings.seed, fractions)
    earlier = place_groups(keys, free["group"].tolist(), ledger)
    splits[free.index] = stratify(free["class"].tolist(), free["group"].tolist(), fractions, settings.seed, earlier)
    if given:
        cut = ", ".join(f"{(splits == split).sum()} {split}" for split in SPLITS if split not in given)
        print(f"split: the folder has only {', '.join(sorted(given))}; cut from train: {cut} images")
    return splits, {**ledger, **dict(zip(keys, splits[free.index], strict=True))}


def class_counts(images: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Count the images: one row per class in label order, columns class, train, val, test, total."""
    counts = pd.crosstab(images["class"], images["split"]).reindex(index=classes, columns=list(SPLITS), fill_value=0)
    counts["total"] = counts.sum(axis=1)
    return counts.rename_axis(index="class", columns=None).reset_index()


def check_counts(folder: Path, counts: pd.DataFrame, wanted: Collection[str]) -> None:
    """Refuse classes without a usable image in one of the wanted splits; one line per class."""
    if problems := [
        f"{folder}: class {row['class']}: no usable image in {', '.join(lacking)}; add some, or remove the class"
        for row in counts.to_dict("records")
        if (lacking := [split for split in SPLITS if split in wanted and not row[split]])
    ]:
        raise UserError(*problems)


def describe(dataset: Dataset, images: pd.DataFrame, counts: pd.DataFrame, fixes: pd.DataFrame) -> dict[str, Any]:
    """Return the facts about the images for the report; counts per class are in metrics/class_counts.csv."""
    totals = counts[[*SPLITS, "total"]].sum()
    n_pictures, n_groups = images["pixels"].nunique(), images["copies"].nunique()
    return {
        "n_classes": len(counts),
        "n_images": totals.to_dict(),
        "imbalance_ratio": round(float(counts["total"].max() / counts["total"].min()), 4),
        "smallest_class": int(counts["total"].min()),
        "largest_class": int(counts["total"].max()),
        "n_bytes": int(images["n_bytes"].sum()),
        **{
            f"{side}_px": images[side].agg(["min", "median", "max"]).astype(float).to_dict()
            for side in ("width", "height")
        },
        "n_exact_copies": len(images) - n_pictures,
        "n_near_copies": n_pictures - n_groups,
        "n_groups_of_copies": int((images["copies"].value_counts() > 1).sum()),
        "n_first_frame_only": int((images["n_frames"] > 1).sum()),
        **({"grey_bits": bits} if (bits := int(images["grey_bits"].max())) else {}),
        "n_rejected": count_reasons(dataset.rejections),
        "n_passed_over": {"total": sum(dataset.passed_over.values()), **dataset.passed_over},
        "n_fixed": count_fixes(fixes),
    }


def say(facts: dict[str, Any]) -> None:
    """Print the facts about the images that a user should know."""
    fixed = facts["n_fixed"]
    for count, meaning in (
        (facts["n_exact_copies"], "images are exact copies of another image; copies stay in one split"),
        (
            facts["n_near_copies"],
            "more images are near copies of another image (images_copy_bits); copies stay in one split",
        ),
        (facts["n_first_frame_only"], "images have several frames or pages; the first is used"),
        (facts["n_rejected"]["total"], "files left out; data/rejected.csv gives the reasons"),
        (facts["n_passed_over"]["total"], "files ignored (hidden, or not images of a class)"),
        (fixed["relabelled"], "pictures have another class than the folder says (labels_fixed.csv)"),
        (fixed["dropped"], "pictures are left out (labels_fixed.csv)"),
        (fixed["marked_in_test"], "pictures to be left out (labels_fixed.csv) stay, since they are of the test split"),
    ):
        if count:
            print(f"split: {count} {meaning}")
    if "grey_bits" in facts:
        print(
            f"split: grey pictures with more than 8 bits per pixel: {facts['grey_bits']} bits are used, as the largest "
            "value needs"
        )
    of_splits = ", ".join(f"{facts['n_images'][split]} {split}" for split in SPLITS)
    print(f"split: {facts['n_images']['total']} images of {facts['n_classes']} classes: {of_splits}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("manifest", "rejected", "metrics"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--names", type=Path, help="JSON file to write, {class: its name to read}")
    parser.add_argument("--fixes", type=Path, nargs=2, default=(None, None), metavar=("LABELS_FIXED", "FIXES"))
    parser.add_argument("--params", type=Path, default="params.yaml")
    arguments = parser.parse_args()
    recipe, (labels_fixed, fixes_path) = read_params(arguments.params), arguments.fixes
    folder = Path(recipe.images)

    dataset = read_dataset(folder, recipe.images_max_pixels, recipe.images_copy_bits, labels_fixed)
    write_rejections(arguments.rejected, dataset.rejections)
    if recipe.images_policy == "strict":
        n_files = len(dataset.images) + len(dataset.rejections)
        refuse_rejections(folder, dataset.rejections, n_files, labels_fixed)
    ledger_path = arguments.metrics / "splits.csv"
    splits, ledger = assign_splits(dataset, recipe.split, read_ledger(ledger_path))
    images = dataset.images.assign(split=splits)
    fixes = list_fixes(images)
    images = images[~images["dropped"] | (images["split"] == "test")]  # no test picture is dropped silently
    counts = class_counts(images, list(dataset.names))
    check_counts(folder, counts, dataset.given | {split for split in SPLITS if getattr(recipe.split, split)})
    counts["class"] = list(dataset.names.values())
    facts = describe(dataset, images, counts, fixes)
    of_train = images.index[images["split"] == "train"].tolist()
    samples = images.loc[random.Random(recipe.split.seed).sample(of_train, min(10, len(of_train)))]
    grey_bits = facts.get("grey_bits")
    pictures = [read_square(folder / path, SAMPLE_SIZE_PX, None, grey_bits) for path in samples["path"]]

    write_ledger(ledger_path, ledger)
    columns = [*COLUMNS, "grey_bits"] if grey_bits else list(COLUMNS)
    write_text(arguments.manifest, images[columns].to_csv(index=False, lineterminator="\n"))
    if fixes_path:
        write_text(fixes_path, fixes.to_csv(index=False, lineterminator="\n"))
    write_text(arguments.metrics / "class_counts.csv", counts.to_csv(index=False, lineterminator="\n"))
    write_json(arguments.metrics / "dataset.json", facts)
    if arguments.names:
        write_json(arguments.names, dataset.names)
    draw_class_counts(counts, arguments.metrics / "class_counts.png")
    draw_samples(pictures, samples["class"].map(dataset.names).tolist(), arguments.metrics / "samples.png")
    say(facts)


if __name__ == "__main__":
    run_stage(main)
