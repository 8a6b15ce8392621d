"""Download Oxford 102 Flowers, and arrange it as one folder per class, or by its official split.

    python -m stages.download images|official_split IMAGES

Source: Nilsback and Zisserman 2008, fetched by torchvision.datasets.Flowers102.
"""

import argparse
import http.client
import shutil
import socket
from pathlib import Path

from stages.runtime.errors import UserError
from stages.runtime.files import unfinished
from stages.runtime.process import REMEDIES, run_stage

TIMEOUT_S = 30  # without any data


def download_flowers(root: Path) -> list[tuple[Path, str, str]]:
    """Download the 8,189 images below `root`; return path, official split and class folder of each.

    Complete files are not downloaded again.

    Raises:
        UserError: the download failed.
        OSError: the disk is full or read-only.
    """
    from torchvision.datasets import Flowers102

    socket.setdefaulttimeout(TIMEOUT_S)
    images = []
    for split in ("train", "val", "test"):
        try:
            flowers = Flowers102(root, split, download=True, loader=Path)  # each item is (path, label)
        except (OSError, RuntimeError, http.client.HTTPException) as error:  # no network, or a wrong checksum
            if isinstance(error, OSError) and error.errno in REMEDIES:
                raise
            raise UserError(
                f"Oxford 102 Flowers: the download failed ({error}); try again, or set `images` in params.yaml to "
                "data/flowers/images, which needs no network, or to your own folder"
            ) from None
        images += [(path, split, f"{label + 1:03d} {flowers.classes[label].strip('?')}") for path, label in flowers]
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "form",
        choices=("images", "official_split"),
        help="one folder per class, for `split` to split; or train/, val/ and test/, the split of published scores",
    )
    parser.add_argument("images", type=Path, help="folder to make")
    arguments = parser.parse_args()
    folder = arguments.images
    if folder.exists():  # DVC removes an older one; this command never deletes a folder
        raise UserError(f"{folder}: expected a new folder, but this one exists; delete it, or name another folder")
    root = unfinished(folder)  # stays until all images exist, so that the next run does not download the archive again
    arranged, extracted = root / "arranged", root / "flowers-102" / "jpg"
    for begun in (arranged, extracted):
        shutil.rmtree(begun, ignore_errors=True)
    extracted.parent.mkdir(parents=True, exist_ok=True)
    for path, split, class_folder in download_flowers(root):
        place = arranged / split / class_folder if arguments.form == "official_split" else arranged / class_folder
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)
    arranged.rename(folder)
    shutil.rmtree(root)
    print(f"download: Oxford 102 Flowers in {folder}")


if __name__ == "__main__":
    run_stage(main)
