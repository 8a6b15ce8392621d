"""Decode and resize every image of the manifest once: an array for each split, and the class names.

python -m stages.pack MANIFEST IMAGES PACKED [--params PATH]
"""

import argparse
from pathlib import Path

import pandas as pd

from stages.pixels.packed_splits import SPLITS
from stages.pixels.packing import write_packed_split
from stages.runtime.files import write_json
from stages.runtime.process import run_stage
from stages.settings.reading import read_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("manifest", "images", "packed"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--params", type=Path, default="params.yaml")
    arguments = parser.parse_args()
    size_px = read_params(arguments.params).pack.stored_size_px

    texts = dict.fromkeys(("path", "class", "split", "sha256"), str)  # "007"; and no class is called NaN
    manifest = pd.read_csv(arguments.manifest, keep_default_na=False, dtype=texts)
    for split in SPLITS:
        rows = manifest[manifest["split"] == split]
        paths = [arguments.images / path for path in rows["path"]]
        write_packed_split(arguments.packed / split, paths, rows["label"].tolist(), rows["sha256"].tolist(), size_px)
        print(f"pack: {len(rows)} {split} images at {size_px} px")
    names = manifest.drop_duplicates("label").sort_values("label")["class"].tolist()
    write_json(arguments.packed / "classes.json", names)


if __name__ == "__main__":
    run_stage(main)
