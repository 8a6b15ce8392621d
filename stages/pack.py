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

    manifest = pd.read_csv(arguments.manifest, keep_default_na=False, dtype={"path": str, "class": str})
    for split in SPLITS:
        its = manifest[manifest["split"] == split]
        paths = [f"{arguments.images}/{path}" for path in its["path"]]
        write_packed_split(arguments.packed / split, paths, its["label"].tolist(), its["sha256"].tolist(), size_px)
        print(f"pack: {len(its)} {split} images at {size_px} px")
    names = manifest.drop_duplicates("label").sort_values("label")["class"]
    write_json(arguments.packed / "classes.json", names.tolist())


if __name__ == "__main__":
    run_stage(main)
