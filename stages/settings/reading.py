"""Reads a parameter file into its type; every mistake in it is named by its full key, one line each.

A stage that reads the whole file uses only the keys that dvc.yaml lists for it.
"""

import difflib
import re
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML, YAMLError

from stages.models import list_architectures, load_architecture
from stages.runtime.errors import UserError
from stages.settings.types import DrawnSet, ModelSettings, Recipe, Section


def read_params(path: Path | str = "params.yaml") -> Recipe | DrawnSet:
    """Read and check a whole parameter file.

    Returns:
        The frozen parameters; `models[name]` is of `block_type(architecture)`, with the defaults of `training` in it.
    Raises:
        UserError: the file is missing or no YAML, or a key is unknown, missing, there twice, of the wrong type or
            senseless; an argument for each such key.
    """
    values = _read_yaml(Path(path))
    if values.keys() == {"draw"}:
        return _check(DrawnSet, values, f"{path}: ")
    training, blocks = values.get("training"), values.get("models")
    problems: list[str] = []
    if isinstance(blocks, dict):
        values["models"] = {}
        for name, block in blocks.items() if isinstance(training, dict) else ():
            try:
                values["models"][name] = _read_model(name, block, training)
            except UserError as error:
                problems += (f"{path}: {line}" for line in error.args)
    try:
        recipe = _check(Recipe, values, f"{path}: ")
    except UserError as error:  # that no model is left has been said already
        problems += (line for line in error.args if not (blocks and line.startswith(f"{path}: models:")))
    if problems:
        raise UserError(*dict.fromkeys(problems))
    return recipe


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the repository's root") from None
    except (YAMLError, ValueError, TypeError, LookupError, RecursionError) as error:  # not all are its own
        said = str(error).partition("To suppress this check")[0]
        raise UserError(f"{path}: not a YAML file: {' '.join(said.split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of parameters, found {values!r:.100}")
    return values


@cache
def block_type(architecture: str) -> type[ModelSettings]:
    """Return the type of a model's block: how it is trained, and the Arguments of its architecture's file."""
    arguments = load_architecture(architecture).Arguments
    return type(architecture, (arguments, ModelSettings), {"__module__": __name__})


def _read_model(name: str, block: Any, training: dict[str, Any]) -> ModelSettings:
    where = f"models.{name}"
    if not isinstance(block, dict):
        raise UserError(f"{where}: expected a block with architecture, weights, lr, found {block!r:.100}")
    architecture = block.get("architecture")
    if architecture not in list_architectures():
        known = ", ".join(list_architectures())
        raise UserError(f"{where}.architecture: expected one of {known}, found {architecture!r:.100}")
    try:
        return _check(block_type(architecture), {**training, **block}, "")
    except UserError as error:
        of_training = (training.keys() | ModelSettings.model_fields.keys()) - block.keys() - {"weights", "lr"}
        keys = [re.split(r"[.:]", line)[0] for line in error.args]
        places = ["training" if key in of_training else where for key in keys]
        raise UserError(*(f"{place}.{line}" for place, line in zip(places, error.args, strict=True))) from None


def _check(section: type[Section], values: dict[str, Any], prefix: str) -> Any:
    try:
        return section.model_validate(values)
    except ValidationError as error:
        lines = [prefix + line for each in error.errors(include_url=False) for line in _describe(section, each)]
        raise UserError(*lines) from None


def _describe(section: type[Section], problem: Any) -> list[str]:
    key, said = ".".join(map(str, problem["loc"])), problem["msg"]
    if problem["type"] == "extra_forbidden":
        known = section.model_fields
        for part in problem["loc"][:-1]:
            known = getattr(known.get(part), "annotation", None)
            known = getattr(known, "model_fields", {})
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        return [f"{key}: unknown key{f'; did you mean {close[0]!r}?' if close else ''}"]
    if problem["type"] == "missing":
        return [f"{key}: missing key"]
    if problem["type"] == "value_error":
        lines = problem["ctx"]["error"].args
        return [f"{key}: {line}" if key else str(line) for line in lines]
    return [f"{key}: {said[0].lower()}{said[1:]}, found {problem['input']!r:.100}"]
