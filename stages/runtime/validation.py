"""Turn pydantic's errors about the content of a file into a few words."""

from typing import Any

from pydantic import ValidationError


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
