"""The origin of weights is found from the files alone, through all start weights."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from stages.networks.lineage import refuse_taught, trace_back
from stages.runtime.errors import UserError

OURS, OTHERS = ["daisy", "rose", "lily"], ["oak", "beech"]


def write(path: str, start: str = "scratch", class_names=OTHERS, **says) -> str:
    """Write a file of weights in the working folder; return the `start` of a model that starts from it."""
    content = {"start": start, "class_names": class_names, **says}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file({"weight": np.frombuffer(path.encode(), np.uint8)}, path, {"quintet": json.dumps(content)})
    return f"{path} (sha256 {hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]})"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refuse(path: str) -> str:
    with pytest.raises(UserError) as caught:
        refuse_taught(Path(path), OURS)
    (line,) = caught.value.args
    assert line.startswith(f"{path}: ")
    return line


def test_weights_that_have_not_seen_the_labels_are_taken_from_wherever_they_start():
    write("source.safetensors")
    packaged = "ImageNet-1k, EfficientNet-Lite0 (Google, Apache-2.0) (sha256 0123456789abcdef)"
    write("tuned.safetensors", packaged)
    write("grown.safetensors", write("middle", write("first.safetensors")))
    save_file({"weight": np.zeros(1)}, "of_others.safetensors")
    for path in ("source", "tuned", "grown", "of_others"):
        refuse_taught(Path(f"{path}.safetensors"), OURS)
    assert [str(each.path) for each in trace_back(Path("grown.safetensors"))] == [
        "grown.safetensors",
        "middle",
        "first.safetensors",
    ]


def test_a_member_and_whatever_started_from_one_is_refused_however_far_back():
    member = write("data/models/cnn.safetensors")
    write("third.safetensors", write("second.safetensors", write("first.safetensors", member)))
    assert "data/models" in refuse("data/models/../models/cnn.safetensors")
    assert "data/models/cnn.safetensors" in refuse("third.safetensors")
    Path("link.safetensors").symlink_to("data/models/cnn.safetensors")
    refuse("link.safetensors")


def test_a_copy_is_known_by_the_classes_that_it_tells_apart():
    start = write("data/models/cnn.safetensors", class_names=OURS)
    shutil.copy("data/models/cnn.safetensors", "copy.safetensors")
    assert "3 of its classes" in refuse("copy.safetensors")
    write("pupil.safetensors", start.replace("data/models/cnn", "copy"))
    refuse("pupil.safetensors")
    write("two_of_three.safetensors", class_names=["daisy", "rose", *OTHERS])
    refuse("two_of_three.safetensors")
    write("one_of_three.safetensors", class_names=["daisy", *OTHERS])
    refuse_taught(Path("one_of_three.safetensors"), OURS)


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_start_that_can_no_longer_be_asked_is_refused(change):
    write("pupil.safetensors", write("first.safetensors"))
    Path("first.safetensors").unlink()
    if change == "another":
        write("first.safetensors", class_names=["birch"])
    with pytest.raises(UserError, match=r"^first\.safetensors: "):
        refuse_taught(Path("pupil.safetensors"), OURS)


def test_a_file_that_is_no_safetensors_is_one_line():
    Path("notes.txt").write_text("none")
    refuse("notes.txt")
    refuse("nowhere.safetensors")


@pytest.mark.parametrize("words", ["no JSON", "[1]", '{"start": 1, "class_names": 2}'])
def test_metadata_of_others_under_our_key_are_one_line_or_say_nothing(words):
    save_file({"weight": np.zeros(1)}, "odd.safetensors", {"quintet": words})
    if words.startswith("{"):
        refuse_taught(Path("odd.safetensors"), OURS)
    else:
        assert "quintet" in refuse("odd.safetensors")
