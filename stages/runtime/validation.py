"""Validate the content of a file with pydantic, and turn its errors into a few words."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from stages.runtime.errors import UserError

Content = TypeVar("Content")


def read_json(path: Path, kind: type[Content], expected: str, remedy: str) -> Content:
    """Read a JSON file that a person may have taken from elsewhere.

    Args:
        kind: pydantic model or dataclass of the content.
        expected, remedy: parts of the error message.
    Raises:
        UserError: the file is truncated, or another version wrote it.
    """
    try:
        return TypeAdapter(kind).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        fault = describe_faults(error)
    except ValueError as error:
        fault = f"invalid JSON ({error})"
    raise UserError(f"{path}: expected {expected}, as this version of Quintet writes them, found {fault}; {remedy}")


def describe_faults(error: ValidationError) -> str:
    """Return one line with each key and what is wrong with it."""
    faults = []
    for each in error.errors(include_url=False):
        key = ".".join(map(str, each["loc"]))
        faults.append(f"{key}: {_describe(each)}" if key else _describe(each))
    return "; ".join(faults)


def _describe(fault: Any) -> str:
    if fault["type"] == "missing":
        return "missing key"
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return "unknown key"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    return f"{fault['msg'][0].lower()}{fault['msg'][1:]}, found {fault['input']!r:.60}"
