"""dvc.yaml against the code: DVC reruns a stage when a file that it lists changes, and follows no import."""

import re
from pathlib import Path

import pytest
import yaml

from tests.imports import ROOT, imported_files

PIPELINES = sorted(
    path.parent.relative_to(ROOT)
    for pattern in ("dvc.yaml", "data/*/dvc.yaml", "data/*/*/dvc.yaml")
    for path in ROOT.glob(pattern)
)


def stages_of(pipeline: Path) -> list:
    content = yaml.safe_load((ROOT / pipeline / "dvc.yaml").read_text(encoding="utf-8"))
    return [pytest.param(stage, id=f"{pipeline}:{name}") for name, stage in content["stages"].items()]


ALL_STAGES = [stage for pipeline in PIPELINES for stage in stages_of(pipeline)]


def matrix_values(stage: dict) -> dict[str, list[str]]:
    """Return what each `${item.X}` of the stage can be; `${models}` stands for the files in stages/models."""
    models = [path.stem for path in (ROOT / "stages" / "models").glob("*.py") if path.stem != "__init__"]
    return {key: models if values == "${models}" else values for key, values in stage.get("matrix", {}).items()}


def fill_in(text: str, stage: dict) -> list[str]:
    """Return the text once for each value of the matrix key that it names."""
    for key, values in matrix_values(stage).items():
        if f"${{item.{key}}}" in text:
            return [text.replace(f"${{item.{key}}}", value) for value in values]
    return [text]


def listed_code(stage: dict) -> list[Path]:
    return [Path(path) for dep in stage["deps"] for path in fill_in(dep, stage) if path.endswith(".py")]


@pytest.mark.parametrize("stage", ALL_STAGES)
def test_a_stage_lists_exactly_the_modules_that_it_imports(stage: dict):
    script = Path("stages", re.search(r"python -m stages\.(\w+)", stage["cmd"])[1] + ".py")
    models = [path for path in listed_code(stage) if path.parent == Path("stages/models")]
    # a stage of a matrix imports the one model that its item names; what any model imports is listed for all
    imported = set().union(*(imported_files(file) for file in (script, *models)))
    assert sorted(listed_code(stage)) == sorted(imported)


@pytest.mark.parametrize("stage", ALL_STAGES)
def test_a_stage_never_depends_on_a_folder_of_code(stage: dict):
    assert not [dep for dep in stage["deps"] if (ROOT / dep).is_dir() and dep.startswith(("stages", "tests"))]


def test_every_data_file_beside_the_code_is_a_dependency():
    data_files = {path for path in (ROOT / "stages").rglob("*.*") if path.suffix not in (".py", ".pyc")}
    listed = {ROOT / dep for stage in ALL_STAGES for dep in stage.values[0]["deps"]}
    assert data_files <= listed


@pytest.mark.parametrize("stage", ALL_STAGES)
def test_every_path_of_a_command_is_listed(stage: dict):
    named = [word.strip("'") for word in re.findall(r"\S+/\S+", stage["cmd"]) if not word.startswith("stages.")]
    outs = [
        next(iter(out)) if isinstance(out, dict) else out for out in stage.get("outs", []) + stage.get("metrics", [])
    ]
    listed = stage["deps"] + outs
    for path in named:
        assert any(each == path or each.startswith((path + "/", path + ".")) for each in listed), path


@pytest.mark.parametrize("stage", ALL_STAGES)
def test_training_never_sees_the_test_split(stage: dict):
    if "stages.train" in stage["cmd"]:
        assert not [dep for dep in stage["deps"] if dep in ("data/packed", "data/packed/test", "data/manifest.csv")]


@pytest.mark.parametrize("name", ["split", "pack", "ensemble", "report", "draw"])
def test_a_stage_without_training_imports_no_torch(name: str):
    for file in imported_files(Path(f"stages/{name}.py")):
        assert not re.search(r"^\s*(import|from) (torch|torchvision|timm)\b", (ROOT / file).read_text("utf-8"), re.M), (
            file
        )


def test_every_script_is_a_stage():
    scripts = {path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__"}
    run = {re.search(r"python -m stages\.(\w+)", stage.values[0]["cmd"])[1] for stage in ALL_STAGES}
    assert scripts == run
