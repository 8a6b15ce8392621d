"""The manifest and the images in; one uint8 array per split, and the class names, out.

python -m stages.pack MANIFEST IMAGES PACKED
"""

import argparse
from pathlib import Path

import pandas as pd

from stages.dataset.splits import SPLITS
from stages.pixels.packing import write_pack
from stages.runtime.errors import UserError
from stages.runtime.files import write_json
from stages.runtime.process import run_stage
from stages.settings.reading import read_config

COLUMNS = ["path", "label", "class", "split", "sha256"]


def read_manifest(path: Path) -> pd.DataFrame:
    """Read what `split` wrote.

    Raises:
        UserError: it is missing, damaged, or lacks a split.
    """
    texts = {name: str for name in COLUMNS if name != "label"}  # "007"; and no class is called NaN
    try:
        manifest = pd.read_csv(path, usecols=COLUMNS, keep_default_na=False, dtype={**texts, "label": int})
    except PermissionError:  # it may be whole: run_stage says what to do
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable manifest ({error}); run `dvc repro split`") from None
    names = manifest[["label", "class"]].drop_duplicates()
    is_numbered = sorted(names["label"]) == list(range(len(names))) and names["class"].is_unique
    if set(manifest["split"]) != set(SPLITS) or not is_numbered:
        raise UserError(
            f"{path}: expected rows of {', '.join(SPLITS)}, and a name for each label from 0; run `dvc repro split`"
        )
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("manifest", "images", "packed"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    size_px = read_config().pack.stored_size_px

    manifest = read_manifest(arguments.manifest)
    for split in SPLITS:
        rows = manifest[manifest["split"] == split]
        paths = [arguments.images / path for path in rows["path"]]
        write_pack(arguments.packed / split, paths, rows["label"].tolist(), rows["sha256"].tolist(), size_px)
        print(f"pack: {len(rows)} {split} images at {size_px} px")
    names = manifest.drop_duplicates("label").sort_values("label")["class"].tolist()
    write_json(arguments.packed / "classes.json", names)


if __name__ == "__main__":
    run_stage(main)
