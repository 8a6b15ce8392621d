"""A folder of images in, its list of images with their classes out; and one decoded image at a time."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from stages.shared.errors import UserError

SPLITS = ("train", "val", "test")
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class FoundImage:
    """An image of the folder: its path in it, its class folder's name, and the split if the folder gives one."""

    path: str
    class_folder: str
    split: str | None


def find_images(folder: Path) -> list[FoundImage]:
    """List the images of `<class>/*` or of `train|val|test/<class>/*`, sorted by path.

    Raises:
        UserError: no folder, no class folder, fewer than two classes, or only some of train/, val/, test/.
    """
    if not folder.is_dir():
        raise UserError(
            f"images: {folder}: no such folder; expected one folder a class, or train/, val/, test/ of such"
        )
    tops = _subfolders(folder)
    given = [top.name for top in tops if top.name in SPLITS]
    if given and len(given) == len(tops):
        if missing := [split for split in SPLITS if split not in given]:
            raise UserError(f"images: {folder}: found {', '.join(given)}/, but no {', '.join(missing)}/; add it")
        found = [image for top in tops for image in _class_images(folder, _subfolders(top), top.name)]
    else:
        found = _class_images(folder, tops, None)
    classes = {image.class_folder for image in found}
    if len(classes) < 2:
        raise UserError(f"images: {folder}: expected a folder for each of two classes or more, found {len(classes)}")
    return sorted(found, key=lambda image: image.path)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _class_images(folder: Path, class_folders: list[Path], split: str | None) -> list[FoundImage]:
    found = []
    for class_folder in class_folders:
        files = [
            path for path in class_folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        ]
        if not files:
            raise UserError(f"images: {class_folder}: no image ({' '.join(sorted(SUFFIXES))}); add some or remove it")
        found += [FoundImage(path.relative_to(folder).as_posix(), class_folder.name, split) for path in files]
    return found


def read_class_names(folder: Path, class_folders: list[str]) -> list[str]:
    """Return a name for each class folder: the lines of `classes.txt` where there is one, else the folders' names.

    Raises:
        UserError: `classes.txt` has another number of lines than there are classes, or a name twice.
    """
    path = folder / "classes.txt"
    if not path.is_file():
        return class_folders
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not in UTF-8 ({error}); save it as UTF-8") from None
    if len(names) != len(class_folders):
        raise UserError(
            f"{path}: {len(names)} names, but {folder} has {len(class_folders)} classes; "
            "expected one name a line, in the sorted order of the class folders"
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{path}: {twice[0]!r} stands there twice; every class needs a name of its own")
    return names


def hash_file(path: Path) -> str:
    """Return the sha256 of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_image(path: Path, size_px: int) -> np.ndarray:
    """Decode an image, centre-crop it to a square and resize it.

    Returns:
        uint8, shape (size_px, size_px, 3), RGB.
    Raises:
        UserError: the file is no image, or a damaged one.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * size_px, 2 * size_px))  # lets a large JPEG decode at a fraction of its size
            upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):  # Pillow would clip 16-bit grey at 255: all white
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        if upright.has_transparency_data:  # the colour under transparent pixels is arbitrary
            white = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(white, upright.convert("RGBA"))
        upright = upright.convert("RGB")
        return np.asarray(ImageOps.fit(upright, (size_px, size_px), Image.Resampling.BICUBIC))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a readable image ({error}); mend or remove it") from None
