"""Where checkpoints lie: in one folder of DVC's cache directory, which all copies of the repository share.

DVC runs a queued experiment in a copy that has the cache of the repository itself, and that a second start does not
use again. A finished training's checkpoint, by then its weights and history alone, stays until a later stage reads the
model: DVC has it by then, in its cache and in its run cache.
"""

import hashlib
import os
import time
from configparser import ConfigParser
from contextlib import suppress
from pathlib import Path

DVC = Path(".dvc")
KEPT_DAYS = 7  # what nobody has gone on with for so long is given up


def find_folder(model_file: Path) -> Path:
    """Return the folder of the checkpoints; where there is no DVC, that of the model that is trained.

    Source: DVC's files of configuration, of which the second one wins; `cache.dir` is relative to their folder.
    """
    if not DVC.is_dir():
        return model_file.parent
    config = ConfigParser(interpolation=None, strict=False)
    config.read([DVC / "config", DVC / "config.local"], encoding="utf-8")
    return DVC / config.get("cache", "dir", fallback="cache").strip("\"'") / "checkpoints"


def mark_finished(checkpoint: Path, model_file: Path) -> None:
    """Name a checkpoint after the model that its training became, too; outside DVC, remove it."""
    if "DVC_STAGE" in os.environ:
        fingerprint = checkpoint.name.partition(".")[0]
        checkpoint.replace(checkpoint.with_name(f"{fingerprint}.{_hash(model_file)}.checkpoint"))
    else:
        checkpoint.unlink(missing_ok=True)


def forget_finished(model_file: Path) -> None:
    """Remove the checkpoint of a model that a stage reads which DVC runs: DVC has the model by then."""
    if "DVC_STAGE" in os.environ:
        for path in find_folder(model_file).glob(f"*.{_hash(model_file)}.checkpoint"):
            path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what nobody has touched for KEPT_DAYS."""
    oldest = time.time() - KEPT_DAYS * 24 * 60 * 60
    for path in [*folder.glob("*.checkpoint"), *folder.glob("*.lock")]:
        with suppress(FileNotFoundError):  # another process did
            if path.stat().st_mtime < oldest:
                path.unlink()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
