"""`predict`: the same answers as from `evaluate` and `ensemble`, and files that are not pictures."""

import codecs
import csv
import io
import json
import multiprocessing
import os
import shutil
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages import predict
from stages.doubt.limits import Limits, LimitsFile
from stages.doubt.novelty import read_cloud
from stages.doubt.sets import choose_sets
from stages.inference import ensembles, pictures, probabilities
from stages.inference.ensembles import load_ensemble
from stages.networks.devices import choose_device
from stages.networks.model_files import load_model
from stages.pixels.packing import write_packed_split
from stages.runtime.errors import UserError
from stages.scoring.temperatures import temper
from tests.small_models import (
    BLOCKS,
    CLASSES,
    SETS,
    SIZES,
    TEMPERATURES,
    VOTES,
    noise,
    save_doubts,
    save_model,
    save_models,
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Work in a folder with models, and seven photographs of two classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUINTET_DEVICE", "cpu")
    monkeypatch.setattr(probabilities, "BATCH_SIZE", 3)
    save_models(Path("models"), "logarithmic_pool", VOTES["logarithmic_pool"])
    Path("images/b").mkdir(parents=True)
    Path("images/a").mkdir()
    for number, image in enumerate(noise(7, 288)):  # a JPEG that is decoded at a different scale for each size
        Image.fromarray(image[:, :270]).save(f"images/{'ab'[number % 2]}/{number}.jpg")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, stdin: bytes = b"") -> int:
    """Run the command; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["predict", *arguments, "--models", "models"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), newline="\n"))  # as Python opens stdin
    try:
        predict.main()
    except SystemExit as error:
        return error.code
    return 0


def list_images() -> list[str]:
    return [str(path) for path in sorted(Path("images").rglob("*.jpg"))]


def evaluate(name: str) -> np.ndarray:
    """Return the probabilities of the images, in order, as from `pack` and `evaluate`."""
    network, card = load_model(Path(f"models/{name}.safetensors"))
    packed = Path(f"packed/{card.stored_size_px}")
    write_packed_split(packed, list_images(), [0] * 7, [""] * 7, card.stored_size_px)
    return probabilities.predict_proba(network, np.load(packed / "images.npy"), card.view(choose_device()))


@pytest.mark.parametrize("few", [0, 64])
def test_answers_of_a_model_are_those_of_evaluate_at_its_temperature(folder, monkeypatch, few):
    monkeypatch.setattr(pictures, "FEW", few)  # 0: decode in worker processes
    expected = temper(evaluate("cnn"), TEMPERATURES["cnn"])
    found = dict(predict.answer(list_images(), Path("models"), "cnn"))
    assert list(found) == list_images()
    for row, answer in zip(expected, found.values(), strict=True):
        assert [name for name, _ in answer.top] == [CLASSES[label] for label in np.argsort(-row)[:5]]
        np.testing.assert_allclose([share for _, share in answer.top], np.sort(row)[::-1][:5], rtol=0, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 0.1  # the answers differ between pictures


@pytest.mark.parametrize("few", [0, 64])
def test_wide_grey_has_the_depth_that_the_models_learnt_from(folder, monkeypatch, few):
    monkeypatch.setattr(pictures, "FEW", few)
    grey = noise(1, 288)[0, :, :, 0].astype(np.uint16)
    Image.fromarray(4 * grey).save("dark.png")  # 10 bits
    Image.fromarray((grey // 4).astype(np.uint8)).save("as learnt.png")  # of 12 bits
    Image.fromarray(grey.astype(np.uint8)).save("as it is.png")
    answers = {}
    for grey_bits, expected in ((12, "as learnt.png"), (None, "as it is.png")):
        save_models(Path("models"), "logarithmic_pool", VOTES["logarithmic_pool"], grey_bits)
        found = predict.answer(["dark.png", expected], Path("models"), None)
        answers[grey_bits], same = (dict(each.top) for _, each in found)
        assert answers[grey_bits] == pytest.approx(same, rel=0, abs=1e-6)
    assert answers[12] != pytest.approx(answers[None], rel=0, abs=0.01)


def test_a_model_without_a_temperature_answers_as_it_is_and_that_is_said(folder, capsys):
    expected = evaluate("cnn")
    Path("models/vote.json").unlink()
    images = {36: np.load("packed/36/images.npy")}
    found = load_ensemble(Path("models"), "cnn").predict_proba(images, choose_device())
    np.testing.assert_array_equal(found, expected)
    assert capsys.readouterr().err.startswith("models: ")


def test_worker_processes_start_before_the_device_is_touched(folder, monkeypatch):
    monkeypatch.setattr(pictures, "FEW", 0)
    n_workers = []
    monkeypatch.setattr(
        "stages.networks.devices.choose_device",
        lambda: n_workers.append(len(multiprocessing.active_children())) or torch.device("cpu"),
    )
    assert len(list(predict.answer(list_images(), Path("models"), "cnn"))) == 7
    assert n_workers[0] > 0  # a process that is forked later would inherit a CUDA context and crash


@pytest.mark.parametrize("kind", VOTES)
def test_members_of_all_sizes_vote_as_in_ensemble_and_who_has_no_weight_is_not_loaded(folder, monkeypatch, kind):
    save_models(Path("models"), kind, VOTES[kind])
    members = np.stack([evaluate(name) for name in BLOCKS])
    expected = VOTES[kind].probabilities(members)
    if kind != "equal":
        Path("models/vgg.safetensors").unlink()
    images = {size_px: np.load(f"packed/{size_px}/images.npy") for size_px in (36, 68)}
    np.testing.assert_array_equal(load_ensemble(Path("models")).predict_proba(images, choose_device()), expected)
    for row, answer in zip(expected, dict(predict.answer(list_images(), Path("models"), None)).values(), strict=True):
        assert answer.top == [(CLASSES[label], float(row[label])) for label in np.argsort(-row)[:5]]


def test_files_folders_and_a_list_are_read_in_order_and_hidden_files_passed_over(folder, monkeypatch, capsys):
    Path("images/a/.DS_Store").touch()
    Path("images/a/Thumbs.db").touch()
    assert run(monkeypatch, "images/b/1.jpg", "images", "-", "--csv", stdin=b"images/b/5.jpg\n\nimages/a/0.jpg\n") == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["path", *(f"{column}_{rank}" for rank in range(1, 6) for column in ("class", "probability"))]
    numbers = [int(Path(row[0]).stem) for row in rows[1:]]
    assert numbers == [1, 0, 2, 4, 6, 1, 3, 5, 5, 0]


@pytest.mark.parametrize(
    ("encoding", "end"),
    [("utf-8", "\r\n"), ("utf-8-sig", "\r\n"), ("utf-8-sig", "\n"), ("utf-16", "\r\n"), ("utf-32", "\n")],
)
def test_a_list_may_be_as_windows_writes_it(folder, monkeypatch, capsys, encoding, end):
    Path("images/a/0.jpg").rename("images/Blüte 玫瑰.jpg")
    paths = ["images/Blüte 玫瑰.jpg", "images/a", "images/b/1.jpg"]
    assert pictures.read_list(unicodedata.normalize("NFD", paths[0]).encode()) == [paths[0]]  # as a Mac writes it
    assert run(monkeypatch, "-", "--csv", stdin=(end.join(paths) + end).encode(encoding)) == 0
    found = [row[0] for row in csv.reader(io.StringIO(capsys.readouterr().out))][1:]
    assert found == [paths[0], "images/a/2.jpg", "images/a/4.jpg", "images/a/6.jpg", paths[2]]


def test_a_list_of_utf_16_that_begins_with_its_low_byte_last_and_names_that_are_no_text_are_read(folder):
    assert pictures.read_list(codecs.BOM_UTF16_BE + "ä.jpg\r\nb.jpg".encode("utf-16-be")) == ["ä.jpg", "b.jpg"]
    assert pictures.read_list(b"\xff.jpg\r\n \r\n") == [os.fsdecode(b"\xff.jpg")]
    assert pictures.read_list(b"\"images/a/0.jpg\"\r\n'images/a/2.jpg' \n") == ["images/a/0.jpg", "images/a/2.jpg"]


def test_a_name_that_ends_in_a_carriage_return_is_that_of_the_file(folder):
    Path("Icon\r").touch()
    assert pictures.read_list(b"Icon\r\nimages/a/0.jpg\r\n") == ["Icon\r", "images/a/0.jpg"]


def test_linked_folders_are_read_once(folder, monkeypatch, capsys):
    Path("images/b").rename("elsewhere")
    Path("images/b").symlink_to(folder / "elsewhere")
    Path("elsewhere/again").symlink_to(folder / "images")
    assert run(monkeypatch, "images", "--csv") == 0
    expected = [f"images/{'ab'[number % 2]}/{number}.jpg" for number in (0, 2, 4, 6, 1, 3, 5)]
    assert [row.partition(",")[0] for row in capsys.readouterr().out.splitlines()[1:]] == expected


@pytest.mark.skipif(os.geteuid() == 0, reason="for root, permissions do not count")
def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch, capsys):
    Path("images/closed").mkdir(mode=0)
    assert run(monkeypatch, "images") == 1
    assert capsys.readouterr().err.startswith("images/closed: ")


def test_what_is_no_picture_is_named_and_the_others_are_answered(folder, monkeypatch, capsys):
    Path("images/a/notes.txt").write_text("no image")
    Path("images/a/cut.jpg").write_bytes(Path("images/a/0.jpg").read_bytes()[:300])
    assert run(monkeypatch, "images", "nowhere.jpg", "--json") == 1
    output = capsys.readouterr()
    answered = [json.loads(line) for line in output.out.splitlines()]
    assert [each["path"] for each in answered] == list_images()[:4] + list_images()[5:]
    assert [line.partition(":")[0] for line in output.err.splitlines()[:3]] == [
        "images/a/cut.jpg",
        "images/a/notes.txt",
        "nowhere.jpg",
    ]
    for each in answered:
        assert {top["class"] for top in each["top"]} < set(CLASSES)
        shares = [top["probability"] for top in each["top"]]
        assert shares == sorted(shares, reverse=True)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(folder, monkeypatch, capsys):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 270 * 288 - 1)
    assert run(monkeypatch, "images/a/0.jpg") == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("arguments", [[], ["-"], ["images", "--model", "cmn"], ["images", "--models", "nowhere"]])
def test_nothing_to_ask_or_nobody_who_answers_is_a_users_mistake(folder, monkeypatch, arguments):
    if "nowhere" in arguments:
        Path("models").rename("elsewhere")
    with pytest.raises(UserError) as error:
        run(monkeypatch, *arguments)
    assert len(error.value.args) == 1


def test_a_list_that_is_no_lines_is_a_users_mistake(folder, monkeypatch):
    with pytest.raises(UserError, match="-print0"):
        run(monkeypatch, "-", stdin=b"images/a/0.jpg\0images/a/2.jpg")


def test_classes_are_called_by_the_names_beside_the_models_and_else_as_the_models_know_them(folder):
    Path("models/names.json").write_text('{"daisy": "雛菊", "rose": "of another set"}', encoding="utf-8")
    named = [{"daisy": "雛菊"}.get(each, each) for each in CLASSES]
    for model in (None, "cnn"):
        assert load_ensemble(Path("models"), model).class_names == named
    Path("models/names.json").unlink()
    assert load_ensemble(Path("models")).class_names == CLASSES


@pytest.mark.parametrize("content", [b'{"daisy": "Gae', b'["daisy"]', b'{"daisy": 1}', b"\xff\xfe"])
def test_names_that_are_cut_short_or_others_are_a_users_mistake(folder, content):
    Path("models/names.json").write_bytes(content)
    with pytest.raises(UserError, match=r"models/names\.json: "):
        load_ensemble(Path("models"), "cnn")


def measure(name: str) -> np.ndarray:
    """Return the distances of the images from the training pictures of a model."""
    evaluate(name)
    network, card = load_model(Path(f"models/{name}.safetensors"))
    images, cloud = np.load(f"packed/{card.stored_size_px}/images.npy"), read_cloud(Path(f"models/{name}.novelty.npz"))
    view = card.view(choose_device())
    return cloud.distances(probabilities.predict_with_features(network, cloud.layers, images, view)[1])


def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *arguments: str) -> list[dict]:
    assert run(monkeypatch, "images", "--json", *arguments) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_picture_beyond_the_limit_is_unlike_the_training_pictures(folder, monkeypatch, capsys):
    save_doubts(Path("models"))
    members = {name: measure(name) for name in BLOCKS}
    limits = {name: Limits(1.001 * float(np.median(row)), SETS) for name, row in members.items()}
    alone, other = (members[name] / limits[name].distance for name in ("cnn", "resnet50"))
    pooled = np.average([alone, other], axis=0, weights=[0.7, 0.6])
    of_vote = Limits(1.001 * float(np.median(pooled)), SETS)
    save_doubts(Path("models"), LimitsFile(of_vote, limits))
    for arguments, expected in ((["--model", "cnn"], alone), ([], pooled / of_vote.distance)):
        found = ask(monkeypatch, capsys, *arguments)
        assert [each["distance"] for each in found] == pytest.approx(expected, abs=1e-4)
        assert [each["unlike"] for each in found] == (expected > 1).tolist()
        assert sum(each["unlike"] for each in found) == 3  # of seven
    assert run(monkeypatch, "images") == 0
    assert capsys.readouterr().out.count("unlike the training pictures") == 3


def test_a_set_has_the_classes_that_the_coverage_needs_and_unsure_answers_are_for_a_person(folder, monkeypatch, capsys):
    save_doubts(Path("models"))
    expected = choose_sets(VOTES["logarithmic_pool"].probabilities(np.stack([evaluate(name) for name in BLOCKS])), 0.5)
    assert SETS.limit(0.8) == 0.5
    found = ask(monkeypatch, capsys, "--coverage", "0.8", "--at-least", "0.6")
    assert [{*each["set"]} for each in found] == [{CLASSES[i] for i in np.flatnonzero(row)} for row in expected]
    assert [each["set"][0] for each in found] == [each["top"][0]["class"] for each in found]
    assert [each["for_a_person"] for each in found] == [each["top"][0]["probability"] < 0.6 for each in found]
    assert run(monkeypatch, "images", "--csv", "--coverage", "0.8", "--at-least", "0.6") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    doubts = [{key: json.loads(row[key]) for key in ("distance", "unlike", "set", "for_a_person")} for row in rows]
    assert doubts == [{key: each[key] for key in doubts[0]} for each in found]


def test_models_of_which_no_limits_are_known_answer_as_before(folder, monkeypatch, capsys):
    assert [{*each} for each in ask(monkeypatch, capsys)] == [{"path", "top"}] * 7
    with pytest.raises(UserError, match=r"limits\.json"):
        run(monkeypatch, "images", "--coverage", "0.9")
    save_doubts(Path("models"))
    Path("models/cnn.novelty.npz").unlink()
    assert {*ask(monkeypatch, capsys, "--model", "cnn", "--coverage", "0.9")[0]} == {"path", "top", "set"}


@pytest.mark.parametrize(
    "arguments", [("--coverage", "0.91"), ("--coverage", "95"), ("--coverage", "nan"), ("--at-least", "1.5")]
)
def test_a_share_that_is_none_or_promises_too_much_is_a_users_mistake(folder, monkeypatch, arguments):
    save_doubts(Path("models"))
    with pytest.raises(UserError, match=f"^{arguments[0]}: ") as error:
        run(monkeypatch, "images", *arguments)
    assert len(error.value.args) == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b'{"vote": {"distance": 1}}', b'{"vote": 1, "members": {'])
@pytest.mark.parametrize("file", ["limits.json", "cnn.novelty.npz"])
def test_limits_that_are_cut_short_or_others_are_a_users_mistake(folder, file, content):
    save_doubts(Path("models"))
    Path("models", file).write_bytes(content)
    with pytest.raises(UserError, match=f"models/{file}: "):
        load_ensemble(Path("models"))


def test_what_belongs_to_another_model_is_a_users_mistake(folder):
    save_doubts(Path("models"))
    shutil.copy("models/vgg.novelty.npz", "models/cnn.novelty.npz")
    with pytest.raises(UserError, match=r"models/cnn\.novelty\.npz: "):
        load_ensemble(Path("models"), "cnn")


def spoil(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Damage the folder of models in some way; return what the message must name."""
    if name == "a file in place of the folder":
        shutil.rmtree("models")
        Path("models").write_bytes(b"")
        return "found a file"
    if name == "no vote":
        Path("models/vote.json").unlink()
        return r"vote\.json: .*--model"
    if name == "a member that is not there":
        Path("models/resnet50.safetensors").unlink()
        return r"vote\.json: .*cnn, resnet50.*resnet50"
    if name == "a member of another depth":
        save_model(Path("models/resnet50.safetensors"), *BLOCKS["resnet50"], SIZES["resnet50"], grey_bits=12)
        return "None bits in cnn and 12 in resnet50"
    names = {"a member of another class": [*CLASSES[:-1], "thistle"], "a member of fewer classes": CLASSES[:-1]}[name]
    monkeypatch.setattr("tests.small_models.CLASSES", names)
    save_model(Path("models/resnet50.safetensors"), *BLOCKS["resnet50"], SIZES["resnet50"])
    return f"6 classes in cnn and {len(names)} in resnet50; .*'tulip' and {'thistle' if len(names) == 6 else None!r}"


@pytest.mark.parametrize(
    "name",
    [
        *("a file in place of the folder", "no vote", "a member that is not there", "a member of another depth"),
        *("a member of another class", "a member of fewer classes"),
    ],
)
def test_a_folder_whose_models_cannot_vote_is_one_line_with_what_is_wrong(folder, monkeypatch, name):
    says = spoil(name, monkeypatch)
    with pytest.raises(UserError, match=says) as error:
        ensembles.load_ensemble(Path("models"))
    assert len(error.value.args) == 1
