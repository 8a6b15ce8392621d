"""What a file of weights has learnt from: the file says what it started from, and that file says the same of itself."""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from stages.runtime.errors import UserError

MEMBERS = Path("data/models")  # which the models of the pipeline itself are written into
MOST_SHARED = (
    0.5  # of the classes of a folder, by name: a model with more of them has most likely learnt from its labels
)
START = re.compile(r"(.+) \(sha256 ([0-9a-f]{16})\)")


class Ancestor(NamedTuple):
    """A file of weights, or what it started from, and what it says of itself: a ModelCard's fields, or an Origin's."""

    path: Path
    says: dict[str, Any]


def trace_back(path: Path) -> Iterator[Ancestor]:
    """Yield a file of weights, what it started from, and so on, as far as the files tell.

    Raises:
        UserError: a file is no safetensors, or what it started from is no longer there.
    """
    digest = ""
    while True:
        says = _read_words(path, digest)
        yield Ancestor(path, says)
        start = START.fullmatch(str(says.get("start", "")))
        if not start or not (start[1].endswith(".safetensors") or Path(start[1]).is_file()):
            return  # from scratch, or from weights that name their source
        path, digest = Path(start[1]), start[2]


def _read_words(path: Path, digest: str) -> dict[str, Any]:
    """Return what a file says of itself.

    Args:
        digest: with which its sha256 has to begin.
    """
    try:
        content = path.read_bytes() if digest else b""
        with safe_open(path, framework="np") as file:
            words = dict(json.loads((file.metadata() or {}).get("quintet", "{}")))
    except (OSError, SafetensorError):
        raise UserError(f"{path}: expected a safetensors file, but it cannot be read; choose other weights") from None
    except (ValueError, TypeError):
        raise UserError(f"{path}: expected JSON in the metadata key `quintet`; choose other weights") from None
    if digest and not hashlib.sha256(content).hexdigest().startswith(digest):
        raise UserError(
            f"{path}: expected weights whose sha256 begins with {digest}, from which others started, found another; "
            "choose weights whose start is still there"
        )
    return words


def refuse_taught(path: Path, class_names: Collection[str]) -> None:
    """Refuse weights that have learnt from the labels of an image folder, or started from such.

    What says nothing of itself, as weights from elsewhere, is taken.

    Args:
        class_names: of the folder.
    Raises:
        UserError: they have, or what they started from is no longer there to be asked.
    """
    wanted = f"{path}: expected weights that did not learn from the labels of this folder, which may be wrong"
    remedy = "choose others (data/weights/source/ or data/weights/packaged/)"
    for ancestor in trace_back(path):
        by_itself = "" if ancestor.path == path else f"that it started from {ancestor.path}, and "
        if is_member(ancestor.path):
            raise UserError(f"{wanted}, found {by_itself}that they are of {MEMBERS}; {remedy}")
        known = ancestor.says.get("class_names")
        shared = len({*class_names}.intersection(map(str, known if isinstance(known, list) else ())))
        if shared > MOST_SHARED * len(class_names):
            raise UserError(f"{wanted}, found {by_itself}that they tell {shared} of its classes apart; {remedy}")


def is_member(path: Path) -> bool:
    """Tell whether a file is, or leads to, one in data/models."""
    places = (os.path.abspath(path), os.path.realpath(path))  # noqa: PTH100 (pathlib's follows links)
    return any(Path(place).is_relative_to(os.path.abspath(MEMBERS)) for place in places)  # noqa: PTH100
