"""A YAML file in; what it says, and which of its keys stand there twice, out; or the line where it is no YAML."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from stages.runtime.errors import UserError
from stages.settings.wording import show_key

TEXT, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, whose every complaint is a YAMLError that knows its line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):  # "2024-13-45", "!!int x", 5,000 digits
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(None, None, f"no {kind}", node.start_mark) from None


def read_yaml(path: Path) -> tuple[Any, list[str]]:
    """Return what the file says, each key as the text that it is written as, and which keys stand there twice."""
    text = _read_text(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, []
        twins = list(_check_keys(node, "", set()))
        return loader.construct_document(node), twins
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not a YAML file: {_say_where(error, text)}") from None
    except RecursionError:
        raise UserError(f"{path}: not a YAML file: its brackets are nested too deeply; close them") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file; run from the repository's root") from None
    except IsADirectoryError:
        raise UserError(f"{path}: expected a file, found a folder; run from the repository's root") from None
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} (0x{error.object[error.start]:02x})"
        raise UserError(f"{path}: not a YAML file: {byte} is not UTF-8; save it as UTF-8") from None


def _say_where(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: {text[error.position]!r} is a character that YAML does not allow"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        line, column = error.problem_mark.line + 1, error.problem_mark.column + 1
        said = f"line {line}, column {column}: {error.context or ''} {error.problem}"
        return " ".join(said.split())
    return " ".join(str(error).split())


def _check_keys(node: yaml.Node, prefix: str, seen: set[int]) -> Iterator[str]:
    """Say which keys stand in a mapping more than once: PyYAML would silently take the last.

    Every key becomes the text that it is written as: `on`, `no` and `1` would be true, false and a number.
    """
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _check_keys(item, f"{prefix}{index}.", seen)
        return
    lines = defaultdict(list)
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            key.tag = key.tag if key.tag == MERGE else TEXT
            lines[show_key(key.value)].append(key.start_mark.line + 1)
            yield from _check_keys(value, f"{prefix}{show_key(key.value)}.", seen)
    for name, places in lines.items():
        if len(places) > 1:
            *first, last = map(str, places)
            yield f"{prefix}{name}: stands there {len(places)} times, in lines {', '.join(first)} and {last}; keep one"
