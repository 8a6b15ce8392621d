"""Files that are written whole: whatever ends the writer, the old file is there, or the new one."""

import os
import signal
import subprocess
import sys

import pytest

from stages.runtime.files import DirectFile, unfinished, write_json, write_text, written_whole
from tests.imports import ROOT


def _names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_block_writes_under_another_name_with_the_same_ending(tmp_path):
    path = tmp_path / "new folder" / "model.safetensors"
    with written_whole(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert temporary.suffix == ".safetensors"
        assert not path.exists()
    assert _names(path.parent) == ["model.safetensors"]
    assert path.read_text(encoding="utf-8") == "new"


def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old")

    def fail() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert _names(tmp_path) == ["table.csv"]
    assert path.read_text(encoding="utf-8") == "old"


def test_a_kill_in_the_block_leaves_the_old_file_and_the_next_writer_clears_up(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    script = (
        "import os, pathlib, sys\n"
        "from stages.runtime.files import written_whole\n"
        "with written_whole(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text(encoding="utf-8") == "old"
    assert _names(tmp_path) == sorted(["table.csv", unfinished(path).name])
    write_text(path, "new")
    assert _names(tmp_path) == ["table.csv"]
    assert path.read_text(encoding="utf-8") == "new"


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


@pytest.mark.parametrize("sizes", [[], [1], [2**22], [2**22 + 1], [5000] * 2000, [2**23, 3, 2**22 - 3]])
def test_a_file_written_past_the_cache_has_every_byte_and_no_more(tmp_path, sizes):
    content = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    with DirectFile(tmp_path / "direct") as file:
        for part in content:
            assert file.write(part) == len(part)
    assert (tmp_path / "direct").read_bytes() == b"".join(content)


def test_a_file_written_past_the_cache_replaces_a_longer_one(tmp_path):
    (tmp_path / "direct").write_bytes(bytes(10**5))
    with DirectFile(tmp_path / "direct") as file:
        file.write(b"new")
    assert (tmp_path / "direct").read_bytes() == b"new"


def test_files_of_one_folder_have_temporary_names_of_their_own(tmp_path):
    names = ("cnn.safetensors", "cnn.checkpoint", "cnn.packed", "cnn", "vgg16.safetensors")
    temporary = {unfinished(tmp_path / name) for name in names}
    assert len(temporary) == len(names)
    assert not temporary & {tmp_path / name for name in names}


def test_text_has_one_kind_of_line_ends_and_json_keeps_letters_and_refuses_nan(tmp_path):
    write_text(tmp_path / "text", "a\nb\n")
    assert (tmp_path / "text").read_bytes() == b"a\nb\n"
    write_json(tmp_path / "json", ["玫瑰"])
    assert (tmp_path / "json").read_text(encoding="utf-8") == '[\n  "玫瑰"\n]\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "json", [float("nan")])
    assert "玫瑰" in (tmp_path / "json").read_text(encoding="utf-8")
