"""Download Oxford 102 Flowers, and arrange it as one folder a class.

    python -m stages.download IMAGES

Source: Nilsback and Zisserman 2008, fetched by torchvision.datasets.Flowers102.
"""

import argparse
import shutil
from pathlib import Path

from stages.runtime.errors import UserError
from stages.runtime.files import unfinished
from stages.runtime.process import REMEDIES, run_stage


def download_flowers(root: Path) -> list[tuple[Path, str]]:
    """Download the 8,189 images below `root`; return each one's path and its class's folder name.

    The three official splits are joined: the stage `split` makes its own.

    Raises:
        UserError: the download failed.
        OSError: the disk is full, or not to be written to.
    """
    from torchvision.datasets import Flowers102

    images = []
    for split in ("train", "val", "test"):
        try:
            flowers = Flowers102(root, split, download=True, loader=Path)  # each item is (path, label)
        except (OSError, RuntimeError) as error:  # no network, or a wrong checksum
            if isinstance(error, OSError) and error.errno in REMEDIES:
                raise
            raise UserError(
                f"Oxford 102 Flowers: the download failed ({error}); set `images` to data/flowers/images, which needs "
                "no network, or to a folder of your own"
            ) from None
        images += [(path, f"{label + 1:03d} {flowers.classes[label].strip('?')}") for path, label in flowers]
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder to make")
    folder = parser.parse_args().images
    if folder.exists():  # DVC removes an older one: to replace a folder is not for us to decide
        raise UserError(f"{folder}: expected no such folder, found one; remove it, or name another")
    temporary = unfinished(folder)
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed download left
    temporary.mkdir(parents=True)
    try:
        arranged = temporary / "arranged"
        for path, class_folder in download_flowers(temporary):
            (arranged / class_folder).mkdir(parents=True, exist_ok=True)
            path.rename(arranged / class_folder / path.name)
        arranged.rename(folder)
    finally:
        shutil.rmtree(temporary)
    print(f"download: Oxford 102 Flowers in {folder}")


if __name__ == "__main__":
    run_stage(main)
