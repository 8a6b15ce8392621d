"""The manifest and the images in; one uint8 array per split, and the class names, out.

python -m stages.pack MANIFEST IMAGES PACKED
"""

import argparse
from pathlib import Path

import pandas as pd

from stages.shared.config import read_config
from stages.shared.files import write_json
from stages.shared.images import SPLITS
from stages.shared.packs import write_pack
from stages.shared.running import run_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("manifest", "images", "packed"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    size_px = read_config().pack.stored_size_px

    columns = ["path", "label", "class", "split"]
    texts = {"class": str}  # "007"; and no class is called NaN
    manifest = pd.read_csv(arguments.manifest, usecols=columns, keep_default_na=False, dtype=texts)
    for split in SPLITS:
        rows = manifest[manifest["split"] == split]
        paths = [arguments.images / path for path in rows["path"]]
        write_pack(arguments.packed / split, paths, rows["label"].tolist(), size_px)
        print(f"pack: {len(rows)} {split} images at {size_px} px")
    names = manifest.drop_duplicates("label").sort_values("label")["class"].tolist()
    write_json(arguments.packed / "classes.json", names)


if __name__ == "__main__":
    run_stage(main)
