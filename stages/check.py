"""Read parameter files whole before any other stage runs: a mistake in one costs nothing.

    python -m stages.check data/params.checked PARAMS...

Asked is all that can be known before an image is read: also whether the folders and weights that they name are there,
or a stage makes them, and whether each architecture can look at images of that size. The text that is written never
changes, so that an edited parameter reruns only the stages it affects.
"""

import argparse
import itertools
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.runtime.errors import UserError
from stages.runtime.files import write_text
from stages.runtime.process import run_stage
from stages.settings.reading import read_params
from stages.settings.types import Recipe

CHECKED = "every value of the parameter files is right\n"


def find_problems(recipe: Recipe) -> Iterator[str]:
    """Say where values that are right by themselves do not fit the folders and the networks, a line each."""
    images = Path(recipe.images)
    if not images.is_dir() and not is_made(images):
        found = "a file" if images.is_file() else "nothing"
        expected = f"images: expected a folder of images, or one that an input under data/ makes, found {found}"
        yield f"{expected}: {images}{_say_switch(images)}"
    if "ensemble" in recipe.models:
        yield "models.ensemble: expected another name, since the vote is called so in tables; rename the block"
    trained = {Path(f"data/models/{name}.safetensors") for name in recipe.models}
    for name, model in recipe.models.items():
        weights = Path(model.weights)
        if not weights.is_file() and weights not in trained and not is_made(weights):
            yield (
                f"models.{name}.weights: expected a safetensors file, one that an input under data/ makes, or "
                f"data/models/ and a model of this file, found nothing: {weights}{_say_switch(weights)}"
            )
        try:
            model.check(recipe.image_size_px)
        except ValueError as error:
            yield f"models.{name}: {error}"


def is_made(path: Path) -> bool:
    """Say whether DVC makes a path: a .dvc file says so, or it is in an output of an input that is switched on."""
    above = [folder for folder in path.parents if folder != Path() and not path.is_absolute()]
    tracked = any(Path(f"{each}.dvc").is_file() for each in (path, *above))
    outputs = [output for folder in above for output in _list_outputs(folder)]
    return tracked or any(fnmatch(each, output) for each in (path, *above) for output in outputs)


def _list_outputs(folder: Path) -> Iterator[str]:
    """Yield what the stages of a folder's dvc.yaml make, for each item of a `foreach`; unknown parts are stars."""
    pipeline, params = (_read(folder / name) for name in ("dvc.yaml", "params.yaml"))
    for stage in pipeline.get("stages", {}).values():
        items, body = stage.get("foreach", "*"), stage.get("do", stage)
        if isinstance(items, str):
            items = params.get(items.strip("${}"), "*")
        for item, output in itertools.product(items, body.get("outs", ())):
            name = re.sub(r"\$\{(item|key)\}", str(item), output if isinstance(output, str) else next(iter(output)))
            yield os.path.normpath(folder / body.get("wdir", "") / re.sub(r"\$\{.*?\}", "*", name))


def _read(path: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(path) if path.is_file() else {}


def _say_switch(path: Path) -> str:
    """Say how to switch on what would make a path: inputs that need a network are listed in a params.yaml beside it."""
    switch, name = path.parent / "params.yaml", path.name.removesuffix(".safetensors")
    for key, listed in _read(switch).items():
        if isinstance(listed, list) and name not in listed:
            return f"; add {name} to `{key}` in {switch}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checked", type=Path, help="is written if all is right")
    parser.add_argument("params", type=Path, nargs="+", help="the pipeline's own, then those of its inputs")
    arguments = parser.parse_args()
    problems = []
    for number, path in enumerate(arguments.params):
        try:
            params = read_params(path)
        except UserError as error:
            problems += error.args
            continue
        if isinstance(params, Recipe):
            problems += [f"{path}: {problem}" for problem in find_problems(params)]
        if number == 0 and not getattr(params, "ensemble", None):
            problems.append(f"{path}: ensemble: missing key; expected the models' vote in the first file")
    if problems:
        raise UserError(*problems)
    write_text(arguments.checked, CHECKED)


if __name__ == "__main__":
    run_stage(main)
