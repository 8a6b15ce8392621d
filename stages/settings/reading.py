"""Read a parameter file into its type, and report each mistake in one line that starts with its full key.

A stage that reads the whole file uses only the keys that dvc.yaml lists for it.
"""

import difflib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML, YAMLError

from stages.runtime.errors import UserError
from stages.settings.types import DrawnSet, ModelSettings, Network, Recipe, Section, block_type

OF_BLOCKS = {"weights", "image_size_px", "lr"}  # keys that have no default in `training`


def read_params(path: Path | str = "params.yaml") -> Recipe | DrawnSet:
    """Read and check a whole parameter file.

    Returns:
        The frozen parameters; each block of `models` includes the defaults of `training`.
    Raises:
        UserError: the file is missing or not YAML, or a key is unknown, missing, duplicate, of the wrong type or out of
            range; one argument per mistake.
    """
    written = _read_yaml(Path(path))
    values = _fill_blocks(written)
    section = DrawnSet if values.keys() == {"draw"} else Recipe
    try:
        return section.model_validate(values)
    except ValidationError as error:
        lines = [line for each in error.errors(include_url=False) for line in _describe(section, each, written)]
        raise UserError(*dict.fromkeys(f"{path}: {line}" for line in lines)) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the command in the folder of params.yaml") from None
    except (YAMLError, ValueError, TypeError, LookupError, RecursionError) as error:  # ruamel raises many
        said = str(error).partition("To suppress this check")[0]
        raise UserError(f"{path}: expected YAML, found an error: {' '.join(said.split())}; correct the file") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected lines `key: value`, found {values!r:.100}; restore the file from git")
    return values


def _fill_blocks(values: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults of `training` to each block of `models`."""
    training, blocks = values.get("training"), values.get("models")
    if not isinstance(training, dict) or not isinstance(blocks, dict):
        return values
    filled = {name: training | block if isinstance(block, dict) else block for name, block in blocks.items()}
    return values | {"models": filled}


def _describe(section: type[Section], problem: Any, written: dict[str, Any]) -> list[str]:
    """Describe a mistake in lines that start with its full key in the file."""
    keys, kind, fields = list(problem["loc"]), problem["type"], section.model_fields
    if keys[:1] == ["audit"] and len(keys) > 2:
        fields = block_type(keys.pop(1), Network).model_fields
    elif keys[:1] == ["models"] and len(keys) > 3:
        fields = block_type(keys.pop(2)).model_fields
        training, block = written.get("training"), written["models"].get(keys[1], {})
        if not isinstance(training, dict):
            return []  # the mistake is reported for `training`
        if keys[2] in (training.keys() | ModelSettings.model_fields.keys()) - block.keys() - OF_BLOCKS:
            keys[:2] = ["training"]
    else:
        for part in keys[:-1]:
            fields = getattr(getattr(fields.get(part), "annotation", None), "model_fields", {})
    key = ".".join(map(str, keys))
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(str(keys[-1]), fields, n=1)
        return [f"{key}: unknown key{f'; did you mean {close[0]!r}?' if close else ''}"]
    if kind == "missing":
        return [f"{key}: missing key"]
    if kind == "union_tag_not_found":
        return [f"{key}.architecture: missing key"]
    if kind == "union_tag_invalid":
        known, found = problem["ctx"]["expected_tags"], problem["ctx"]["tag"]
        return [f"{key}.architecture: expected one of {known}, found {found!r:.100}"]
    if kind == "value_error":
        return [f"{key}: {line}" if key else str(line) for line in problem["ctx"]["error"].args]
    said = problem["msg"]
    return [f"{key}: {said[0].lower()}{said[1:]}, found {problem['input']!r:.100}"]
