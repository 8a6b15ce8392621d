"""The parameter file in, a typed and frozen configuration out; every mistake in it is named by its full key.

Every stage reads the whole file, so that a mistake anywhere is found before any work. A stage uses only
the keys that dvc.yaml lists for it.
"""

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from stages.runtime.errors import UserError
from stages.settings.misfits import find_misfits
from stages.settings.types import (
    CnnSettings,
    Config,
    FineTuneSettings,
    ModelSettings,
    OtherSettings,
    ReportedSettings,
    Section,
    VggFineTuneSettings,
    VggSettings,
)
from stages.settings.wording import describe, nearest, show, show_key
from stages.settings.yaml_files import read_yaml

_SETTINGS: dict[str, type[ModelSettings]] = {
    "cnn": CnnSettings,
    "vgg16": VggSettings,
    "resnet50": ModelSettings,
    "vgg19_pretrained": VggFineTuneSettings,
    "resnet50_pretrained": FineTuneSettings,
}


class Inspected(NamedTuple):
    """What was found in the parameters."""

    config: Config | None  # None if there is any problem
    blocks: dict[str, Any]  # the fields of Config that are right by themselves
    problems: list[str]  # a line each


def inspect_values(values: dict) -> Inspected:
    """Check the whole of the parameters, and go on where something is wrong."""
    problems: list[str] = []
    models = values.get("models")
    if isinstance(models, dict):
        named = {show_key(key): settings for key, settings in models.items()}
        values = {**values, "models": {name: _check_model(name, named[name], problems) for name in named}}
    blocks: dict[str, Any] = {}
    config = _check(Config, values, problems, context=blocks)
    problems += find_misfits(blocks)
    return Inspected(None if problems else config, blocks, problems)


def inspect_file(path: Path | str = "params.yaml") -> Inspected:
    """Read and check the whole parameter file, and go on where something is wrong; the problems begin with the file.

    Raises:
        UserError: the file is missing, no YAML, or no mapping.
    """
    values, twins = read_yaml(Path(path))
    if not isinstance(values, dict):
        found = "nothing" if values is None else show(values)
        raise UserError(f"{path}: expected a mapping of parameters, found {found}")
    config, blocks, problems = inspect_values(values)
    problems = [f"{path}: {problem}" for problem in (*twins, *problems)]
    return Inspected(None if problems else config, blocks, problems)


def read_config(path: Path | str = "params.yaml") -> Config:
    """Read and check the whole parameter file.

    Returns:
        The frozen configuration; `config.models[name]` is a ModelSettings, or the subclass that fits the name.
    Raises:
        UserError: the file is missing or no YAML, or a key is unknown, missing, there twice, of the wrong type or
            senseless; an argument for each such key, which names it in full.
    """
    inspected = inspect_file(path)
    if inspected.problems:
        raise UserError(*inspected.problems)
    return inspected.config


def _check_model(name: str, settings: Any, problems: list[str]) -> ModelSettings:
    own_files = {path.stem for path in (Path(__file__).parent.parent / "models").glob("[!_]*.py")}
    if name not in _SETTINGS and name not in own_files:
        problems.append(f"models.{name}: unknown model{nearest(name, _SETTINGS)}")
        return ReportedSettings.model_construct()
    model = _check(_SETTINGS.get(name, OtherSettings), settings, problems, prefix=f"models.{name}.")
    return model or ReportedSettings.model_construct()


def _check(section: type[Section], block: Any, problems: list[str], prefix: str = "", context: Any = None) -> Any:
    """Return the section; where the block is wrong, add what is wrong to `problems` and return None."""
    try:
        return section.model_validate(block, context=context)
    except ValidationError as error:
        problems += [describe(section, problem, prefix) for problem in error.errors(include_url=False)]
        return None
