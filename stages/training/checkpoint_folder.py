"""Where checkpoints are kept: in one folder of DVC's cache directory, which all copies of the repository share.

DVC runs a queued experiment in a copy that has the cache of the repository itself, and that a second start does not
use again. A finished training's checkpoint, by then its weights and history alone, stays until DVC has the model in its
cache: whoever is killed in between does not train again.
"""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

DVC = Path(".dvc")
FEATURES = "features"  # a folder in that of the checkpoints
KEPT_DAYS = 7  # what nobody has resumed for so long is given up


def find_folder(model_file: Path) -> Path:
    """Return the folder of the checkpoints; where there is no DVC, that of the model that is trained.

    Source: DVC's configuration of the repository, the user and the system.
    """
    if not DVC.is_dir():
        return model_file.parent
    from dvc.config import Config

    return Path(Config(dvc_dir=os.fspath(DVC.absolute())).get("cache", {}).get("dir") or DVC / "cache") / "checkpoints"


def mark_finished(checkpoint: Path, model_file: Path) -> None:
    """Name a checkpoint after the model that its training became, too; outside DVC, remove it."""
    if "DVC_STAGE" in os.environ:
        with model_file.open("rb") as file:
            model = hashlib.file_digest(file, "md5").hexdigest()  # as DVC names it
        checkpoint.replace(checkpoint.with_name(f"{checkpoint.name.partition('.')[0]}.{model}.checkpoint"))
    else:
        checkpoint.unlink(missing_ok=True)


def clean(folder: Path) -> None:
    """Remove the checkpoints of models that DVC has in its cache, and those that nobody has resumed for KEPT_DAYS.

    What a process is working on stays, whatever its age: it holds the lock.
    """
    oldest = time.time() - KEPT_DAYS * 24 * 60 * 60
    for path in [*folder.glob("*.checkpoint"), *folder.glob("*.lock")]:
        fingerprint, *model = path.name.split(".")[:-1]
        with suppress(FileNotFoundError, Timeout):  # another process removed it, or works on it
            if (model and is_cached(folder.parent, model[0])) or path.stat().st_mtime < oldest:
                lock = folder / f"{fingerprint}.lock"
                with FileLock(lock, blocking=False):
                    path.unlink(missing_ok=True)
                    lock.unlink()


def is_cached(cache: Path, md5: str) -> bool:
    """Say whether DVC 3 has a file in its cache."""
    return (cache / "files" / "md5" / md5[:2] / md5[2:]).exists()
