"""All files before training have the same bytes on every processor, so that people can share a cache.

Processors differ in the last bit of exp, cos and similar functions, because numpy, BLAS, glibc and libjpeg-turbo have
faster code for newer ones. This code can be switched off, so that one machine gives the results of an older one.
"""

import hashlib
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from numpy._core import _multiarray_umath as numpy_core

from stages.draw import draw_set
from stages.settings.types import Source
from tests.parameters import write_params
from tests.repository import ROOT

DRAW = """
from pathlib import Path
from stages.draw import list_pictures, save_picture
from stages.settings.types import Flowers, Source

for settings in (
    Flowers(seed=1, min_images=3, n_images=312, size_px=48),
    Source(seed=2, n_classes=40, images_per_class=3, size_px=48),
):
    pictures = list_pictures(settings, Path(type(settings).__name__))
    for picture in pictures:
        picture.path.parent.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        save_picture(picture)
"""
DRAW_CONFUSION = """
from pathlib import Path
import numpy as np
from stages.reporting.confusion_figure import draw_confusion
from stages.scoring.confusion import confusion_frame

labels, predictions = np.random.default_rng(1).integers(0, 40, (2, 500))
frame = confusion_frame(labels, predictions, [f"class {i}" for i in range(40)])
draw_confusion(frame, "a model", Path("confusion.png"))
"""


def _old_processor() -> dict[str, str]:
    """Return an environment in which libraries do not use the faster code for this processor."""
    usable = [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__[name]]
    if not numpy_core.__cpu_features__.get("AVX512F"):
        warnings.warn(f"no AVX-512 here: of numpy's faster code, only {usable} is switched on and off", stacklevel=2)
    return {
        "NPY_DISABLE_CPU_FEATURES": " ".join(usable),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F",
        "OPENBLAS_CORETYPE": "Prescott",
        "JSIMD_FORCENONE": "1",
    }


def _find_differences(folder: Path, *commands: list[str]) -> tuple[int, list[str]]:
    """Run Python commands in separate folders, as this processor and as an old one.

    Returns:
        The number of files that they wrote, and the files that differ.
    """

    def run(name: str, processor: dict[str, str]) -> dict[str, str]:
        (folder / name).mkdir()
        environment = os.environ | {"PYTHONPATH": os.fspath(ROOT)} | processor
        for command in commands:
            subprocess.run([sys.executable, *command], check=True, cwd=folder / name, env=environment)
        return _hashes(folder / name)

    with ThreadPoolExecutor() as pool:
        new, old = pool.map(run, ("new", "old"), ({}, _old_processor()))
    return len(new), [name for name in new if new[name] != old.get(name)]


def _hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "timings.csv")
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_drawn_images_are_the_same_on_an_old_processor(tmp_path):
    assert _find_differences(tmp_path, ["-c", DRAW]) == (312 + 120, [])


@pytest.mark.slow
def test_splits_packs_and_figures_are_the_same_on_an_old_processor(tmp_path):
    draw_set(Source(seed=2, n_classes=6, images_per_class=10, size_px=64), tmp_path / "images")
    write_params(tmp_path / "params.yaml", images="../images")
    split = ["stages.split", "data/manifest.csv", "data/rejected.csv", "metrics"]
    pack = ["stages.pack", "data/manifest.csv", "32", "data/packed/32"]
    params = ["--params", "../params.yaml"]
    n_files, different = _find_differences(
        tmp_path, ["-m", *split, *params], ["-m", *pack, *params], ["-c", DRAW_CONFUSION]
    )
    assert n_files >= 15  # manifest, rejected; dataset, counts, splits, 2 figures; classes, 3 x images and labels; this
    assert different == []
