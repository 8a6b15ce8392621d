"""A wrong value in; words for what it is, what is allowed in its place, and what was probably meant, out."""

import datetime
import difflib
import re
import reprlib
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

LONGEST_FOUND = 200  # characters of a message for a value that was found


def nearest(name: Any, names: Iterable[Any]) -> str:
    """Return an ending for a message: the name that was probably meant, or all that there are."""
    known = [str(each) for each in names]
    close = difflib.get_close_matches(str(name)[:100], known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; expected one of: {', '.join(known)}" if known else ""


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlong, self.maxstring, self.maxother = 2, 60, 120, 120


def show(value: Any) -> str:
    """Show a value in one line that is not too long."""
    if isinstance(value, datetime.date):
        return str(value)
    try:
        text = _Short().repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST_FOUND else f"{text[:LONGEST_FOUND]}..."


def show_key(key: Any) -> str:
    """Show a part of a full key: as it is where that can be read, else in quotes."""
    return key if isinstance(key, str) and re.fullmatch(r"[\w-]{1,60}", key) else show(key)


def describe(section: type[BaseModel], problem: Any, prefix: str) -> str:
    """Say in words what pydantic found: the key's full name, what was expected, what was found."""
    loc = problem["loc"]
    full_key = (prefix + ".".join(map(show_key, loc))).rstrip(".")
    if problem["type"] in ("extra_forbidden", "invalid_key"):
        parent, _ = _look_up(section, loc[:-1])
        return f"{full_key}: unknown key{nearest(loc[-1], getattr(parent, 'model_fields', ()))}"
    if problem["type"] == "value_error":
        reason = str(problem["ctx"]["error"])
        return reason if reason.startswith(full_key) else f"{full_key}: {reason}"
    expected = _say_what_is_allowed(*_look_up(section, loc))
    if problem["type"] == "missing":
        return f"{full_key}: missing key; expected {expected}"
    return f"{full_key}: expected {expected}, found {show(problem['input'])}"


def _look_up(section: type[BaseModel], loc: Iterable[Any]) -> tuple[Any, FieldInfo | None]:
    """Return the type, and the field if it is one, that stands at a place in a section."""
    kind, field = section, None
    for part in loc:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(part)
            kind = field.annotation if field else Any
        else:  # an item of a list
            kind, field = get_args(kind)[0], None
    return kind, field


def _say_what_is_allowed(kind: Any, field: FieldInfo | None) -> str:
    if field and field.description:
        return field.description
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"a block with the keys {', '.join(kind.model_fields)}"
    if get_origin(kind) is Literal:
        *others, last = map(repr, get_args(kind))
        return f"{', '.join(others)} or {last}"
    if get_origin(kind) is list:
        return f"a list, each item {_say_what_is_allowed(get_args(kind)[0], None)}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return words[kind] + _say_range(field)


def _say_range(field: FieldInfo | None) -> str:
    limits: dict[str, float] = {}
    for each in field.metadata if field else []:
        limits |= {sign: getattr(each, sign) for sign in ("ge", "gt", "le", "lt") if hasattr(each, sign)}
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "to below" if "ge" in limits else "and below"}
    return "".join(
        f" {words[sign]} {limit if isinstance(limit, int) else f'{limit:g}'}" for sign, limit in limits.items()
    )
