"""The table of scores, and the sentences that say what they mean."""

import json
import subprocess
import sys

import pytest

from stages.reporting.score_table import best_models, read_scores, render_markdown, render_text
from stages.reporting.sentences import compare_in_words, vote_in_words


def scores(accuracy: float, loss: float, **more) -> dict:
    return {"accuracy": accuracy, "loss": loss, "f1_macro": 0.5, "top5": 0.9, "ece": 0.05, **more}


WEIGHTS = {"vgg19_pretrained": 0.5, "another": 0.3, "cnn": 0.2}  # in the order of the parameters
FILES = {
    "ensemble": scores(0.75, 0.9, voting="logarithmic_pool", weights=WEIGHTS),
    "models/cnn": scores(0.7, 1.25, start="scratch"),
    "models/vgg19_pretrained": scores(0.75004, 1.0, start="data/weights/source/vgg19.safetensors (sha256 12ab)"),
    "models/another": scores(0.6, 1.5, start="data/models/cnn.safetensors (sha256 34cd)"),
    "models/removed": {"accuracy": "of a model that was taken out"},
    "dataset": {"n_classes": 2},
}


@pytest.fixture
def metrics(tmp_path):
    (tmp_path / "models").mkdir()
    for name, content in FILES.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_models_stand_in_the_order_of_the_vote_and_strays_are_not_read(metrics):
    assert list(read_scores(metrics)) == ["vgg19_pretrained", "another", "cnn", "ensemble"]


def test_best_is_highest_accuracy_and_lowest_loss_and_ties_are_as_printed(metrics):
    best = best_models(read_scores(metrics))
    assert best["accuracy"] == {"vgg19_pretrained", "ensemble"}  # 0.75004 is printed as 0.7500
    assert best["loss"] == {"ensemble"}


def test_text_columns_are_aligned(metrics):
    lines = render_text(read_scores(metrics)).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["model", "starts", "from", "accuracy", "loss", "macro", "F1", "top-5", "ECE"]
    assert lines[4].split() == ["cnn", "scratch", "0.7000", "1.2500", "0.5000", "0.9000", "0.0500"]
    assert lines[-1].split()[:5] == ["ensemble", "logarithmic", "pool", "of", "3"]


def test_markdown_marks_the_best_and_names_the_weights(metrics):
    lines = render_markdown(read_scores(metrics)).splitlines()
    assert lines[1] == "|---|---|---:|---:|---:|---:|---:|"
    assert lines[2].startswith("| `vgg19_pretrained` | data/weights/source/vgg19 | **0.7500** | 1.0000 |")
    assert lines[3].startswith("| `another` | data/models/cnn | 0.6000 |")
    assert {line.count("|") for line in lines} == {8}


def test_the_command_says_where_the_report_lies_and_loads_neither_numpy_nor_pydantic(metrics):
    code = (
        "import runpy, sys; sys.argv[1:] = [sys.argv[1]]; runpy.run_module('stages.reporting.score_table', "
        "run_name='__main__'); assert not {'numpy', 'pydantic'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(metrics)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith(f"{metrics}/report.html")


def test_scores_that_are_not_there_are_one_line_and_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "stages.reporting.score_table", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "dvc repro" in done.stderr


def vote(weight: float, accuracy: float, others: int = 1) -> dict:
    names = ["cnn", *(f"other{i}" for i in range(others))]
    weights = dict.fromkeys(names, 1.5 * (1 - weight) / max(others, 1)) | {"cnn": 1.5 * weight}  # of any sum
    rows = dict.fromkeys(names, scores(0.8, 0.5, start="scratch"))
    return rows | {"ensemble": scores(accuracy, 0.4, voting="logarithmic_pool", weights=weights)}


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [(0.8, "gains no accuracy over cnn alone"), (0.812, "1.2 points more"), (0.79, "1.0 points less")],
)
def test_a_vote_that_is_one_members_is_said_to_be(accuracy, words):
    sentence = vote_in_words(vote(0.96, accuracy))
    assert "cnn, calibrated" in sentence
    assert "0.96 of the weight" in sentence
    assert words in sentence
    assert "0.4000 instead of 0.5000" in sentence


def test_nothing_is_said_of_a_vote_of_several_or_of_one():
    assert vote_in_words(vote(0.9, 0.8)) == vote_in_words(vote(1.0, 0.8, others=0)) == ""


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (
            (0.021, 0.004, 0.038, 0.0123),
            ["2.1 percentage points more", "+0.4 to +3.8", "0.012", "is better."],
        ),
        ((-0.02, -0.03, -0.01, 0.0001), ["2.0 percentage points less", "-3.0 to -1.0", "\xa00.001", "is worse."]),
        ((0.0, -0.01, 0.01, 1.0), ["exactly as accurate as", "cannot be told from noise"]),
        ((0.02, 0.001, 0.04, 0.06), ["borderline"]),
    ],
)
def test_only_interval_and_test_together_call_a_difference_real(numbers, words):
    versus = dict(zip(["accuracy_difference", "low", "high", "mcnemar_p"], numbers, strict=True))
    other = {"a": "ensemble", "b": "vgg16", "accuracy_difference": 1, "low": 1, "high": 1, "mcnemar_p": 0}
    intervals = {"ensemble": {"accuracy": [0.7, 0.9]}}
    comparison = {"n_images": 4, "intervals": intervals, "pairs": [other, {"a": "ensemble", "b": "cnn", **versus}]}
    sentence = compare_in_words({"accuracy": 0.8, "best_member": "cnn"}, comparison)
    assert "80.0 % of 4 test images (95 % interval 70.0 to 90.0). " in sentence
    assert all(word in sentence for word in words)
