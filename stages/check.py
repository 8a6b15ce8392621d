"""The whole of params.yaml in; a text that is always the same out, if every stage can work with these parameters.

    python -m stages.check data/params.checked

All that can be known before an image is read is asked here: also of the folders that `images` and `weights` name, of
stages/models, dvc.yaml and timm. The text never changes, so that an edited parameter reruns only the stages it affects.
"""

import argparse
import importlib
import inspect
import itertools
import json
import os
import posixpath
import shutil
import stat
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from stages.runtime.errors import UserError
from stages.runtime.files import write_text
from stages.runtime.process import run_stage
from stages.settings.reading import inspect_file
from stages.settings.types import DRAWN, IMAGENET, ModelSettings, OtherSettings, ReportedSettings
from stages.settings.wording import nearest

CHECKED = "every value of params.yaml is right\n"
COMPILERS = ("c++", "g++", "clang++", "cc", "gcc", "clang")
LARGEST_HEADER = 100_000_000  # bytes, as in the safetensors package
LAST_CONVOLUTIONS = {  # of each backbone: without and with batch normalisation
    "vgg19": ("features.34.weight", "features.49.weight"),
    "resnet50": ("layer4.2.conv3.weight", "layer4.2.conv3.weight"),
}


def find_problems(blocks: dict[str, Any]) -> Iterator[str]:
    """Say where values that are right by themselves do not fit the folders, the code and the machine, a line each.

    Args:
        blocks: the fields of Config that are right by themselves.
    """
    models = {name: each for name, each in blocks.get("models", {}).items() if not isinstance(each, ReportedSettings)}
    weights = posixpath.normpath(blocks.get("weights", ""))
    if "images" in blocks:
        yield from check_images(blocks["images"])
    if "weights" in blocks:
        yield from check_weights(blocks["weights"], models)
    if "imagenet" in blocks and weights == IMAGENET:
        yield from check_timm_names(dict(blocks["imagenet"]))
    if "models" in blocks:
        yield from check_trained(models, blocks["models"])
    trainings = {f"models.{name}": model for name, model in models.items()}
    if "pretrain" in blocks and weights == DRAWN:
        trainings |= {f"pretrain.{name}": getattr(blocks["pretrain"], name) for name in LAST_CONVOLUTIONS}
    yield from check_compiler(trainings)
    for name, model in models.items():
        if isinstance(model, OtherSettings):
            yield from check_own_model(name, model)


def check_images(images: str) -> Iterator[str]:
    """Refuse a path that is no folder, and that no pipeline makes one."""
    kind = look_at(Path(images))
    if kind == "a folder" or (kind == "nothing" and is_made(images, outputs_near(images))):
        return
    choices = ", ".join(path for path in outputs_near() if not posixpath.splitext(path)[1])
    expected = f"images: expected a folder that is there, or one that a pipeline makes ({choices}), found {kind}"
    yield f"{expected}: {images!r}{_advise(images, kind)}"


def check_weights(weights: str, models: dict[str, ModelSettings]) -> Iterator[str]:
    """Refuse a folder that lacks a backbone's weights, or has those of another network, and that no pipeline fills."""
    made = outputs_near(weights)
    files = {backbone: posixpath.join(weights, f"{backbone}.safetensors") for backbone in LAST_CONVOLUTIONS}
    own = {backbone: file for backbone, file in files.items() if not is_made(file, made)}
    kind = look_at(Path(weights))
    if kind == "a folder" or not (own or weights.endswith(".safetensors")):
        for backbone, file in own.items():
            yield from check_backbone(backbone, Path(file), models.get(f"{backbone}_pretrained"))
        return
    choices = ", ".join(posixpath.dirname(path) for path in outputs_near() if path.endswith("/vgg19.safetensors"))
    expected = "weights: expected a folder with vgg19.safetensors and resnet50.safetensors, or one that a pipeline"
    yield f"{expected} fills ({choices}), found {kind}: {weights!r}{_advise(weights, kind)}"


def _advise(path: str, kind: str) -> str:
    if kind == "a file":
        use = "name the folder that holds labels.csv" if path.lower().endswith(".csv") else "name the folder it is in"
        return f"; {use}: {posixpath.dirname(path) or '.'!r}"
    if path.startswith("~"):
        return f"; write the home folder out: {str(Path(path).expanduser())!r}"
    return "" if posixpath.isabs(path) or kind != "nothing" else f" in {str(Path.cwd())!r}"


def look_at(path: Path) -> str:
    """Say what is at a path: `a folder`, `a file`, `nothing`, or something that may not be read."""
    try:
        mode = path.stat().st_mode
    except PermissionError:
        return "a path without permission"
    except (OSError, ValueError):  # ValueError: no path can be so
        return "nothing"
    if not stat.S_ISDIR(mode):
        return "a file"
    return "a folder" if os.access(path, os.R_OK | os.X_OK) else "a folder without permission to read it"


def outputs_near(path: str | None = None) -> list[str]:
    """List the outputs of the pipelines in the folders above a path, and of those under data/.

    Returns:
        Paths relative to this folder, the repository's root.
    """
    above = _up_from(path) if path else []
    files = [folder / "dvc.yaml" for folder in above if folder != Path() and ".." not in folder.parts]
    files += [*sorted(Path("data").glob("*/dvc.yaml")), *sorted(Path("data").glob("*/*/dvc.yaml"))]
    stages = [
        (file.parent, stage)
        for file in dict.fromkeys(files)
        if look_at(file) == "a file"
        for stage in read_stages(file)
    ]
    return [out for folder, stage in stages for out in outputs_of(stage, folder)]


def is_made(path: str, outputs: Iterable[str]) -> bool:
    """Say whether a path is an output, or in one, or one that `dvc add` tracks."""
    whole = _up_from(path)
    tracked = any(look_at(each.with_name(f"{each.name}.dvc")) == "a file" for each in whole if each.name)
    return tracked or any(Path(out) in whole for out in outputs)


def _up_from(path: str) -> list[Path]:
    place = Path(posixpath.relpath(path))
    return [place, *place.parents]


def outputs_of(stage: dict[str, Any], folder: Path) -> list[str]:
    """Return a stage's outputs as paths relative to this folder; `folder` is that of its dvc.yaml."""
    outs = [out if isinstance(out, str) else next(iter(out)) for out in stage.get("outs", [])]
    return [posixpath.normpath(posixpath.join(folder.as_posix(), stage.get("wdir", "."), out)) for out in outs]


def read_stages(file: Path) -> list[dict[str, Any]]:
    """Read the stages of a dvc.yaml; one with a matrix of lists is there once for each combination.

    Raises:
        UserError: it is missing, or no pipeline.
    """
    stages = []
    try:
        for stage in (yaml.safe_load(file.read_text(encoding="utf-8")).get("stages") or {}).values():
            lists = {key: values for key, values in stage.get("matrix", {}).items() if isinstance(values, list)}
            for values in itertools.product(*lists.values()):
                text = json.dumps(stage)
                for key, value in zip(lists, values, strict=True):
                    text = text.replace(f"${{item.{key}}}", str(value))
                stages.append(json.loads(text))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; run from the repository's root") from None
    except (yaml.YAMLError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{file}: no pipeline of DVC ({error}); mend it") from None
    return stages


def check_trained(models: dict[str, ModelSettings], names: Iterable[str]) -> Iterator[str]:
    """Hold the models of params.yaml against those of dvc.yaml.

    Args:
        models: those whose settings are right.
        names: of all that params.yaml has.
    """
    stages = read_stages(Path("dvc.yaml"))
    keys = [key for stage in stages for key in stage.get("params", []) if isinstance(key, str)]
    for key in dict.fromkeys(key for key in keys if key.startswith("models.") and "$" not in key):
        if key.split(".")[1] not in names:
            yield f"{key}: missing key; dvc.yaml has a stage for it: add its block, or take it out of there"
    outs = [out for stage in stages for out in outputs_of(stage, Path())]
    for name in models:
        if f"data/models/{name}.safetensors" not in outs:
            yield f"models.{name}: no stage of dvc.yaml trains it; add it to the matrix of `train` there"


def check_own_model(name: str, model: ModelSettings) -> Iterator[str]:
    """Hold the keys of a model beyond the five against the arguments of its build_model."""
    file = f"stages/models/{name}.py"
    try:
        build_model = importlib.import_module(f"stages.models.{name}").build_model
    except (ImportError, SyntaxError, AttributeError) as error:
        yield f"models.{name}: no build_model in {file} ({error}); mend that file"
        return
    arguments = list(inspect.signature(build_model).parameters.values())[2:]  # after n_classes, image_size_px
    takes = [each.name for each in arguments if each.kind is not each.VAR_KEYWORD]
    given = model.network()
    for key in given:
        if key not in takes and len(takes) == len(arguments):
            yield f"models.{name}.{key}: unknown key{nearest(key, takes)}; build_model in {file} has no such argument"
    for each in arguments:
        if each.name in takes and each.name not in given and each.default is each.empty:
            yield f"models.{name}.{each.name}: missing key; build_model in {file} needs it"


def check_backbone(backbone: str, file: Path, model: ModelSettings | None) -> Iterator[str]:
    """Refuse weights that are not there, or not those that the network takes."""
    try:
        names = read_tensor_names(file)
    except UserError as error:
        yield f"weights: {error}"
        return
    has_norm = any("running_mean" in name for name in names)
    last = LAST_CONVOLUTIONS[backbone][has_norm]
    wants_norm = True if backbone == "resnet50" else getattr(model, "batch_norm", has_norm)
    if last not in names:
        yield f"weights: {file}: no weights of {backbone}, which have {last}; choose others"
    elif wants_norm != has_norm:
        remedy = (
            "" if backbone == "resnet50" else f"set models.vgg19_pretrained.batch_norm to {str(has_norm).lower()}, or "
        )
        yield f"weights: {file}: has {'' if has_norm else 'no '}batch normalisation; {remedy}choose other weights"


def read_tensor_names(file: Path) -> set[str]:
    """Read what tensors are in a safetensors file, without reading them.

    Raises:
        UserError: it is missing, no safetensors file, or cut short.
    Source: the format: 8 bytes with the length of a JSON header, the header, the tensors.
    """
    if (kind := look_at(file)) != "a file":
        raise UserError(f"{file}: expected a file, found {kind}")
    try:
        with file.open("rb") as content:
            (length,) = struct.unpack("<Q", content.read(8))
            header = json.loads(content.read(min(length, LARGEST_HEADER)))
        header.pop("__metadata__", None)
        end = 8 + length + max(tensor["data_offsets"][1] for tensor in header.values())
    except (struct.error, ValueError, AttributeError, TypeError, LookupError, RecursionError):
        raise UserError(f"{file}: not a safetensors file; choose other weights") from None
    if file.stat().st_size != end:
        raise UserError(f"{file}: expected {end} bytes, found {file.stat().st_size}; copy it anew")
    return set(header)


def check_timm_names(names: dict[str, str]) -> Iterator[str]:
    """Refuse names that timm has no weights for."""
    import timm  # seconds: only where weights from timm are asked for

    for backbone, name in names.items():
        known = timm.list_pretrained(f"{backbone}*")
        if name not in known:
            yield f"imagenet.{backbone}: expected one of timm.list_pretrained(), found {name!r}{nearest(name, known)}"


def check_compiler(trainings: dict[str, ModelSettings]) -> Iterator[str]:
    """Refuse to compile networks where there is no compiler.

    Args:
        trainings: settings by their full keys.
    """
    if {"CC", "CXX"} & os.environ.keys() or any(map(shutil.which, COMPILERS)):
        return
    for key, settings in trainings.items():
        if settings.compile != "none":
            yield f"{key}.compile is {settings.compile!r}, but no compiler is here; install g++, or set it to 'none'"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checked", type=Path, help="is written if all is right")
    arguments = parser.parse_args()
    inspected = inspect_file()
    problems = [*inspected.problems, *(f"params.yaml: {problem}" for problem in find_problems(inspected.blocks))]
    if problems:
        raise UserError(*problems)
    write_text(arguments.checked, CHECKED)


if __name__ == "__main__":
    run_stage(main)
