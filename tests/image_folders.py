"""Small image folders for the tests of the room `dataset`, and the stage `split` on them."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import split
from tests.parameters import MISSING, write_params


def picture(number: int, size: tuple[int, int] = (72, 56)) -> Image.Image:
    """Return a picture with large blots of random colours, different for each number."""
    blots = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(blots).resize(size, Image.Resampling.BICUBIC)


def save(folder: Path, *paths: str, first: int = 0) -> None:
    """Save a picture at each path, numbered from the first."""
    for number, path in enumerate(paths, first):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / path)


def touch(folder: Path, *paths: str) -> None:
    """Make empty files."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def run_split(
    folder: Path, test: float = 0.25, *, figures: bool = False, fixes: str | None = None, **changes: object
) -> None:
    """Run the stage on images/ in the folder, without its slow figures; mistakes raise a UserError.

    Args:
        fixes: content of labels_fixed.csv without the header; None: no such file.
    """
    fractions = {"seed": 1, "train": 0.75 - test, "val": 0.25, "test": test}
    write_params(folder / "recipe.yaml", images="images", split=fractions, ensemble=MISSING, **changes)
    table = []
    if fixes is not None:
        (folder / "labels_fixed.csv").write_text(f"file,label\n{fixes}", encoding="utf-8")
        table = ["--fixes", "labels_fixed.csv", "data/fixes.csv"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        outputs = ["data/manifest.csv", "data/rejected.csv", "metrics", "--names", "data/names.json"]
        patch.setattr(sys, "argv", ["split", *outputs, *table, "--params", "recipe.yaml"])
        for name in () if figures else ("draw_class_counts", "draw_samples"):
            patch.setattr(split, name, lambda *_: None)
        split.main()


def read_manifest(folder: Path) -> pd.DataFrame:
    """Return the manifest that the stage wrote, one row per image."""
    return pd.read_csv(folder / "data/manifest.csv", keep_default_na=False, dtype={"class": str})
