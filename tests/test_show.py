"""The table of scores, and the sentences that explain them."""

import json
import subprocess
import sys

import pytest

from stages.reporting.scores import best_models, pair_up, read_scores
from stages.reporting.sentences import compare_in_words, vote_in_words
from stages.show import render_markdown, render_text


def scores(accuracy: float, loss: float, **more) -> dict:
    return {"accuracy": accuracy, "loss": loss, "f1_macro": 0.5, "top5": 0.9, "ece": 0.05, **more}


WEIGHTS = {"vgg19_pretrained": 0.5, "another": 0.3, "cnn": 0.2}  # in the order of the parameters
FILES = {
    "ensemble": scores(0.75, 0.9, voting="logarithmic_pool", weights=WEIGHTS),
    "models/cnn": scores(0.7, 1.25, start="scratch"),
    "models/vgg19_pretrained": scores(0.75004, 1.0, start="data/weights/source/vgg19.safetensors (sha256 12ab)"),
    "models/another": scores(0.6, 1.5, start="data/models/cnn.safetensors (sha256 34cd)"),
    "models/removed": {"accuracy": "of a model that was taken out"},
}


@pytest.fixture
def metrics(tmp_path):
    (tmp_path / "models").mkdir()
    for name, content in FILES.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def show(*arguments: object) -> subprocess.CompletedProcess:
    code = (
        "import runpy, sys; del sys.argv[0]; runpy.run_module('stages.show', run_name='__main__'); "
        "assert not {'numpy', 'pydantic'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, "show", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_best_is_highest_accuracy_and_lowest_loss_and_ties_are_as_printed(metrics):
    best = best_models(read_scores(metrics))
    assert best["accuracy"] == {"vgg19_pretrained", "ensemble"}  # 0.75004 is printed as 0.7500
    assert best["loss"] == {"ensemble"}


def test_text_columns_are_aligned_and_models_stand_in_the_order_of_the_vote(metrics):
    lines = render_text(read_scores(metrics)).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in (*lines[2:-2], lines[-1])] == [*WEIGHTS, "ensemble"]
    assert lines[4].split() == ["cnn", "scratch", "0.7000", "1.2500", "0.5000", "0.9000", "0.0500"]


def test_markdown_marks_the_best_and_names_the_weights(metrics):
    lines = render_markdown(read_scores(metrics)).splitlines()
    assert lines[2].startswith("| `vgg19_pretrained` | data/weights/source/vgg19 | **0.7500** | 1.0000 |")
    assert lines[3].startswith("| `another` | data/models/cnn | 0.6000 |")
    assert {line.count("|") for line in lines} == {8}


def test_the_command_says_where_the_report_lies_and_loads_neither_numpy_nor_pydantic(metrics):
    done = show(metrics)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith(f"{metrics}/report.html")


def test_scores_that_are_not_there_are_one_line_and_exit_code_2(tmp_path):
    done = show(tmp_path / "none")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "dvc repro" in done.stderr


def vote(weight: float, accuracy: float, others: int = 1) -> dict:
    names = ["cnn", *(f"other{i}" for i in range(others))]
    weights = dict.fromkeys(names, 1.5 * (1 - weight) / max(others, 1)) | {"cnn": 1.5 * weight}  # of any sum
    rows = dict.fromkeys(names, scores(0.8, 0.5, start="scratch"))
    return rows | {"ensemble": scores(accuracy, 0.4, voting="logarithmic_pool", weights=weights)}


def test_a_vote_that_is_one_members_is_said_to_be_and_no_other():
    assert "0.96 of the weight" in vote_in_words(vote(0.96, 0.8))
    assert "1.2 points more" in vote_in_words(vote(0.96, 0.812))
    assert "1.0 points less" in vote_in_words(vote(0.96, 0.79))
    assert vote_in_words(vote(0.9, 0.8)) == vote_in_words(vote(1.0, 0.8, others=0)) == ""


@pytest.mark.parametrize(
    ("numbers", "difference", "verdict"),
    [
        ((0.021, 0.004, 0.038, 0.0123), "2.1 percentage points more", "better"),
        ((-0.02, -0.03, -0.01, 0.0001), "2.0 percentage points less", "worse"),
        ((0.0, -0.01, 0.01, 1.0), "exactly as accurate as", "noise"),
        ((0.02, 0.001, 0.04, 0.06), "2.0 percentage points more", "borderline"),
    ],
)
def test_only_interval_and_test_together_call_a_difference_real(numbers, difference, verdict):
    versus = dict(zip(["accuracy_difference", "low", "high", "mcnemar_p"], numbers, strict=True))
    other = {"a": "ensemble", "b": "vgg16", "accuracy_difference": 1, "low": 1, "high": 1, "mcnemar_p": 0}
    intervals = {"ensemble": {"accuracy": [0.7, 0.9]}}
    comparison = {"n_images": 4, "intervals": intervals, "pairs": [other, {"a": "ensemble", "b": "cnn", **versus}]}
    sentence = compare_in_words({"accuracy": 0.8, "best_member": "cnn"}, comparison)
    assert "80.0 % of 4 test images (95 % interval 70.0 to 90.0). " in sentence
    assert difference in sentence
    assert verdict in sentence


def test_a_row_of_the_square_is_compared_with_a_column():
    pair = {"a": "ensemble", "b": "cnn", "accuracy_difference": 0.02, "low": 0.01, "high": 0.03, "holm_p": 0.04}
    square = pair_up([pair], ["ensemble", "cnn"])
    assert square["ensemble"]["cnn"] == {"points": 2.0, "low": 1.0, "high": 3.0, "p": 0.04, "sign": 1}
    assert square["cnn"]["ensemble"] == {"points": -2.0, "low": -3.0, "high": -1.0, "p": 0.04, "sign": -1}
