"""Where checkpoints lie: in one folder of DVC's cache directory, which all copies of the repository share.

DVC runs a queued experiment in a copy that has the cache of the repository itself, and that a second start does not
use again. Nor does it keep a training in its run cache, since the history, which is in git, is no cached output. So the
note of a finished training stays here: its history, and which of DVC's objects its model is. The weights themselves go
as soon as a later stage reads the model, for DVC has them by then.
"""

import hashlib
import json
import os
import time
from configparser import ConfigParser
from contextlib import suppress
from pathlib import Path
from typing import Any

from stages.runtime.files import write_json

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


def note_finished(checkpoint: Path, position: dict[str, Any], model_file: Path) -> None:
    """Write down which model a training became; outside DVC, remove its checkpoint."""
    if "DVC_STAGE" in os.environ:
        write_json(checkpoint.with_suffix(f".{_hash(model_file)}.finished"), position)
    else:
        checkpoint.unlink(missing_ok=True)


def find_finished(checkpoint: Path) -> tuple[dict[str, Any], Path] | None:
    """Return how far a finished training came, and DVC's object that is its model, where DVC still has it."""
    for note in checkpoint.parent.glob(f"{checkpoint.stem}.*.finished"):
        digest = note.suffixes[-2][1:]
        model = checkpoint.parent.parent / "files/md5" / digest[:2] / digest[2:]
        if model.exists():
            return json.loads(note.read_text(encoding="utf-8")), model
    return None


def forget_weights(model_file: Path) -> None:
    """Remove the checkpoint of a model that a stage reads which DVC runs: DVC has the model in its cache by then."""
    if "DVC_STAGE" in os.environ:
        folder = find_folder(model_file)
        for note in folder.glob(f"*.{_hash(model_file)}.finished"):
            folder.joinpath(note.name.partition(".")[0] + ".checkpoint").unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what nobody has touched for KEPT_DAYS."""
    oldest = time.time() - KEPT_DAYS * 24 * 60 * 60
    for path in [*folder.glob("*.checkpoint"), *folder.glob("*.finished"), *folder.glob("*.lock")]:
        with suppress(FileNotFoundError):  # another process did
            if path.stat().st_mtime < oldest:
                path.unlink()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()  # by which DVC names its objects
