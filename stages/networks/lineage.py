"""Trace the origin of weights: the metadata of a file name its start weights, and so on back to the first file."""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from stages.runtime.errors import UserError

MEMBERS = Path("data/models")  # folder of the pipeline's own models
MOST_SHARED = 0.5  # of a folder's class names: a model with a larger share has probably learnt from its labels
START = re.compile(r"(.+) \(sha256 ([0-9a-f]{16})\)")


class Ancestor(NamedTuple):
    """A file of weights and its metadata: the fields of a ModelCard or of an Origin."""

    path: Path
    says: dict[str, Any]


def trace_back(path: Path) -> Iterator[Ancestor]:
    """Yield a file of weights, its start weights, their start weights and so on, as far as the metadata reach.

    Raises:
        UserError: a file is not safetensors, or start weights no longer exist.
    """
    digest = ""
    while True:
        says = _read_words(path, digest)
        yield Ancestor(path, says)
        start = START.fullmatch(str(says.get("start", "")))
        if not start or not (start[1].endswith(".safetensors") or Path(start[1]).is_file()):
            return  # the start is "scratch", or weights that name their source
        path, digest = Path(start[1]), start[2]


def _read_words(path: Path, digest: str) -> dict[str, Any]:
    """Return the metadata of a file.

    Args:
        digest: expected beginning of its sha256.
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
    """Refuse weights that have learnt from the labels of an image folder, directly or through their start weights.

    Weights without metadata, for example from other projects, are accepted.

    Args:
        class_names: classes of the folder.
    Raises:
        UserError: they have learnt from the labels, or their start weights no longer exist.
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
    """Return whether a file is in data/models, directly or through a link."""
    places = (os.path.abspath(path), os.path.realpath(path))  # noqa: PTH100 (pathlib's follows links)
    return any(Path(place).is_relative_to(os.path.abspath(MEMBERS)) for place in places)  # noqa: PTH100
