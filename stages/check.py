"""Check the parameter files before any other stage runs, so that a mistake costs no time.

    python -m stages.check data/params.checked PARAMS...

It checks everything that can be known without reading an image, for example whether folders and weights exist or DVC
can make them, and whether each architecture accepts its image size. Its output never changes, so a changed parameter
reruns only the stages that use it.
"""

import argparse
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import yaml
from dvc.exceptions import CyclicGraphError, DvcException
from dvc.repo import Repo

from stages.models import load_architecture
from stages.networks.lineage import MEMBERS
from stages.runtime.errors import UserError
from stages.runtime.files import write_text
from stages.runtime.process import run_stage
from stages.settings.reading import read_params
from stages.settings.types import SCRATCH, Network, Recipe

CHECKED = "every value of the parameter files is right\n"


def list_outputs() -> tuple[set[Path], set[Path]]:
    """Return the absolute paths of all files and folders that DVC makes or tracks with the current parameters.

    Returns:
        All paths; and the paths of the stage `audit` and of all stages that it depends on.
    Raises:
        UserError: DVC cannot read its files, or a stage would need its own output, for example if two models start
            from each other.
    """
    try:
        with Repo() as repo:
            repo.index.check_graph()
            needed = [out for stage in repo.stage.collect("audit", with_deps=True) for out in stage.outs]
            return tuple({Path(out.fs_path) for out in outs} for outs in (repo.index.outs, needed))
    except CyclicGraphError as error:
        raise UserError(
            f"images or weights: expected paths without a cycle, but a stage would need its own output ({error}); name "
            "other paths"
        ) from None
    except DvcException as error:
        raise UserError(f"dvc: {error}") from None


def find_problems(recipe: Recipe, outputs: set[Path]) -> Iterator[str]:
    """Yield a line for each valid value that does not fit the folders or the networks."""
    images = Path(recipe.images)
    if not images.is_dir() and not _is_made(images, outputs):
        found = "a file" if images.is_file() else "nothing"
        expected = f"images: expected a folder of images, or the output of an input pipeline under data/, found {found}"
        is_copy = "DVC_EXP_NAME" in os.environ and not images.is_absolute()
        remedy = (
            "; queued experiments run in a copy of the repository: give the absolute path, or run `dvc add` on the "
            "folder" * is_copy
        )
        yield f"{expected}: {images}{_say_switch(images)}{remedy}"
    if "ensemble" in recipe.models:
        yield "models.ensemble: this name is reserved for the ensemble; rename the block"
    for name, block in recipe.networks().items():
        weights = Path(block.weights)
        if not weights.is_file() and not _is_made(weights, outputs):
            yield (
                f"{name}.weights: expected a safetensors file, or one that a stage makes "
                "(data/models/NAME.safetensors, or the output of an input pipeline), found nothing at "
                f"{weights}{_say_switch(weights)}"
            )
        try:
            block.check(block.image_size_px)
        except ValueError as error:
            yield f"{name}: {error}"
        else:
            yield from _find_wrong_layers(name, block)


def _find_wrong_layers(name: str, block: Network) -> Iterator[str]:
    if not (layers := getattr(block, "frozen_layers", ())):
        return  # without building a network or importing torch
    import torch

    with torch.device("meta"):  # no memory for the weights
        network = load_architecture(block.architecture).build_model(2, block.image_size_px, **block.arguments())
    known = {layer for layer, _ in network.backbone.named_modules()}
    for layer in layers:
        if layer not in known:
            parts = ", ".join(layer for layer, _ in network.backbone.named_children())
            yield (
                f"{name}.frozen_layers: expected parts of the backbone ({parts}) or parts of these, as in "
                f"layer1.0, found {layer!r}"
            )


def find_taught(recipe: Recipe, needed: set[Path], inputs: dict[Path, Recipe]) -> Iterator[str]:
    """Yield a line if the network of the audit would have learnt from the labels that it has to judge.

    The metadata of other weights are checked by the stage `audit` itself.

    Args:
        needed: paths that the audit depends on, as from `list_outputs`.
        inputs: the other parameter files for training.
    """
    weights, wanted = recipe.audit.weights, "audit.weights: expected weights that did not learn from these labels"
    learnt = [path for path in needed if path.suffix == ".safetensors" and MEMBERS.absolute() in path.parents]
    learnt += [
        path / "models"
        for path in (file.parent for file, each in inputs.items() if Path(each.images) == Path(recipe.images))
        if any((path / "models").absolute() in each.parents for each in needed)
    ]
    if learnt:
        yield f"{wanted}, found {weights}, which is {_name(min(learnt))} or starts from it; choose other weights"
    elif Path(weights).name == SCRATCH:
        yield f"{wanted} but from others, found {weights}; choose a network of data/weights/source/models/"


def _name(path: Path) -> str:
    """Return a path relative to the working directory."""
    return path.absolute().relative_to(Path.cwd()).as_posix()


def find_strays(recipe: Recipe, outputs: set[Path]) -> Iterator[str]:
    """Yield a line for images and weights that `dvc exp run` would commit to git with the experiment.

    It adds all dependencies of stages in the repository that DVC does not track and git does not ignore.
    """
    weights = {f"{name}.weights": block.weights for name, block in recipe.networks().items()}
    for key, path in {"images": recipe.images, **weights}.items():
        if not (_is_made(Path(path), outputs) or Path(path).is_symlink()) and _list_strays(path):
            yield (
                f"{key}: {path} is in this repository, but git does not ignore it and DVC does not track it: `dvc exp "
                "run` commits its files to git; first move it into data/, which git ignores, or out of the repository, "
                f"or run `dvc add {path}`"
            )


def _list_strays(path: str) -> str:
    """Return the untracked files at a path; "" outside a git repository."""
    listing = ["ls-files", "--others", "--exclude-standard", "--directory", "--no-empty-directory"]
    command = ["git", "--literal-pathspecs", *listing, "--", path]
    with suppress(FileNotFoundError):  # without git there are no experiments
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return ""


def _is_made(path: Path, outputs: set[Path]) -> bool:
    return not outputs.isdisjoint([path.absolute(), *path.absolute().parents])


def _say_switch(path: Path) -> str:
    """Return how to switch on the input that makes a path: a params.yaml beside it lists inputs that need a network."""
    switch, name = path.parent / "params.yaml", path.name.removesuffix(".safetensors")
    for key, listed in (yaml.safe_load(switch.read_bytes()) if switch.is_file() else {}).items():
        if isinstance(listed, list) and name not in listed and all(isinstance(each, str) for each in listed):
            return f"; add {name} to `{key}` in {switch}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checked", type=Path, help="file to write if all parameters are right")
    parser.add_argument("params", type=Path, nargs="+", help="params.yaml, then the parameter files of the inputs")
    arguments = parser.parse_args()
    params, problems = {}, []
    for path in arguments.params:
        try:
            params[path] = read_params(path)
        except UserError as error:
            problems += error.args
    first = arguments.params[0]
    problems += [
        f"{first}: {key}: missing key; add this block"
        for key in ("ensemble", "audit")
        if first in params and not getattr(params[first], key, None)
    ]
    if not problems:
        outputs, needed = list_outputs()
        recipes = {path: recipe for path, recipe in params.items() if isinstance(recipe, Recipe)}
        problems = [f"{path}: {line}" for path, recipe in recipes.items() for line in find_problems(recipe, outputs)]
        others = {path: recipe for path, recipe in recipes.items() if path != first}
        problems += [f"{first}: {line}" for line in find_taught(recipes[first], needed, others)]
    if problems:
        raise UserError(*problems)
    for path, recipe in recipes.items():
        for line in find_strays(recipe, outputs):
            print(f"check: {path}: {line}", flush=True)
    write_text(arguments.checked, CHECKED)


if __name__ == "__main__":
    run_stage(main)
