"""Which rooms may import which, and dependencies in dvc.yaml: a stage lists its code text, but no source file."""

import ast
import re

import pytest
import yaml

from stages.runtime.sources import describe, read_imports
from tests.parameters import PARAMS
from tests.repository import ROOT

FLOORS = [  # a room imports from floors below its own; stages import from all
    {"experiments", "labelling"},
    {"training", "reporting", "inference"},
    {"doubt"},
    {"dataset", "networks", "drawing", "scoring"},
    {"pixels"},
    {"settings"},
    {"models"},
    {"runtime"},
]
STAGES = ROOT / "stages"
TOOLS = {"configure", "export", "predict", "reproduce", "show"}  # commands for people
SCRIPTS = {path.stem for path in STAGES.glob("[!_]*.py")}


def read_stages() -> dict[str, dict]:
    """Return the stages of every dvc.yaml, by folder of the file and name of the stage."""
    found = {}
    for path in [ROOT / "dvc.yaml", *ROOT.glob("data/**/dvc.yaml")]:
        for name, stage in yaml.safe_load(path.read_text(encoding="utf-8"))["stages"].items():
            found[f"{path.parent.relative_to(ROOT)}:{name}"] = stage.get("do", stage)
    return found


ALL_STAGES = read_stages()
each_stage = pytest.mark.parametrize("stage", ALL_STAGES.values(), ids=ALL_STAGES)


def script_of(stage: dict) -> str:
    return re.search(r"python -m stages\.(\w+)", stage["cmd"])[1]


def test_every_room_has_a_floor_and_says_what_it_is_for():
    rooms = {
        path.parent.name: ast.get_docstring(ast.parse(path.read_text("utf-8"))) for path in STAGES.glob("*/__init__.py")
    }
    assert rooms.keys() == set().union(*FLOORS)
    assert all(rooms.values()), rooms


def test_no_stage_imports_another_and_no_room_imports_from_its_own_floor_or_one_above():
    wrong = read_imports("stages").find_illegal_dependencies_for_layers([SCRIPTS, *FLOORS], containers={"stages"})
    assert [(each.importer, each.imported) for each in wrong] == []


def test_no_room_has_a_command_and_the_one_of_reporting_alone_draws():
    def rooms_with(text: str) -> set[str]:
        return {path.relative_to(STAGES).parts[0] for path in STAGES.rglob("*/*.py") if text in path.read_text("utf-8")}

    assert rooms_with('__name__ == "__main__"') == {"experiments"}
    assert rooms_with("from matplotlib") == {"experiments", "reporting"}


@pytest.mark.parametrize("script", ["split", "pack", "ensemble", "report", "draw"])
def test_a_stage_without_training_imports_no_torch(script: str):
    assert not re.search(r"^package (torch|torchvision|timm) ", describe(f"stages.{script}"), re.MULTILINE)


def test_pictures_are_read_with_numpy_and_pillow_alone_and_by_files_that_can_be_copied():
    parts = {tuple(line.split()[:2]) for line in describe("stages.pixels.decoding").splitlines()}
    assert {name for kind, name in parts if kind == "package"} == {"numpy", "pillow"}
    others = {name for kind, name in parts if kind == "module" and not name.startswith("stages.pixels.")}
    assert others == {"stages.runtime.errors"}


def test_every_script_is_a_stage_or_a_tool():
    assert {script_of(stage) for stage in ALL_STAGES.values()} == SCRIPTS - TOOLS


@each_stage
def test_a_stage_depends_on_the_text_of_its_code_and_on_no_source_file(stage: dict):
    script = script_of(stage)
    code = [dep for dep in stage["deps"] if dep.startswith(("data/code", "stages", "tests"))]
    owners = {"train": "item", "evaluate": "item", "audit": "audit"}  # keys of the block with the architecture
    architecture = [f"data/code/models/${{{owners[script]}.architecture}}.txt"] if script in owners else []
    shown = ["data/code/versions.txt"] if script == "report" else []
    expected = ["stages"] if script == "code" else [f"data/code/{script}.txt", *architecture, *shown]
    assert sorted(code) == sorted(expected)


@each_stage
def test_every_path_of_a_command_is_listed(stage: dict):
    named = re.findall(r"\S+/\S+", stage["cmd"])
    outs = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    outs = [next(iter(out)) if isinstance(out, dict) else out for out in outs]
    params = [next(iter(entry)) for entry in stage.get("params", []) if isinstance(entry, dict)]
    for path in named:
        assert any(f"{each}/".startswith((f"{path}/", f"{path}.")) for each in stage["deps"] + outs + params), path


def test_training_never_sees_the_test_split():
    pack = "data/packed/${item.image_size_px}"
    assert not {"data/packed", pack, f"{pack}/test", "data/manifest.csv"} & set(ALL_STAGES[".:train"]["deps"])


def test_only_what_is_shown_depends_on_the_names_to_read():
    found = {name for name, stage in ALL_STAGES.items() if "data/models/names.json" in stage["deps"]}
    assert found == {".:evaluate"}  # later stages get the names from it


def test_what_the_audit_finds_reaches_the_report_and_nothing_else():
    of_audit = {next(iter(out)) if isinstance(out, dict) else out for out in ALL_STAGES[".:audit"]["outs"]}
    assert {name for name, stage in ALL_STAGES.items() if of_audit & set(stage["deps"])} == {".:report"}
    assert {name for name, stage in ALL_STAGES.items() if "labels_fixed.csv" in stage["deps"]} == {".:split"}


def test_every_model_and_the_vote_are_artifacts():
    artifacts = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["artifacts"]
    models = {name: f"data/models/{name}.safetensors" for name in PARAMS["models"]}
    assert {name: each["path"] for name, each in artifacts.items()} == {"vote": "data/models", **models}
