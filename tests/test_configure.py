"""A folder of photographs in one line: the recipe with that folder, and nothing that a person wrote is lost."""

import sys
from pathlib import Path

import pytest

from stages import configure
from stages.runtime.errors import UserError
from stages.settings.reading import read_params
from tests.repository import ROOT

FOLDERS = ("photos", "other photos: Müller")


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    (tmp_path / "params.yaml").write_text(configure.DEFAULT.read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, images: str) -> None:
    monkeypatch.setattr(sys, "argv", ["configure", images])
    configure.main()


def test_the_recipe_for_photographs_takes_the_folder_and_another_one_later(clone, monkeypatch):
    for name in FOLDERS:
        run(monkeypatch, name)
        assert read_params("params.yaml").images == name
    expected = read_params(configure.RECIPE).model_copy(update={"images": FOLDERS[1]})
    assert read_params("params.yaml") == expected
    run(monkeypatch, str(clone / "photos"))
    assert read_params("params.yaml").images == str(clone / "photos")


@pytest.mark.parametrize("images", ["nowhere", "params.yaml"])
def test_a_folder_that_is_not_there_changes_nothing(images, clone, monkeypatch):
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UserError, match="IMAGES"):
        run(monkeypatch, images)
    assert Path("params.yaml").read_bytes() == before


def test_parameters_that_were_edited_are_not_overwritten(clone, monkeypatch):
    Path("params.yaml").write_text(Path("params.yaml").read_text(encoding="utf-8").replace("lr: 0.002", "lr: 0.004"))
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UserError, match=r"params\.yaml"):
        run(monkeypatch, "photos")
    assert Path("params.yaml").read_bytes() == before
