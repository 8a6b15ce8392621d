"""One command for a folder of photographs: it writes the recipe with that folder, and no person's changes are lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages import configure
from stages.runtime.errors import UserError
from stages.settings.reading import read_params
from tests.repository import ROOT

FOLDERS = ("photos", "Tom's other photos: Müller")


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
    monkeypatch.setenv("HOME", str(clone))
    run(monkeypatch, "~/photos")  # as passed by make, or by a shell that does not expand ~
    assert read_params("params.yaml").images == str(clone / "photos")


def test_make_takes_any_name_of_a_folder_and_needs_no_login_shell_and_no_users_name(clone):
    for name in ("Makefile", "requirements.txt", ".venv/bin/python", ".venv/bin/dvc", ".venv/installed"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text('#!/bin/sh\necho "$USER" "$SHELL" "$@"\n', encoding="utf-8")
        (clone / name).chmod(0o700)
    (clone / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    outer_make = {"USER", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}  # the test may run inside `make test`
    environment = {name: value for name, value in os.environ.items() if name not in outer_make}
    environment["SHELL"] = "/usr/sbin/nologin"
    command = ["make", "repro", f"IMAGES={FOLDERS[1]}"]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == f"{os.getuid()} /bin/sh -m stages.configure {FOLDERS[1]}"


@pytest.mark.parametrize("images", ["nowhere", "params.yaml"])
def test_a_folder_that_is_not_there_changes_nothing(images, clone, monkeypatch):
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UserError, match="IMAGES"):
        run(monkeypatch, images)
    assert Path("params.yaml").read_bytes() == before


def test_parameters_that_were_edited_are_not_overwritten(clone, monkeypatch):
    Path("params.yaml").write_text(Path("params.yaml").read_text(encoding="utf-8").replace("seed: 1", "seed: 2"))
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UserError, match=r"params\.yaml"):
        run(monkeypatch, "photos")
    assert Path("params.yaml").read_bytes() == before
