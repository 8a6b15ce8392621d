"""The folder of the checkpoints: in DVC's cache directory, which all copies of the repository share.

DVC runs a queued experiment in a temporary copy of the repository, with the repository's own cache. A restart uses a
new copy. When a training has finished, its checkpoint contains only weights and history. The checkpoint stays until the
model is in DVC's cache: a process that is killed in between does not train again.
"""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

DVC = Path(".dvc")
FEATURES = "features"  # subfolder of the checkpoint folder
KEPT_DAYS = 7  # checkpoints that were not used for longer are deleted


def find_folder(model_file: Path) -> Path:
    """Return the folder of the checkpoints; without DVC, this is the folder of the model.

    Source: DVC's configuration of the repository, the user and the system.
    """
    if not DVC.is_dir():
        return model_file.parent
    from dvc.config import Config

    return Path(Config(dvc_dir=os.fspath(DVC.absolute())).get("cache", {}).get("dir") or DVC / "cache") / "checkpoints"


def mark_finished(checkpoint: Path, model_file: Path) -> None:
    """Add the hash of the trained model to the name of its checkpoint; outside DVC, delete the checkpoint."""
    if "DVC_STAGE" in os.environ:
        with model_file.open("rb") as file:
            model = hashlib.file_digest(file, "md5").hexdigest()  # DVC's name of the file
        checkpoint.replace(checkpoint.with_name(f"{checkpoint.name.partition('.')[0]}.{model}.checkpoint"))
    else:
        checkpoint.unlink(missing_ok=True)


def clean(folder: Path) -> None:
    """Delete checkpoints whose model is in DVC's cache, and those that no training has used for KEPT_DAYS.

    Checkpoints that a process has locked stay, whatever their age.
    """
    oldest = time.time() - KEPT_DAYS * 24 * 60 * 60
    for path in [*folder.glob("*.checkpoint"), *folder.glob("*.lock")]:
        fingerprint, *model = path.name.split(".")[:-1]
        with suppress(FileNotFoundError, Timeout):  # another process has deleted or locked it
            if (model and is_cached(folder.parent, model[0])) or path.stat().st_mtime < oldest:
                lock = folder / f"{fingerprint}.lock"
                with FileLock(lock, blocking=False):
                    path.unlink(missing_ok=True)
                    lock.unlink()


def is_cached(cache: Path, md5: str) -> bool:
    """Return whether the cache of DVC 3 contains a file."""
    return (cache / "files" / "md5" / md5[:2] / md5[2:]).exists()
