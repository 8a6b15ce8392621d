"""Decode and resize all images of the manifest for one image size: one array per split, and the class names.

    python -m stages.pack MANIFEST IMAGE_SIZE_PX PACKED [--params PATH]

Networks of all sizes see the same part of a picture, because the margin around it is a share of the size.
"""

import argparse
import csv
from pathlib import Path

from stages.pixels.packed_splits import SPLITS
from stages.pixels.packing import write_groups, write_packed_split
from stages.runtime.files import write_json
from stages.runtime.process import run_stage
from stages.settings.reading import read_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("image_size_px", type=int)
    parser.add_argument("packed", type=Path)
    parser.add_argument("--params", type=Path, default="params.yaml")
    arguments = parser.parse_args()
    recipe = read_params(arguments.params)
    size_px = recipe.pack.stored_size_px(arguments.image_size_px)

    columns = {split: ([], [], [], []) for split in SPLITS}
    names, grey_bits = {}, None
    with arguments.manifest.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            paths, labels, sha256, groups = columns[row["split"]]
            paths.append(f"{recipe.images}/{row['path']}")
            labels.append(int(row["label"]))
            sha256.append(row["sha256"])
            groups.append(row["group"])
            names[labels[-1]] = row["class"]
            grey_bits = int(row["grey_bits"]) if "grey_bits" in row else None
    for split, (*its, groups) in columns.items():
        write_packed_split(arguments.packed / split, *its, size_px, grey_bits)
        write_groups(arguments.packed / split, groups)
        print(f"pack: {len(groups)} {split} images at {size_px} px")
    write_json(arguments.packed / "classes.json", [names[label] for label in sorted(names)])


if __name__ == "__main__":
    run_stage(main)
