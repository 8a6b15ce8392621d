"""The image folder in; the manifest (every image in exactly one split), the class counts and a figure of samples out.

python -m stages.split IMAGES MANIFEST METRICS
"""

import argparse
import random
from collections import Counter
from pathlib import Path

import pandas as pd
from PIL import Image

from stages.shared.config import read_config
from stages.shared.errors import UserError
from stages.shared.files import write_json, write_text
from stages.shared.images import SPLITS, find_images, hash_file, read_class_names, read_image
from stages.shared.overview import draw_class_counts, draw_samples
from stages.shared.running import count_cores, open_pool, run_stage
from stages.shared.splits import stratify

SAMPLE_SIZE_PX = 192
FILES_PER_TASK = 64


def inspect_files(paths: list[Path]) -> list[tuple[str, int, int] | str]:
    """Return, for each file, its sha256 and the image's width and height in pixels, or what is wrong with it."""
    facts: list[tuple[str, int, int] | str] = []
    for path in paths:
        try:
            with Image.open(path) as image:
                facts.append((hash_file(path), *image.size))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            facts.append(f"{path} ({error})")
    return facts


def list_images(folder: Path) -> pd.DataFrame:
    """List the images as manifest rows, without the column `split` unless the folder gives the splits."""
    found = find_images(folder)
    folders = sorted({image.class_folder for image in found})
    names = dict(zip(folders, read_class_names(folder, folders), strict=True))
    numbers = {name: number for number, name in enumerate(folders)}
    tasks = [found[start : start + FILES_PER_TASK] for start in range(0, len(found), FILES_PER_TASK)]
    with open_pool(count_cores()) as pool:
        inspected = pool.map(inspect_files, ([folder / image.path for image in task] for task in tasks))
        facts = [fact for some in inspected for fact in some]
    if problems := [fact for fact in facts if isinstance(fact, str)]:
        raise UserError(f"{len(problems)} of {len(facts)} files are no images; mend or remove: {', '.join(problems)}")
    rows = [
        (image.path, numbers[image.class_folder], names[image.class_folder], image.split, *fact, fact[0][:16])
        for image, fact in zip(found, facts, strict=True)
    ]
    return pd.DataFrame(rows, columns=["path", "label", "class", "split", "sha256", "width", "height", "group"])


def say_what_was_passed_over(folder: Path, manifest: pd.DataFrame) -> None:
    """Print how many files of the folder are no images of a class by their place or ending."""
    taken = {*manifest["path"], "classes.txt"}
    files = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).as_posix() not in taken]
    if files:
        endings = Counter(path.suffix.lower() or path.name for path in files)
        counts = ", ".join(f"{count} {ending}" for ending, count in endings.most_common())
        print(f"split: passed over {len(files)} files that are no image in a class folder: {counts}")


def check_groups(manifest: pd.DataFrame) -> None:
    """Refuse a picture that stands under two classes, or in two of the folder's own splits."""
    for column, remedy in (("class", "keep one"), ("split", "a copy in two splits would leak; keep one")):
        if manifest[column].isna().all():
            continue
        spread = manifest.groupby("group")[column].nunique()
        for group in spread.index[spread > 1]:
            paths = manifest.loc[manifest["group"] == group, "path"].tolist()
            raise UserError(f"images: the same picture under two names of {column}: {', '.join(paths)}; {remedy}")


def check_given_splits(manifest: pd.DataFrame) -> None:
    """Refuse splits of the folder's own in which a class has no image in one of them."""
    counts = class_counts(manifest)
    if problems := [
        f"{row['class']} in {split}" for row in counts.to_dict("records") for split in SPLITS if not row[split]
    ]:
        raise UserError(f"images: expected every class in train/, val/ and test/; no image of {', '.join(problems)}")


def class_counts(manifest: pd.DataFrame) -> pd.DataFrame:
    """Count the images: a row a class in label order, columns class, train, val, test, total."""
    names = manifest.drop_duplicates("label").sort_values("label")["class"]
    counts = pd.crosstab(manifest["class"], manifest["split"]).reindex(index=names, columns=list(SPLITS), fill_value=0)
    counts["total"] = counts.sum(axis=1)
    return counts.rename_axis(index="class", columns=None).reset_index()


def choose_samples(manifest: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Choose ten training images as a shuffled batch would hold them."""
    rows = manifest.index[manifest["split"] == "train"].tolist()
    return manifest.loc[random.Random(seed).sample(rows, min(10, len(rows)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("images", "manifest", "metrics"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    settings = read_config().split

    manifest = list_images(arguments.images)
    say_what_was_passed_over(arguments.images, manifest)
    check_groups(manifest)
    if manifest["split"].isna().all():
        fractions = (settings.train, settings.val, settings.test)
        manifest["split"] = stratify(manifest["class"], manifest["group"], fractions, settings.seed)
    check_given_splits(manifest)

    counts = class_counts(manifest)
    totals = counts[[*SPLITS, "total"]].sum()
    samples = choose_samples(manifest, settings.seed)
    pictures = [read_image(arguments.images / path, SAMPLE_SIZE_PX) for path in samples["path"]]
    write_text(arguments.manifest, manifest.to_csv(index=False, lineterminator="\n"))
    write_text(arguments.metrics / "class_counts.csv", counts.to_csv(index=False, lineterminator="\n"))
    write_json(
        arguments.metrics / "class_counts.json",
        {"n_classes": len(counts), "total": totals.to_dict(), "classes": counts.set_index("class").to_dict("index")},
    )
    draw_class_counts(counts, arguments.metrics / "class_counts.png")
    draw_samples(pictures, samples["class"].tolist(), arguments.metrics / "samples.png")
    print(f"split: {totals['total']} images of {len(counts)} classes: " + ", ".join(f"{totals[s]} {s}" for s in SPLITS))


if __name__ == "__main__":
    run_stage(main)
