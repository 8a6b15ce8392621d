"""Files are written completely: however the writer ends, either the old or the new file exists."""

import os
import shutil
import subprocess

import pytest

from stages.runtime.files import unfinished, write_json, write_text, written_whole
from tests.repository import ROOT


def test_the_block_writes_under_another_name_with_the_same_ending(tmp_path):
    path = tmp_path / "new folder" / "model.safetensors"
    with written_whole(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert temporary.suffix == ".safetensors"
        assert not path.exists()
    assert [(each.name, each.read_text()) for each in path.parent.iterdir()] == [("model.safetensors", "new")]


def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    unfinished(path).write_text("what a killed writer left", encoding="utf-8")

    def fail() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("table.csv", "old")]


def test_a_file_is_forced_onto_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    path, seen = tmp_path / "table.csv", []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_ino, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    write_text(path, "new")
    # first the file, which has no name yet; then the folder, so that the name is kept as well
    assert seen == [(path.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


def test_what_a_killed_writer_leaves_changes_no_folder_for_dvc_and_is_nothing_to_git(tmp_path, monkeypatch):
    from dvc.repo import Repo  # a second

    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / ".dvcignore", ".dvcignore")
    write_text(tmp_path / ".dvc/config", f"[core]\nno_scm = true\nsite_cache_dir = {tmp_path}/site\n")
    write_text(tmp_path / "models/cnn.safetensors", "whole")
    with Repo() as repo:
        repo.add("models")
    for path in ("cnn.safetensors", "scratch", "vgg 16.b.npz"):
        write_text(unfinished(tmp_path / "models" / path), "half")
    write_text(unfinished(tmp_path / "models/images") / "rose.jpg", "half")  # a folder that is written and then renamed
    with Repo() as repo:
        assert repo.status() == {}
    paths = [str(unfinished(ROOT / "metrics" / path)) for path in ("models/cnn.json", "report.html", "ensemble")]
    ignored = subprocess.run(["git", "check-ignore", *paths], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ignored.stdout.splitlines() == paths


def test_text_has_one_kind_of_line_ends_and_json_keeps_letters_and_refuses_nan(tmp_path):
    write_text(tmp_path / "text", "a\nb\n")
    assert (tmp_path / "text").read_bytes() == b"a\nb\n"
    write_json(tmp_path / "json", ["玫瑰"])
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "json", [float("nan")])
    assert (tmp_path / "json").read_text(encoding="utf-8") == '[\n  "玫瑰"\n]\n'
