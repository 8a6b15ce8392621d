"""Which stages an edit reruns: the examples and the rule of docs/reruns.md, with the real DVC."""

import json
import logging
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import chdir
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.image_folders import save
from tests.repository import ROOT

PARAMS = ("params.yaml", "data/flowers/params.yaml", "data/weights/source/params.yaml")
EXAMPLES = re.findall(r"^\| `(.+)` \| (.+) \| (`.+`) \|$", (ROOT / "docs/reruns.md").read_text("utf-8"), re.MULTILINE)
LOG = "ran.txt"
read_yaml = YAML(typ="safe").load  # PyYAML would read 1e-08 as text

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")]  # DVC's own


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Work in a copy of the pipeline that has run; all commands except `code` only record that they ran."""
    copy = tmp_path_factory.mktemp("pipeline")
    copy_pipeline(copy)
    with chdir(copy):
        repro()
        yield copy


def copy_pipeline(copy: Path, *real: str) -> None:
    """Copy code and pipelines; commands only record that they ran, except `code` and the `real` ones of the root."""
    shutil.copytree(ROOT / "stages", copy / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    for path in [ROOT / "dvc.yaml", *ROOT.glob("data/**/dvc.yaml")]:
        content = read_yaml(path.read_text(encoding="utf-8"))
        for name, stage in content["stages"].items():
            recorded = stage.get("do", stage)
            is_real = name == "code" or (name in real and path.parent == ROOT)
            recorded["cmd"] = recorded_command(name, recorded, is_real)
        write(copy / path.relative_to(ROOT), json.dumps(content | {"plots": []}))  # JSON is valid YAML
    kept = [
        ROOT / name
        for name in (".dvcignore", "requirements.txt", "labels_fixed.csv", "params.yaml", "recipes/default.yaml")
    ]
    for path in [*kept, *ROOT.glob("data/**/params.yaml")]:
        write(copy / path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    write(copy / "data/weights/scratch", "")
    write(copy / LOG, "")
    write(copy / ".dvc/config", f"[core]\nno_scm = true\nanalytics = false\nsite_cache_dir = {copy}/site\n")


def recorded_command(name: str, stage: dict[str, Any], is_real: bool) -> str:
    """Return a command that records the name of the stage and writes new outputs each time, except for `check`.

    A real stage keeps its command; otherwise the command follows as a comment, so that DVC sees its parameters.
    """
    own = " ".join(stage["cmd"].split())
    note = f"echo $DVC_STAGE >> {LOG}"
    if is_real:
        return f"{note}; {sys.executable} {own.removeprefix('python')}"
    outs = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    outs = [next(iter(out)) if isinstance(out, dict) else out for out in outs]
    content = "echo right" if name == "check" else f"wc -l < {LOG}"
    return "; ".join([note, *(f"mkdir -p $(dirname {out}); {content} > {out}" for out in outs)]) + f" # {own}"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def short_name(address: str) -> str:
    """Return `weights/source:draw` for DVC's `data/weights/source/dvc.yaml:draw`; a stage of the root has no folder."""
    return address.removeprefix("data/").replace("/dvc.yaml:", ":")


def repro(*targets: str) -> set[str]:
    """Return the stages that `dvc repro` runs, for these stages or for all."""
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)  # as --quiet does
    n_before = len(Path(LOG).read_text().splitlines())
    with Repo() as repo:
        repo.reproduce(targets, all_pipelines=not targets)
    return set(map(short_name, Path(LOG).read_text().splitlines()[n_before:]))


def test_a_corrected_name_of_a_class_trains_nothing_and_another_order_of_classes_does(tmp_path):
    copy_pipeline(tmp_path, "split", "pack")
    params = read_yaml((tmp_path / "params.yaml").read_text(encoding="utf-8"))
    params |= {"images": "images", "models": {"cnn": params["models"]["cnn"]}}
    write(tmp_path / "params.yaml", json.dumps(params))
    save(tmp_path / "images", *(f"{label}/{i}.png" for label in "ab" for i in range(4)))
    below = {"split", "evaluate@cnn", "ensemble", "report"}
    with chdir(tmp_path):
        write(Path("images/classes.txt"), "a,dasiy\nb,rose\n")
        repro("report")
        for names in ("a,daisy\nb,rose\n", "b,daisy\na,rose\n"):  # one name corrected, then both exchanged
            write(Path("images/classes.txt"), names)
            assert repro("report") == below, names
        Path("images/classes.txt").unlink()
        assert repro("report") == below
        Path("images/a").rename("images/c")
        assert repro("report") == below | {"pack@32", "train@cnn", "audit"}
        save(Path("images"), *(f"d/{i}.png" for i in range(4)), first=8)
        assert repro("report") == below | {"pack@32", "train@cnn", "audit"}


def edit_leaf(file: str, leaf: str) -> None:
    """Change the value of a parameter."""
    params = block = read_yaml(Path(file).read_text(encoding="utf-8"))
    *parents, last = leaf.split(".")
    for parent in parents:
        block = block[parent]
    value = block[last]
    block[last] = (value * 2 or [0]) if isinstance(value, list) else f"{value}0"  # a repeated size is packed once
    write(Path(file), json.dumps(params))


def edit(file: str, what: str) -> None:
    """Make an edit of the table: to a parameter, a pinned version, or code."""
    text = Path(file).read_text(encoding="utf-8")
    if file.endswith(".yaml"):
        edit_leaf(file, what.strip("`"))
    elif what.startswith("`"):
        name = what.strip("`")
        write(Path(file), text.replace(f"\n{name}==", f"\n{name}==1000."))
    else:
        write(Path(file), text + ("# a comment\n" if what == "a comment" else "EDITED = 1\n"))


def test_dvc_runs_what_the_examples_say(pipeline: Path):
    from dvc.repo import Repo

    with Repo() as repo:
        names = {short_name(stage.addressing) for stage in repo.index.stages}
    assert len(EXAMPLES) == 12
    for file, what, runs in EXAMPLES:
        patterns = re.findall("`(.+?)`", runs)
        edit(file, what)
        assert repro() == {name for name in names if any(fnmatch(name, each) for each in patterns)}, (file, what)


@pytest.mark.parametrize("file", PARAMS)
def test_dvc_finds_every_parameter_changed_where_a_stage_names_it(pipeline: Path, file: str):
    from dvc.repo import Repo

    repro()
    before = Path(file).read_text(encoding="utf-8")
    with Repo() as repo:
        named = {short_name(stage.addressing): set(keys_of(stage)) for stage in repo.index.stages}
    for leaf in leaves(read_yaml(before)):
        edit_leaf(file, leaf)
        with Repo() as repo:
            changed = {short_name(name) for name in repo.status()}
        prefixes = {(file, ""), *((file, leaf[: dot.start()]) for dot in re.finditer(r"\.|$", leaf))}
        assert changed == {name for name, keys in named.items() if keys & prefixes}, leaf
        write(Path(file), before)


def keys_of(stage: Any) -> Iterator[tuple[str, str]]:
    """Yield file and key of the parameters that a stage lists (an empty key: all) or uses in `${...}`."""
    for dep in stage.deps:
        if hasattr(dep, "params"):
            yield from ((Path(dep.fs_path).relative_to(Path.cwd()).as_posix(), key) for key in dep.params or [""])
    for file, keys in stage.tracked_vars.items():
        yield from ((file, key) for key in keys)


def leaves(block: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the full keys of all values in the block that are not blocks."""
    for key, value in block.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key
